package pyenv

import (
	"context"
	"os/exec"
	"path/filepath"
	"strings"
)

// uv makes environments with uv.
type uv struct {
	path string
	env  []string // what it is told of pip's configuration
	args []string
}

// chooseInstaller prefers uv, which is many times as fast.
func chooseInstaller(ctx context.Context, b *build) (installer, error) {
	path, ok := workingUV(ctx)
	if ctx.Err() != nil {
		return nil, canceled(ctx, "make the environment")
	}
	if !ok || !uvKnows(b.lines) {
		return choosePip(ctx, b)
	}
	config, err := readPipConfig(ctx, b.spec.Interpreter)
	if err != nil {
		return nil, err
	}
	env, args := config.forUV(b.spec.Base, b.lines)
	return uv{path, env, args}, nil
}

// workingUV finds a uv that runs: the shim of one that is switched off does not.
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

// uvOptions are the options in requirement lines that uv heeds. Others it warns of
// and ignores, so lines with them are left to pip.
var uvOptions = []string{
	"-e", "--editable", "-r", "--requirement", "-c", "--constraint", "-i", "--index-url", "--extra-index-url",
	"-f", "--find-links", "--no-index", "--no-binary", "--only-binary", "--hash",
}

// uvKnows reports whether uv heeds all options in the lines.
func uvKnows(lines []string) bool {
	for _, line := range lines {
		for i, word := range strings.Fields(line) {
			isOption := strings.HasPrefix(word, "--") || i == 0 && strings.HasPrefix(word, "-")
			if isOption && !knownOption(word) {
				return false
			}
		}
	}
	return true
}

func knownOption(word string) bool {
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
	return b.run(ctx, "creating the environment", "create the environment", b.work, nil,
		u.path, "venv", "--python", b.spec.Interpreter.builder(), b.env.Dir)
}

func (u uv) install(ctx context.Context, b *build, file string) error {
	args := append([]string{u.path, "pip", "install", "--python", b.env.Python, "--requirements", file}, u.args...)
	what := summary(b.lines)
	return b.run(ctx, "installing "+what, "install "+what, b.spec.Base, u.env, args...)
}
