package pyenv

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/gophersnake/gophersnake/runner/internal/lifeline"
	"github.com/gophersnake/gophersnake/runner/internal/scratch"
)

// workSuffix names the folder of the installer's temporary files. It is next to the
// environment, on the file system that needs the space anyway, and is removed after
// the build.
const workSuffix = ".build"

// build creates one environment.
type build struct {
	spec  Spec
	lines []string
	env   Environment
	work  string
	// held is the lock of the work folder. The reapers of the installers hold it, too, so
	// that the folder stays locked until nothing of an interrupted build runs any more.
	held *os.File
	// uvCache is the folder of uv's own cache; empty if uv is not used.
	uvCache string
}

// installer creates environments and installs packages into them. The file lists the
// requirements.
type installer interface {
	name() string
	create(ctx context.Context, b *build) error
	install(ctx context.Context, b *build, file string) error
	// forget removes packages from the installer's cache, whose files are damaged. It
	// reports whether the installer would install other files now.
	forget(ctx context.Context, b *build, packages []string) bool
}

// createLocked creates the environment at its final path, since environments cannot be
// moved. The caller holds the environment's file lock.
func (b *build) createLocked(ctx context.Context) (_ Environment, err error) {
	began := time.Now()
	if err := b.beginLocked(ctx); err != nil {
		return Environment{}, err
	}
	defer func() {
		if err != nil {
			removeTree(b.env.Dir)
		}
		removeTree(b.work)
		_ = b.held.Close()
	}()
	installer, err := chooseInstaller(ctx, b)
	if err != nil {
		return Environment{}, err
	}
	b.spec.Logger.Debug("creating an environment", "installer", installer.name(), "python", b.spec.Interpreter.Path, "dir", b.env.Dir)
	if err := b.fill(ctx, installer); err != nil {
		return Environment{}, err
	}
	b.env.Installer, b.env.Created = installer.name(), time.Now()
	b.env.LastUsed = b.env.Created
	removeTree(b.work) // before others may use the environment: nothing is left if this process is killed
	if err := b.env.complete(); err != nil {
		return Environment{}, FileError("complete the environment", err)
	}
	if made := open(b.spec.CacheDir, b.env.Key); !made.Complete {
		return Environment{}, made.damagedAgain(b.env.Created)
	}
	b.spec.Logger.Debug("created the environment", "took", time.Since(began))
	return b.env, nil
}

// fill creates the environment and installs into it. uv links files to those in its own
// cache, so a file that was damaged in an environment is damaged there, too, and in what is
// installed next. Then its package is removed from the cache, and installed once more.
func (b *build) fill(ctx context.Context, installer installer) error {
	if err := b.fillOnce(ctx, installer); err != nil {
		return err
	}
	damaged := damagedPackages(b.env.Dir)
	if len(damaged) == 0 || !installer.forget(ctx, b, damaged) {
		return nil
	}
	b.spec.Logger.Warn("the installer's cache was damaged; packages are installed again", "packages", strings.Join(damaged, ", "))
	if err := removeAll(b.env.Dir); err != nil {
		return FileError("remove an incomplete environment", err)
	}
	return b.fillOnce(ctx, installer)
}

func (b *build) fillOnce(ctx context.Context, installer installer) error {
	if err := installer.create(ctx, b); err != nil {
		return err
	}
	for _, step := range b.steps() {
		file := filepath.Join(b.work, "requirements.txt")
		if err := os.WriteFile(file, []byte(strings.Join(step, "\n")+"\n"), 0o600); err != nil {
			return FileError("write the requirements", err)
		}
		if err := installer.install(ctx, b, file); err != nil {
			return err
		}
	}
	return nil
}

// beginLocked removes what an interrupted build has left, and creates and locks the work
// folder.
func (b *build) beginLocked(ctx context.Context) (err error) {
	if err := awaitUnused(ctx, b.work); err != nil {
		return err
	}
	for _, leftover := range []string{b.env.Dir, b.work} {
		if err := removeAll(leftover); err != nil {
			return FileError("remove an incomplete environment", err)
		}
	}
	if err = os.MkdirAll(b.temporary(), 0o700); err == nil {
		b.held, err = scratch.Lock(b.work)
	}
	if err != nil {
		removeTree(b.work)
		return FileError("create the environment's folder", err)
	}
	return nil
}

// endTime is how long the processes of a build that was interrupted may take to end.
const endTime = 10 * time.Second

// awaitUnused waits until no process of an interrupted build holds the lock of a work
// folder. The reapers of the installers end these processes.
func awaitUnused(ctx context.Context, work string) error {
	for began := time.Now(); inUse(work); {
		select {
		case <-ctx.Done():
			return canceled(ctx, "create the environment")
		case <-time.After(lockRetry):
		}
		if time.Since(began) > endTime {
			return &Error{Op: "create the environment", Message: "processes of an interrupted build are still running, and use " + work,
				Hint: "end them, or " + otherFolder}
		}
	}
	return nil
}

// inUse reports whether a process has locked a work folder.
func inUse(work string) bool {
	lock, err := scratch.Lock(work)
	if err == nil {
		_ = lock.Close()
		return false
	}
	info, missing := os.Lstat(work)
	if missing != nil || !errors.Is(err, scratch.ErrTaken) {
		return false
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(owner.Uid) == os.Geteuid()
}

// removeAll removes a folder, whatever permissions the folders in it have. It is no error if
// there is no such folder.
func removeAll(dir string) error {
	if os.RemoveAll(dir) == nil {
		return nil
	}
	_ = os.Chmod(dir, 0o700)
	return scratch.Remove(dir)
}

// steps returns the lists of requirements to install one after the other. The worker's
// own requirements are in the pipeline's list, so that the resolver sees a conflict. If
// hashes are required, they are a list of their own, since they have none.
func (b *build) steps() [][]string {
	if needsHashes(b.lines) {
		return [][]string{b.lines, {workerRequirement, typesRequirement}}
	}
	return [][]string{append(b.lines[:len(b.lines):len(b.lines)], workerRequirement, typesRequirement)}
}

func (b *build) temporary() string { return filepath.Join(b.work, "tmp") }

// pipLog is the path of pip's own log. Only there it says why an index did not answer.
func (b *build) pipLog() string { return filepath.Join(b.work, "pip.log") }

// report passes the progress on.
func (b *build) report(stage, line string) {
	if b.spec.Progress != nil {
		b.spec.Progress(Progress{Stage: stage, Line: line})
	}
}

// BreakingVariables are variables that replace an interpreter's standard library, or keep
// it from starting if their value is invalid. Installers do not get them, and workers only
// if they are named.
var BreakingVariables = []string{
	"PYTHONHOME", "PYTHONEXECUTABLE", "PYTHONPLATLIBDIR", "PYTHONHASHSEED", "PYTHONUTF8", "PYTHONIOENCODING",
	"PYTHONMALLOC", "PYTHONTRACEMALLOC", "PYTHONINTMAXSTRDIGITS", "PYTHON_GIL", "PYTHON_CPU_COUNT",
}

// strayVariables are variables that would make an installer install into something
// else than the environment.
var strayVariables = append([]string{
	"PYTHONPATH", "VIRTUAL_ENV", "CONDA_PREFIX",
	"PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_PYTHON", "PIP_USER", "PIP_DRY_RUN", "PIP_REPORT",
	"UV_SYSTEM_PYTHON", "UV_PYTHON", "UV_PROJECT", "UV_WORKING_DIR", "UV_TARGET", "UV_PREFIX", "UV_DRY_RUN",
}, BreakingVariables...)

// run runs an installer in a folder, with additional environment variables. The
// error's Op is op.
func (b *build) run(ctx context.Context, stage, op, dir string, env []string, args ...string) error {
	c := command{args: args, dir: dir, reaped: &lifeline.Reaped{Python: b.spec.Interpreter.builder(), Held: b.held}}
	c.env = append(environWithout(append(slices.Clip(strayVariables), "TMPDIR")...), "TMPDIR="+b.temporary(), "NO_COLOR=1", "PIP_USER=0")
	c.env = append(c.env, env...)
	b.report(stage, "")
	why := newFailure()
	c.line = func(line string) {
		why.observe(line)
		b.spec.Logger.Debug(line)
		b.report(stage, line)
	}
	_, tail, err := c.run(ctx)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		e := canceled(ctx, op)
		e.Output = tail
		return e
	}
	why.observeLog(b.pipLog())
	return b.installerError(why, op, tail, err)
}

// removeTree removes a folder. It retries for half a second, since the children of an
// installer that was killed may still be writing.
func removeTree(dir string) {
	for range 20 {
		if removeAll(dir) == nil {
			return
		}
		time.Sleep(25 * time.Millisecond)
	}
}
