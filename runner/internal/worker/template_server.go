package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/vmihailenco/msgpack/v5"

	"github.com/gophersnake/gophersnake/ipc"
)

// templateCookie in the environment makes the Python package act as a template.
const templateCookie = "GOPHERSNAKE_TEMPLATE=b3d1c2f0"

// The supervisor and a template exchange msgpack maps over the template's descriptor
// 5, a socket that preserves message boundaries. The supervisor sends one request at a
// time, and the template replies:
//
//	request                              reply
//	setup  the module to import          ready; or unsafe or failed, with the reason
//	fork   with the descriptors that     forked: the reaper's pid
//	       a reaper and its worker
//	       inherit
//	reap   a reaper's pid                reaped
//
// The reply to a request that cannot be carried out is error.

// templateRequest is a request; one of its fields is set.
type templateRequest struct {
	Setup *templateSetup `msgpack:"setup,omitempty"`
	// Fork is what to add to the environment, as KEY=VALUE. The descriptors in the
	// message are the reaper's 0, and the worker's 1, 2, 3, 4 and, if memory is shared, 5.
	Fork []string `msgpack:"fork,omitempty"`
	Reap int      `msgpack:"reap,omitempty"`
}

// templateSetup is the part of a worker's setup that a template needs.
type templateSetup struct {
	Base     string `msgpack:"base"`
	Python   string `msgpack:"python"`
	NodeType string `msgpack:"node_type"`
	// Further are the nodes of a fused chain; see [ipc.Setup].
	Further  []templateMember `msgpack:"further,omitempty"`
	LogLevel string           `msgpack:"log_level"`
	Memory   int64            `msgpack:"memory"`
}

// templateMember is a node whose module a template imports as well.
type templateMember struct {
	Python   string `msgpack:"python"`
	NodeType string `msgpack:"node_type"`
}

// newTemplateSetup returns the part of a worker's setup that a template needs. Of the nodes of a
// fused chain it has one for each module.
func newTemplateSetup(setup ipc.Setup) *templateSetup {
	s := &templateSetup{
		Base: setup.Base, Python: setup.Python, NodeType: setup.NodeType,
		LogLevel: setup.LogLevel, Memory: setup.Limits.Memory,
	}
	known := []string{moduleOf(setup.Python)}
	for _, m := range setup.Members {
		if module := moduleOf(m.Python); !slices.Contains(known, module) {
			known = append(known, module)
			s.Further = append(s.Further, templateMember{m.Python, m.NodeType})
		}
	}
	return s
}

// templateReply is a reply; one of its fields is set.
type templateReply struct {
	Ready bool `msgpack:"ready"`
	// Unsafe says why processes with the module cannot be forked, Failed why the module
	// was not imported.
	Unsafe string `msgpack:"unsafe"`
	Failed string `msgpack:"failed"`
	Forked int    `msgpack:"forked"`
	Reaped bool   `msgpack:"reaped"`
	Error  string `msgpack:"error"`
}

// maxTemplateMessage bounds a message in either direction.
const maxTemplateMessage = 64 << 10

// templateServer is the process of a template.
type templateServer struct {
	process       *process
	answerTimeout time.Duration // for requests that take the template no time

	mu    sync.Mutex // held during a request; guards fault
	fault error      // for which the process was ended
}

// unforkableError says that the workers of a node can never be forked.
type unforkableError struct{ reason string }

func (e *unforkableError) Error() string { return e.reason }

// startTemplateServer starts a template's process and returns once it is ready to
// fork.
func startTemplateServer(ctx context.Context, config Config, answerTimeout time.Duration) (*templateServer, error) {
	cmd := config.command()
	cmd.Env = append(config.environment(), templateCookie)
	p := newProcess(cmd, config.Logger)
	p.sharesMemory = true // its channel carries the requests
	s := &templateServer{process: p, answerTimeout: answerTimeout}
	stop := context.AfterFunc(ctx, func() { p.end(ReasonKilled) })
	defer stop()
	if err := p.Start(ctx); err != nil {
		return nil, err
	}
	go p.logOutput()
	if raw, err := p.channel.SyscallConn(); err == nil {
		_ = ipc.RefuseDescriptors(raw) // no node code runs before the setup request
	}
	reply, err := s.request(templateRequest{Setup: newTemplateSetup(config.Setup)}, config.StartTimeout)
	if err == nil && reply.Ready {
		return s, nil
	}
	s.close()
	switch {
	case err != nil:
		return nil, s.exitError(config.Package)
	case reply.Unsafe != "":
		return nil, &unforkableError{reply.Unsafe}
	case reply.Failed != "":
		return nil, errors.New(reply.Failed)
	}
	return nil, protocolError(errors.New("it does not say whether it is ready"))
}

// logOutput logs a template's output, as go-plugin and the process do for a worker.
func (p *process) logOutput() {
	p.stdout.announced = true // a template announces nothing
	go func() { _, _ = io.Copy(io.Discard, p.stdout) }()
	for {
		line, err := p.stderr.lines.Next()
		if err != nil {
			p.stderr.drained.signal()
			return
		}
		p.stderr.logger.Info(string(line))
	}
}

// request sends a request and returns the reply. It ends a template that violates the
// protocol or does not reply in time.
func (s *templateServer) request(r templateRequest, timeout time.Duration, files ...*os.File) (reply templateReply, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer func() {
		if err != nil {
			s.failLocked(err)
		}
	}()
	message, err := msgpack.Marshal(r)
	if err != nil {
		return reply, err
	}
	var rights []byte
	if len(files) > 0 {
		fds := make([]int, len(files))
		for i, f := range files {
			fds[i] = int(f.Fd())
		}
		rights = syscall.UnixRights(fds...)
	}
	_ = s.process.channel.SetDeadline(time.Now().Add(timeout)) // if it fails, so does the write
	if _, _, err = s.process.channel.WriteMsgUnix(message, rights, nil); err != nil {
		return reply, err
	}
	buffer := make([]byte, maxTemplateMessage)
	n, err := s.process.channel.Read(buffer)
	if err != nil {
		return reply, err
	}
	if err = msgpack.Unmarshal(buffer[:n], &reply); err != nil {
		return reply, protocolError(err)
	}
	return reply, nil
}

func protocolError(err error) error {
	return fmt.Errorf("the template violated the protocol: %w", err)
}

// failLocked ends a template that has become useless. If it has closed its socket it is
// most likely exiting, and its own exit says more. A worker that it may have forked,
// and that the supervisor has not adopted, is killed by its reaper.
func (s *templateServer) failLocked(err error) {
	if errors.Is(err, io.EOF) || errors.Is(err, syscall.EPIPE) {
		go s.process.waitOrEnd(ReasonKilled)
		return
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = errors.New("the template did not answer in time")
	}
	s.fault = err
	s.process.end(ReasonKilled)
}

// exitError says how a template that is gone has ended.
func (s *templateServer) exitError(packageDir string) error {
	exit := s.process.autopsy(packageDir, nil)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fault != nil && exit.Reason != ReasonSelf {
		return s.fault
	}
	return exit
}

// moveSocket chooses another folder for the worker's socket. A template may have
// forked a worker without reporting it. That worker is being killed by its reaper,
// but may have bound its socket before.
func (p *process) moveSocket() {
	folder := filepath.Join(p.socketDir, "2")
	_ = os.Mkdir(folder, 0o700) // if it fails, the worker reports it
	p.cmd.Env = append(p.cmd.Env, "PLUGIN_UNIX_SOCKET_DIR="+folder)
}

// close makes the template exit, and returns when it is gone.
func (s *templateServer) close() {
	s.process.closeChannel()
	s.process.waitOrEnd(ReasonKilled)
}
