package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// program is a peer that is Python on both sides: a Python program makes the
// calls, batch by batch, as it is told on its standard input. See
// python/rounds.py.
type program struct {
	*process
	name   string
	stdin  io.WriteCloser
	stdout *bufio.Reader
}

// pythonProgram sets up one of the embedded programs in the environment that
// requirements names.
func pythonProgram(name, requirements string) func(context.Context, *host) (peer, error) {
	return func(ctx context.Context, h *host) (peer, error) {
		p, err := startProgram(ctx, h, name, requirements)
		if err != nil {
			return nil, err
		}
		// The set-up is over when something has come back.
		if _, err := p.measure(ctx, payloads[0], 1, 0); err != nil {
			return nil, errors.Join(err, p.close())
		}
		return p, nil
	}
}

func startProgram(ctx context.Context, h *host, name, requirements string) (*program, error) {
	env, err := h.environment(ctx, requirements)
	if err != nil {
		return nil, err
	}
	p := &program{name: name}
	prepare := func(command *exec.Cmd) (err error) {
		command.Env = h.variables(env.Python)
		if p.stdin, err = command.StdinPipe(); err != nil {
			return err
		}
		stdout, err := command.StdoutPipe()
		p.stdout = bufio.NewReader(stdout)
		return err
	}
	p.process, err = startProcess(ctx, prepare, env.Python, filepath.Join(h.programs, name))
	if err != nil {
		return nil, err
	}
	return p, nil
}

// variables is the environment of a program: the commands of its own packages
// come first, and what it leaves in a temporary folder goes with the programs.
func (h *host) variables(python string) []string {
	path := filepath.Dir(python) + string(os.PathListSeparator) + os.Getenv("PATH")
	return append(os.Environ(), "PATH="+path, "TMPDIR="+h.programs)
}

// request asks for one batch; see serve in python/rounds.py.
type request struct {
	Warmup int `json:"warmup"`
	Calls  int `json:"calls"`
	making
}

func (p *program) measure(ctx context.Context, load payload, warmup, calls int) ([]time.Duration, error) {
	var answer struct {
		NS    []time.Duration `json:"ns"`
		Error string          `json:"error"`
	}
	err := p.ask(request{warmup, calls, load.made}, &answer)
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case err != nil:
		return nil, errors.Join(err, p.close())
	case answer.Error != "":
		return nil, fmt.Errorf("%s: %s", p.name, strings.TrimSpace(answer.Error))
	}
	return answer.NS, nil
}

func (p *program) ask(r request, answer any) error {
	// A write fails where the program has ended; then reading tells more.
	writeErr := json.NewEncoder(p.stdin).Encode(r)
	line, err := p.stdout.ReadBytes('\n')
	if err != nil {
		return errors.Join(fmt.Errorf("%s does not answer: %w", p.name, err), writeErr)
	}
	return json.Unmarshal(line, answer)
}

// close tells the program to end, and ends it and its children where it does not.
func (p *program) close() error {
	_ = p.stdin.Close()
	if err := p.wait(patience); err != nil {
		return fmt.Errorf("%s: %w\n%s", p.name, err, p.stderr.String())
	}
	return nil
}
