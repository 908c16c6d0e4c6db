package pyenv

import (
	"context"
	"fmt"
)

// pip makes environments with venv and pip.
type pip struct {
	// outside says that pip is only in the interpreter itself, from where it can
	// install into the environment.
	outside bool
}

// choosePip looks at what the interpreter has of what it takes.
func choosePip(ctx context.Context, b *build) (installer, error) {
	python := b.spec.Interpreter
	has, err := EquipmentOf(ctx, Interpreter{Path: python.builder(), Version: python.Version})
	if err != nil {
		return nil, err
	}
	e := &Error{Op: "create the environment", Hint: fmt.Sprintf(
		"install uv (`pip install uv`), or on Debian and Ubuntu the package python%d.%d-venv, or name another interpreter with --python",
		python.Version.Major, python.Version.Minor)}
	switch {
	case !has.Venv:
		e.Message = python.String() + " has no venv module, and there is no uv on PATH"
	case has.Ensurepip:
		return pip{}, nil
	case has.pipReaches:
		return pip{outside: true}, nil
	default:
		e.Message = python.String() + " has no ensurepip module and no pip 22.3 or newer, and there is no uv on PATH"
	}
	return nil, e
}

func (p pip) name() string { return "pip" }

func (p pip) create(ctx context.Context, b *build) error {
	args := []string{b.spec.Interpreter.builder(), "-I", "-m", "venv", b.env.Dir}
	if p.outside {
		args = append(args, "--without-pip")
	}
	return b.run(ctx, "creating the environment", "create the environment", b.work, nil, args...)
}

func (p pip) install(ctx context.Context, b *build, file string) error {
	args := []string{b.env.Python, "-I", "-m", "pip"}
	if p.outside {
		// Not isolated: this pip may be the user's own.
		args = []string{b.spec.Interpreter.builder(), "-m", "pip", "--python", b.env.Python}
	}
	args = append(args, "install", "--no-input", "--disable-pip-version-check", "--progress-bar", "off", "--requirement", file)
	what := summary(b.lines)
	return b.run(ctx, "installing "+what, "install "+what, b.spec.Base, nil, args...)
}
