package main

import (
	"context"
	"embed"
	"io/fs"
	"os"
	"strings"

	"github.com/gophersnake/gophersnake/runner"
)

//go:embed python
var embedded embed.FS

// host provides what the peers have in common: one interpreter, and a folder with their
// Python programs.
type host struct {
	python   runner.Interpreter
	programs string
}

// newHost finds the interpreter, as the runner does, and unpacks the programs. The caller
// must close the host.
func newHost(ctx context.Context, python string) (_ *host, err error) {
	h := &host{}
	if h.python, err = runner.FindInterpreter(ctx, runner.WithPython(python)); err != nil {
		return nil, err
	}
	if h.programs, err = os.MkdirTemp("", "bench-"); err != nil {
		return nil, err
	}
	sources, err := fs.Sub(embedded, "python")
	if err == nil {
		err = os.CopyFS(h.programs, sources)
	}
	if err != nil {
		_ = h.close()
		return nil, err
	}
	return h, nil
}

// environment returns a virtual environment of the host's interpreter with the packages of
// python/requirements/NAME.txt. It creates the environment in the user's cache folder if
// there is none yet, which takes long and needs the network.
func (h *host) environment(ctx context.Context, name string) (runner.Environment, error) {
	list, err := embedded.ReadFile("python/requirements/" + name + ".txt")
	if err != nil {
		return runner.Environment{}, err
	}
	lines := strings.Split(strings.TrimSpace(string(list)), "\n")
	return runner.EnsureEnvironment(ctx, lines, runner.WithPython(h.python.Path))
}

// close removes the programs.
func (h *host) close() error { return os.RemoveAll(h.programs) }
