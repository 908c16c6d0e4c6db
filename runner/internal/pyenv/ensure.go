package pyenv

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"
	"github.com/hashicorp/go-hclog"
)

// envFormat is part of each key. It changes when environments are created differently.
const envFormat = 1

// Spec describes an environment.
type Spec struct {
	Interpreter Interpreter
	// Requirements are lines of a pip requirements file. The worker's own requirements
	// are added.
	Requirements []string
	// Base is the folder that paths in the lines are relative to; if empty, the
	// current folder.
	Base     string
	CacheDir string
	// Progress receives the progress of the creation; it may be nil.
	Progress func(Progress)
	// Logger receives the installer's output at debug level; it may be nil.
	Logger hclog.Logger
}

// Progress is the state of the creation of an environment.
type Progress struct {
	// Stage is, for instance, "installing numpy, soxr and 2 more".
	Stage string
	// Line is the installer's latest line of output.
	Line string
}

// Ensure returns the environment that the spec describes, and creates it if it does
// not exist or is incomplete. A damaged one is built again, with a warning, unless that was
// done within the last hour. If several processes need the same environment, one creates it
// and the others wait. If the creation fails or the context ends, nothing is left behind.
func Ensure(ctx context.Context, spec Spec) (Environment, error) {
	b, err := newBuild(spec)
	if err != nil {
		return Environment{}, err
	}
	if ctx.Err() != nil {
		return Environment{}, canceled(ctx, "create the environment")
	}
	if env, ok := b.reuse(); ok {
		return env, nil
	}
	unlock, err := b.lock(ctx)
	if err != nil {
		return Environment{}, err
	}
	defer unlock()
	env, ok := b.reuse()
	switch {
	case ok: // another process created it in the meantime
		return env, nil
	case env.Damage == "":
		return b.createLocked(ctx)
	case time.Since(env.Repaired) < repairAgain:
		return Environment{}, env.damagedAgain(env.Repaired)
	}
	b.spec.Logger.Warn("the environment is damaged; it is built again", "dir", env.Dir, "damage", env.Damage)
	b.env.Repaired = time.Now()
	return b.createLocked(ctx)
}

// Key returns the key of the environment that the spec describes. The environment need not
// exist.
func Key(spec Spec) (string, error) {
	b, err := newBuild(spec)
	if err != nil {
		return "", err
	}
	return b.env.Key, nil
}

func newBuild(spec Spec) (*build, error) {
	if spec.CacheDir == "" || spec.Interpreter.Path == "" {
		return nil, &Error{Op: "create the environment", Message: "an interpreter and a cache folder are required"}
	}
	base, err := filepath.Abs(spec.Base)
	if err != nil {
		return nil, &Error{Op: "create the environment", Cause: err}
	}
	spec.Base = base
	if spec.CacheDir, err = filepath.Abs(spec.CacheDir); err != nil {
		return nil, &Error{Op: "create the environment", Cause: err}
	}
	if spec.Logger == nil {
		spec.Logger = hclog.NewNullLogger()
	}
	b := &build{spec: spec, lines: cleanLines(spec.Requirements)}
	key, err := b.key()
	if err != nil {
		return nil, &Error{Op: "create the environment", Cause: err}
	}
	dir := filepath.Join(envsDir(spec.CacheDir), key)
	b.env = Environment{Key: key, Dir: dir, Python: pythonOf(dir), Interpreter: spec.Interpreter, Requirements: []string{}}
	for _, line := range b.lines {
		b.env.Requirements = append(b.env.Requirements, hideCredentials(line))
	}
	b.work = dir + workSuffix
	return b, nil
}

// key returns a hash of all that the environment depends on.
func (b *build) key() (string, error) {
	python := b.spec.Interpreter
	content, err := json.Marshal([]any{
		envFormat, python.Resolved, python.Version, python.Implementation, python.Platform, python.ABI,
		workerRequirement, typesRequirement, normalLines(b.lines), localState(b.lines, b.spec.Base),
	})
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:10]), nil
}

// reuse returns the existing environment, and whether it is complete.
func (b *build) reuse() (Environment, bool) {
	env := open(b.spec.CacheDir, b.env.Key)
	if env.Complete {
		env.touch()
	}
	return env, env.Complete
}

// lockRetry is the interval at which a lock that another process holds is tried.
const lockRetry = 50 * time.Millisecond

func lockOf(cache, key string) *flock.Flock {
	return flock.New(filepath.Join(envsDir(cache), ".locks", key))
}

// lock waits until no other process creates or removes the same environment.
func (b *build) lock(ctx context.Context) (unlock func(), err error) {
	const op = "lock the environment"
	lock := lockOf(b.spec.CacheDir, b.env.Key)
	if err := os.MkdirAll(filepath.Dir(lock.Path()), 0o777); err != nil {
		return nil, FileError("create the cache folder", err)
	}
	locked, err := lock.TryLock()
	if err == nil && !locked {
		b.report("waiting for another process that builds the same environment", "")
		locked, err = lock.TryLockContext(ctx, lockRetry)
	}
	switch {
	case !locked && ctx.Err() != nil:
		return nil, canceled(ctx, op)
	case err != nil:
		return nil, FileError(op, err)
	}
	return func() { _ = lock.Close() }, nil
}
