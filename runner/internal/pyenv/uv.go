package pyenv

import (
	"context"
	"errors"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// uv is the installer that uses uv.
type uv struct {
	path string
	env  []string // pip's configuration, as variables of uv
	args []string // and as arguments
}

// chooseInstaller returns uv if it works and supports all options, since it is much
// faster; otherwise pip.
func chooseInstaller(ctx context.Context, b *build) (installer, error) {
	path, ok := workingUV(ctx)
	if ctx.Err() != nil {
		return nil, canceled(ctx, "create the environment")
	}
	if !ok || !uvSupports(b.lines) {
		return choosePip(ctx, b)
	}
	config, err := readPipConfig(ctx, b.spec.Interpreter)
	if err != nil {
		return nil, err
	}
	env, args := config.uvSettings(b.spec.Base, b.lines)
	if out, _, err := (command{args: []string{path, "cache", "dir"}}).run(ctx); err == nil {
		b.uvCache = strings.TrimSpace(out)
	}
	if b.uvCache != "" && !canWrite(b.uvCache) {
		b.spec.Logger.Debug("uv's cache cannot be written, so uv works without it", "dir", b.uvCache)
		b.uvCache, env = "", append(env, "UV_NO_CACHE=1")
	}
	return uv{path, env, args}, nil
}

// canWrite reports whether the user may write to a folder, which need not exist.
func canWrite(dir string) bool {
	for {
		err := unix.Access(dir, unix.W_OK|unix.X_OK)
		if err == nil || !errors.Is(err, unix.ENOENT) || dir == filepath.Dir(dir) {
			return err == nil
		}
		dir = filepath.Dir(dir)
	}
}

// workingUV returns the path of uv, and whether it runs: the shim of a uv that is not
// enabled does not.
func workingUV(ctx context.Context) (string, bool) {
	path, err := exec.LookPath("uv")
	if err != nil {
		return "", false
	}
	if path, err = filepath.Abs(path); err != nil {
		return "", false
	}
	_, _, err = command{args: []string{path, "--version"}}.run(ctx)
	return path, err == nil
}

// uvOptions are the options in requirement lines that uv supports. It ignores others
// with a warning, so pip installs lines that have them.
var uvOptions = []string{
	"-e", "--editable", "-r", "--requirement", "-c", "--constraint", "-i", "--index-url", "--extra-index-url",
	"-f", "--find-links", "--no-index", "--no-binary", "--only-binary", "--hash",
}

// uvSupports reports whether uv supports all options in the lines.
func uvSupports(lines []string) bool {
	for _, line := range lines {
		for i, word := range strings.Fields(line) {
			isOption := strings.HasPrefix(word, "--") || i == 0 && strings.HasPrefix(word, "-")
			if isOption && !isUVOption(word) {
				return false
			}
		}
	}
	return true
}

func isUVOption(word string) bool {
	name, _, _ := strings.Cut(word, "=")
	for _, option := range uvOptions {
		// A short option's value may follow without a blank.
		if name == option || len(option) == 2 && !strings.HasPrefix(word, "--") && strings.HasPrefix(word, option) {
			return true
		}
	}
	return false
}

func (u uv) name() string { return "uv" }

func (u uv) create(ctx context.Context, b *build) error {
	return b.run(ctx, "creating the environment", "create the environment", b.work, u.env,
		u.path, "venv", "--python", b.spec.Interpreter.builder(), b.env.Dir)
}

func (u uv) install(ctx context.Context, b *build, file string) error {
	args := append([]string{u.path, "pip", "install", "--python", b.env.Python, "--requirements", file}, u.args...)
	packages := summary(b.lines)
	return b.run(ctx, "installing "+packages, "install "+packages, b.spec.Base, u.env, args...)
}

func (u uv) forget(ctx context.Context, b *build, packages []string) bool {
	if b.uvCache == "" {
		return false
	}
	_, _, err := command{args: append([]string{u.path, "cache", "clean"}, packages...)}.run(ctx)
	return err == nil
}
