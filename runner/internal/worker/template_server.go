package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/vmihailenco/msgpack/v5"
)

// templateCookie is how a template knows that it is to be one.
const templateCookie = "GOPHERSNAKE_TEMPLATE=b3d1c2f0"

// The supervisor and a template speak msgpack maps over descriptor 5 of the
// template's, a socket that keeps messages apart. The supervisor asks, the template
// answers, one question at a time.
//
//	setup  the module to import         ready, or why not: unfit, failed
//	fork   with the descriptors that    forked: the worker's pid
//	       the worker is born with
//	reap   a pid                        reaped: how it ended
//
// A question that the template cannot do as it is told is answered by error.

// question is what the supervisor asks; one of its fields is set.
type question struct {
	Setup *templateSetup `msgpack:"setup,omitempty"`
	// Fork is what to add to the environment, as KEY=VALUE. The descriptors that
	// come along are the worker's 1, 2, 3, 4 and, where memory is shared, 5.
	Fork []string `msgpack:"fork,omitempty"`
	Reap int      `msgpack:"reap,omitempty"`
}

// templateSetup is what a template needs of a worker's setup.
type templateSetup struct {
	Base     string `msgpack:"base"`
	Python   string `msgpack:"python"`
	NodeType string `msgpack:"node_type"`
	LogLevel string `msgpack:"log_level"`
	Memory   int64  `msgpack:"memory"`
}

// answer is what a template answers; one of its fields is set.
type answer struct {
	Ready bool `msgpack:"ready"`
	// Unfit says why the module cannot be forked, Failed why it was not imported.
	Unfit  string  `msgpack:"unfit"`
	Failed string  `msgpack:"failed"`
	Forked int     `msgpack:"forked"`
	Reaped *reaped `msgpack:"reaped"`
	Error  string  `msgpack:"error"`
}

// reaped is what the system tells of a process that has ended, as wait4 does.
type reaped struct {
	Status uint32  `msgpack:"status"`
	User   float64 `msgpack:"user"`
	System float64 `msgpack:"system"`
	MaxRSS int64   `msgpack:"max_rss"`
}

// maxTemplateMessage bounds a message in either direction.
const maxTemplateMessage = 64 << 10

// server is a template's process.
type server struct {
	process  *process
	patience time.Duration // for an answer that takes the template no time

	asking sync.Mutex
	fault  error // over which it was ended
}

// unfitError says that the workers of a node are never to be forked.
type unfitError struct{ why string }

func (e *unfitError) Error() string { return e.why }

// startServer starts a template, and returns once it can fork.
func startServer(ctx context.Context, config Config, patience time.Duration) (*server, error) {
	cmd := exec.Command(config.Python, config.Package)
	cmd.Dir = config.Setup.Base
	cmd.Env = append(append([]string{}, config.Env...), templateCookie)
	p := newProcess(cmd, config.Logger)
	p.shares = true // its channel is where it is asked
	s := &server{process: p, patience: patience}
	stop := context.AfterFunc(ctx, func() { p.end(ReasonKilled) })
	defer stop()
	if err := p.Start(ctx); err != nil {
		return nil, err
	}
	go p.logOutput()
	setup := config.Setup
	got, err := s.ask(question{Setup: &templateSetup{
		Base: setup.Base, Python: setup.Python, NodeType: setup.NodeType,
		LogLevel: setup.LogLevel, Memory: setup.Limits.Memory,
	}}, config.StartTimeout)
	if err == nil && got.Ready {
		return s, nil
	}
	s.close()
	switch {
	case err != nil:
		return nil, s.end(config.Package)
	case got.Unfit != "":
		return nil, &unfitError{got.Unfit}
	case got.Failed != "":
		return nil, errors.New(got.Failed)
	}
	return nil, outOfProtocol(errors.New("it does not say whether it is ready"))
}

// logOutput hands what a template writes to the log, as go-plugin and package
// worker do what a worker writes.
func (p *process) logOutput() {
	p.stdout.shaken = true // it announces nothing
	go func() { _, _ = io.Copy(io.Discard, p.stdout) }()
	for {
		line, err := p.stderr.lines.next()
		if err != nil {
			p.stderr.drained.signal()
			return
		}
		p.stderr.logger.Info(string(line))
	}
}

// ask puts one question and returns the answer. A template that does not answer in
// time, or not as it should, is ended.
func (s *server) ask(q question, patience time.Duration, files ...*os.File) (a answer, err error) {
	s.asking.Lock()
	defer s.asking.Unlock()
	defer func() {
		if err != nil {
			s.fail(err)
		}
	}()
	message, err := msgpack.Marshal(q)
	if err != nil {
		return a, err
	}
	var rights []byte
	if len(files) > 0 {
		fds := make([]int, len(files))
		for i, f := range files {
			fds[i] = int(f.Fd())
		}
		rights = syscall.UnixRights(fds...)
	}
	_ = s.process.channel.SetDeadline(time.Now().Add(patience)) // fails as the rest does
	if _, _, err = s.process.channel.WriteMsgUnix(message, rights, nil); err != nil {
		return a, err
	}
	buffer := make([]byte, maxTemplateMessage)
	n, err := s.process.channel.Read(buffer)
	if err != nil {
		return a, err
	}
	if err = msgpack.Unmarshal(buffer[:n], &a); err != nil {
		return a, outOfProtocol(err)
	}
	return a, nil
}

func outOfProtocol(err error) error {
	return fmt.Errorf("the template spoke out of protocol: %w", err)
}

// fail ends a template that is of no more use. One that has closed its socket is
// dying most likely, and its own end tells more. What it had begun to do is undone
// with it: a worker that nobody took into care ends by its lifeline.
func (s *server) fail(err error) {
	if errors.Is(err, io.EOF) || errors.Is(err, syscall.EPIPE) {
		go s.process.endUnlessDying(ReasonKilled)
		return
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = errors.New("the template did not answer in time")
	}
	s.fault = err
	s.process.end(ReasonKilled)
}

// end says how the template, which is gone, ended.
func (s *server) end(packageDir string) error {
	exit := s.process.exit(packageDir, nil)
	s.asking.Lock()
	defer s.asking.Unlock()
	if s.fault != nil && exit.Reason != ReasonSelf {
		return s.fault
	}
	return exit
}

// forkInto returns what has the template fork a process.
func (s *server) forkInto(p *process) func(lifeline *os.File) error {
	return func(lifeline *os.File) error {
		files := []*os.File{p.cmd.Stdout.(*os.File), p.cmd.Stderr.(*os.File)}
		a, err := s.ask(question{Fork: p.announced}, s.patience, append(files, p.cmd.ExtraFiles...)...)
		switch {
		case err != nil:
		case a.Error != "":
			err = errors.New(a.Error)
		default:
			var b body
			if b, err = adopt(s, a.Forked, p, lifeline); err == nil {
				p.body = b
				return nil
			}
			s.asking.Lock()
			s.fail(outOfProtocol(err))
			s.asking.Unlock()
		}
		p.stderr.logger.Warn("the template forked no worker; it is started as always", "error", err)
		return err
	}
}

// moveSocket names another folder for the worker's socket. One that the template
// has forked although it did not say so is dying of its lifeline, and may have bound
// its socket before.
func (p *process) moveSocket() {
	folder := filepath.Join(p.socketDir, "2")
	_ = os.Mkdir(folder, 0o700) // where there is none, the worker says so
	p.cmd.Env = append(p.cmd.Env, "PLUGIN_UNIX_SOCKET_DIR="+folder)
}

// reap has the template reap a worker that has ended.
func (s *server) reap(pid int) (*ended, error) {
	a, err := s.ask(question{Reap: pid}, s.patience)
	switch {
	case err != nil:
		return nil, err
	case a.Reaped == nil:
		return nil, nil // it had been reaped by somebody else
	}
	e := &ended{status: syscall.WaitStatus(a.Reaped.Status)}
	e.usage.Utime = syscall.NsecToTimeval(int64(a.Reaped.User * 1e9))
	e.usage.Stime = syscall.NsecToTimeval(int64(a.Reaped.System * 1e9))
	e.usage.Maxrss = a.Reaped.MaxRSS
	return e, nil
}

// lives reports whether the process is certain not to have ended.
func (s *server) lives() bool {
	s.process.mu.Lock()
	defer s.process.mu.Unlock()
	return !s.process.hasEnded()
}

// close has the template end, and returns when it has.
func (s *server) close() {
	s.process.closeChannel()
	s.process.endUnlessDying(ReasonKilled)
}
