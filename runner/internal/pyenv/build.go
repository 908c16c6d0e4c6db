package pyenv

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// workSuffix names the folder of the installer's temporary files. They are beside
// the environment, where there has to be room anyway, and go with the build.
const workSuffix = ".build"

// build is the making of one environment.
type build struct {
	spec  Spec
	lines []string
	env   Environment
	work  string
}

// installer makes environments and installs into them.
type installer interface {
	name() string
	create(ctx context.Context, b *build) error
	install(ctx context.Context, b *build, file string) error
}

// make makes the environment at its final place, since environments cannot be
// moved. It is called with the lock held.
func (b *build) make(ctx context.Context) (_ Environment, err error) {
	began := time.Now()
	defer func() {
		if err != nil {
			removeTree(b.env.Dir)
		}
		removeTree(b.work)
	}()
	for _, leftover := range []string{b.env.Dir, b.work} {
		if err := os.RemoveAll(leftover); err != nil {
			return Environment{}, fileError("remove what is left of an environment", err)
		}
	}
	if err := os.MkdirAll(b.temporary(), 0o700); err != nil {
		return Environment{}, fileError("make the environment's folder", err)
	}
	by, err := chooseInstaller(ctx, b)
	if err != nil {
		return Environment{}, err
	}
	b.spec.Logger.Debug("making an environment", "installer", by.name(), "python", b.spec.Interpreter.Path, "dir", b.env.Dir)
	if err := by.create(ctx, b); err != nil {
		return Environment{}, err
	}
	for _, step := range b.steps() {
		file := filepath.Join(b.work, "requirements.txt")
		if err := os.WriteFile(file, []byte(strings.Join(step, "\n")+"\n"), 0o600); err != nil {
			return Environment{}, fileError("write the requirements", err)
		}
		if err := by.install(ctx, b, file); err != nil {
			return Environment{}, err
		}
	}
	b.env.Installer, b.env.Created = by.name(), time.Now()
	b.env.LastUsed = b.env.Created
	if err := b.env.complete(); err != nil {
		return Environment{}, fileError("complete the environment", err)
	}
	b.spec.Logger.Debug("made the environment", "took", time.Since(began))
	return b.env, nil
}

// steps are the requirements to install one after the other. Both lines go to the
// resolver together, so that it sees a conflict; where hashes are demanded, a line
// without one has to go by itself.
func (b *build) steps() [][]string {
	if hashed(b.lines) {
		return [][]string{b.lines, {workerRequirement}}
	}
	return [][]string{append(b.lines[:len(b.lines):len(b.lines)], workerRequirement)}
}

func (b *build) temporary() string { return filepath.Join(b.work, "tmp") }

// report tells how far the making has come.
func (b *build) report(stage, line string) {
	if b.spec.Progress != nil {
		b.spec.Progress(Progress{Stage: stage, Line: line})
	}
}

// misleading are variables that make an installer work on something else than the
// environment.
var misleading = []string{
	"PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV", "CONDA_PREFIX",
	"PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_PYTHON", "PIP_USER", "PIP_DRY_RUN", "PIP_REPORT",
	"UV_SYSTEM_PYTHON", "UV_PYTHON", "UV_PROJECT", "UV_WORKING_DIR", "UV_TARGET", "UV_PREFIX", "UV_DRY_RUN",
}

// run runs an installer in a folder, with the environment's variables, and returns
// an error that says what it could not do.
func (b *build) run(ctx context.Context, stage, op, dir string, env []string, args ...string) error {
	c := command{args: args, dir: dir}
	c.env = append(without(append(misleading, "TMPDIR")...), "TMPDIR="+b.temporary(), "NO_COLOR=1", "PIP_USER=0")
	c.env = append(c.env, env...)
	b.report(stage, "")
	c.line = func(line string) {
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
	return installerError(b.spec.Interpreter, op, tail, err)
}

// removeTree removes a folder. An installer that was killed may have children that
// still die, and that write meanwhile.
func removeTree(dir string) {
	for range 20 {
		if os.RemoveAll(dir) == nil {
			return
		}
		time.Sleep(25 * time.Millisecond)
	}
}
