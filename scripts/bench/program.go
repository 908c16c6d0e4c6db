package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/gophersnake/gophersnake/ipc"
)

// numpyRequirements are what the arrays need; pipeline.yaml has the same.
var numpyRequirements = []string{"numpy==2.2.6"}

// program is a peer that is Python on both sides: a Python program makes the
// calls to a child of its own, batch by batch, as it is told on its standard
// input. See python/rounds.py.
type program struct {
	name    string
	command *exec.Cmd
	stdin   io.WriteCloser
	stdout  *bufio.Reader
	stderr  bytes.Buffer
}

// startProgram starts one of the embedded programs.
func startProgram(ctx context.Context, h *host, name string) (*program, error) {
	env, err := h.environment(ctx, numpyRequirements)
	if err != nil {
		return nil, err
	}
	p := &program{name: name}
	p.command = exec.CommandContext(ctx, env.Python, filepath.Join(h.programs, name))
	// A group of its own: Ctrl-C reaches this program alone, which then ends the
	// group, children included.
	p.command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	p.command.Cancel = p.kill
	p.command.WaitDelay = time.Second
	p.command.Stderr = &p.stderr
	if p.stdin, err = p.command.StdinPipe(); err != nil {
		return nil, err
	}
	stdout, err := p.command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.stdout = bufio.NewReader(stdout)
	if err := p.command.Start(); err != nil {
		return nil, err
	}
	return p, nil
}

// request asks for one batch; see serve in python/rounds.py.
type request struct {
	Warmup int    `json:"warmup"`
	Calls  int    `json:"calls"`
	Value  any    `json:"value,omitempty"`
	Bytes  []byte `json:"bytes,omitempty"`
	// Array says that the bytes are those of float32 elements.
	Array bool `json:"array,omitempty"`
}

func (p *program) measure(ctx context.Context, load payload, warmup, calls int) ([]time.Duration, error) {
	r := request{Warmup: warmup, Calls: calls}
	switch v := load.value.(type) {
	case []byte:
		r.Bytes = v
	case *ipc.Tensor:
		r.Bytes, r.Array = v.Data, true
	default:
		r.Value = v
	}
	var answer struct {
		NS    []time.Duration `json:"ns"`
		Error string          `json:"error"`
	}
	if err := p.ask(r, &answer); err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, errors.Join(err, p.close())
	}
	if answer.Error != "" {
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
	if p.command.ProcessState != nil {
		return nil
	}
	_ = p.stdin.Close()
	patience := time.AfterFunc(5*time.Second, func() { _ = p.kill() })
	defer patience.Stop()
	_, _ = io.Copy(io.Discard, p.stdout) // Wait closes it, the program first
	if err := p.command.Wait(); err != nil {
		_ = p.kill() // its children, where it left any
		return fmt.Errorf("%s: %w\n%s", p.name, err, p.stderr.String())
	}
	return nil
}

func (p *program) kill() error { return syscall.Kill(-p.command.Process.Pid, syscall.SIGKILL) }
