package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/gophersnake/gophersnake/scripts/internal/procs"
)

// program is a peer with Python on both sides: a Python program makes the calls, batch by
// batch, as requests on its standard input ask for. See python/rounds.py.
type program struct {
	*process
	name   string
	stdin  io.WriteCloser
	stdout *bufio.Reader
}

// pythonProgram returns the setUp function of a peer that is one of the embedded programs.
// It runs in the environment that requirements names, with the arguments.
func pythonProgram(name, requirements string, args ...string) func(context.Context, *host) (peer, error) {
	return func(ctx context.Context, h *host) (peer, error) {
		p, err := startProgram(ctx, h, name, requirements, args...)
		if err != nil {
			return nil, err
		}
		// A first call shows that the peer is ready.
		if _, err := p.measure(ctx, payloads[0], 1, 0); err != nil {
			return nil, errors.Join(err, p.close())
		}
		return p, nil
	}
}

func startProgram(ctx context.Context, h *host, name, requirements string, args ...string) (*program, error) {
	env, err := h.environment(ctx, requirements)
	if err != nil {
		return nil, err
	}
	return startProgramIn(ctx, h, name, env.Python, nil, append([]string{filepath.Join(h.programs, name)}, args...)...)
}

// startProgramIn starts a program in the environment of an interpreter. The change, which may
// be nil, is made to the command before that.
func startProgramIn(ctx context.Context, h *host, name, python string, change func(*exec.Cmd), args ...string) (*program, error) {
	p := &program{name: name}
	prepare := func(command *exec.Cmd) (err error) {
		command.Env = h.variables(python)
		if change != nil {
			change(command)
		}
		if p.stdin, err = command.StdinPipe(); err != nil {
			return err
		}
		stdout, err := command.StdoutPipe()
		p.stdout = bufio.NewReader(stdout)
		return err
	}
	var err error
	if p.process, err = startProcess(ctx, prepare, python, args...); err != nil {
		return nil, err
	}
	return p, nil
}

// variables returns the environment variables of a program: its own packages' commands
// come first in PATH, and its temporary files are removed with the host's folder.
func (h *host) variables(python string) []string {
	path := filepath.Dir(python) + string(os.PathListSeparator) + os.Getenv("PATH")
	return append(os.Environ(), "PATH="+path, "TMPDIR="+h.programs)
}

// batch is a request for calls; see serve in python/rounds.py.
type batch struct {
	Warmup int `json:"warmup"`
	Calls  int `json:"calls"`
	valueSpec
}

func (p *program) measure(ctx context.Context, load payload, warmup, calls int) ([]time.Duration, error) {
	var answer struct {
		NS    []time.Duration `json:"ns"`
		Error string          `json:"error"`
	}
	err := p.request(batch{warmup, calls, load.spec}, &answer)
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

// request sends a request and decodes the answer.
func (p *program) request(request, answer any) error {
	// A write fails if the program has ended. The error of the read says more, so it is
	// the first one.
	writeErr := json.NewEncoder(p.stdin).Encode(request)
	line, err := p.stdout.ReadBytes('\n')
	if err != nil {
		return errors.Join(fmt.Errorf("%s does not answer: %w", p.name, err), writeErr)
	}
	return json.Unmarshal(line, answer)
}

// close asks the program to end, by closing its standard input, and kills it if it does
// not. It returns when all processes of the program are gone.
func (p *program) close() error {
	_ = p.stdin.Close()
	if err := p.wait(endTimeout); err != nil {
		return fmt.Errorf("%s: %w\n%s", p.name, err, p.stderr.String())
	}
	return nil
}

// endTimeout is how long a process may take to end after it was asked to, and how long
// its killed descendants may take.
const endTimeout = 5 * time.Second

// process is a process whose descendants end with it. It leads a session of its own, so
// that Ctrl-C does not reach it. All its descendants can be found: those in process groups of
// their own, such as Ray's workers and dora's nodes, by the session, and those in sessions of
// their own, such as BentoML's workers, by a variable in their environment.
type process struct {
	command *exec.Cmd
	mark    string // the variable, as NAME=VALUE
	stderr  bytes.Buffer
	ended   chan struct{} // closed when the process and its descendants are gone
	err     error         // valid after ended is closed
}

// startProcess starts a command. When ctx ends, the process gets SIGTERM and, after
// endTimeout, SIGKILL.
func startProcess(ctx context.Context, prepare func(*exec.Cmd) error, name string, args ...string) (*process, error) {
	p := &process{command: exec.CommandContext(ctx, name, args...), ended: make(chan struct{})}
	p.command.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	p.command.Cancel = func() error { return syscall.Kill(-p.pid(), syscall.SIGTERM) }
	p.command.WaitDelay = endTimeout
	p.command.Stderr = &p.stderr
	if err := prepare(p.command); err != nil {
		return nil, err
	}
	p.mark = "GOPHERSNAKE_BENCH_PROCESS=" + rand.Text()
	p.command.Env = append(p.command.Environ(), p.mark)
	if err := p.command.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(p.ended)
		p.err = p.command.Wait()
		p.kill() // its descendants
	}()
	return p, nil
}

func (p *process) pid() int { return p.command.Process.Pid }

// wait waits until the process and its descendants are gone. It kills them after the
// limit. It returns the error of the process.
func (p *process) wait(limit time.Duration) error {
	timer := time.AfterFunc(limit, p.kill)
	defer timer.Stop()
	<-p.ended
	return p.err
}

// kill kills the process and its descendants, and waits until they are gone, at most for
// endTimeout. A process that is killed while it starts a child leaves that child, so it
// looks again until none is left.
func (p *process) kill() {
	_ = syscall.Kill(-p.pid(), syscall.SIGKILL)
	for deadline := time.Now().Add(endTimeout); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		alive := p.alive()
		if len(alive) == 0 {
			return
		}
		for _, pid := range alive {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}

// alive returns the process and its descendants, those that are alive.
func (p *process) alive() []int {
	return append(inSession(p.pid()), procs.With(p.mark)...)
}

// inSession returns the processes of a session that are alive. Without /proc it returns
// none; only the process group is then killed.
func inSession(session int) []int {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	var alive []int
	for _, path := range stats {
		stat, _ := os.ReadFile(path) // empty if it has ended
		text := string(stat)
		fields := strings.Fields(text[strings.LastIndex(text, ")")+1:]) // state, parent, group, session, …
		if len(fields) > 3 && fields[0] != "Z" && fields[0] != "X" && fields[3] == strconv.Itoa(session) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			alive = append(alive, pid)
		}
	}
	return alive
}
