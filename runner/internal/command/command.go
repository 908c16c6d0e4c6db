// Package command runs an executable as a node. The program reads its inputs from its standard
// input and writes its results to its standard output; nothing of gophersnake is in it.
//
// A [Node] keeps the processes of one node (pool.go). A process (process.go) is started below
// a reaper if the machine has a Python interpreter, and in a process group that the kernel
// kills when this process ends in any case; see package lifeline. An exchange (exchange.go)
// is one call: it writes the input, reads the answer, and ends the process if the program
// hangs, says something else, or uses more than its limits.
//
// Nothing that a program writes is trusted: its size is bounded, and the caller checks the
// value.
package command

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/gophersnake/gophersnake/runner/internal/engine"
	"github.com/gophersnake/gophersnake/runner/internal/worker"
)

// Protocol is how a program reads its inputs and writes its results.
type Protocol string

// The protocols. A program of the first two runs for many calls, one after the other, and
// ends when its standard input ends.
const (
	// JSONLines means that each input and each result is JSON in one line.
	JSONLines Protocol = "json-lines"
	// Msgpack means that they are values in msgpack, as package ipc describes them, with
	// the data of tensors in place. They are not preceded by their length: msgpack shows
	// the end of a value by itself.
	Msgpack Protocol = "msgpack"
	// Once means that the program is started for each call. It reads one input until its
	// standard input ends, and all that it writes until it exits is the result.
	Once Protocol = "once"
)

// Output is what a program of the protocol once writes.
type Output string

// The outputs. Whichever it is, an input of bytes is written as it is.
const (
	// JSON means that the result is JSON. Inputs are, too.
	JSON Output = "json"
	// Text means that the result is a string, which must be UTF-8. An input that is a string
	// is written as it is, any other as JSON.
	Text Output = "text"
	// Bytes means that the result is the bytes that the program writes. Inputs are those of
	// Text.
	Bytes Output = "bytes"
)

// Config says what a node runs.
type Config struct {
	// Args are the program and its arguments.
	Args []string
	// Dir is the folder in which it runs, and to which a relative program with a separator
	// is relative. One without is found by the PATH of Env.
	Dir string
	// Env is the complete environment.
	Env      []string
	Protocol Protocol
	Output   Output // of the protocol once
	// Min is the number of processes that are kept ready, Max the number that may run.
	// Programs of the protocol once are only started for calls. Max is at least 1.
	Min, Max int
	// MaxCalls is how many calls a process serves, MaxAge how long it is given calls, and
	// IdleTimeout how long one beyond Min may be without one; 0 is no limit.
	MaxCalls            uint64
	MaxAge, IdleTimeout time.Duration
	// Queue is how many calls may wait for a process, and QueueWait how long; 0 is no limit.
	Queue     int
	QueueWait time.Duration
	// Grace is how long a program may run on after its standard input was closed.
	Grace time.Duration
	// Limits bound what a process may use.
	Limits Limits
	// Python is the interpreter that runs the reapers. If it is empty, a process that leaves
	// the process group of the program may outlive it.
	Python string
	// Logger receives what the programs write to their standard error.
	Logger hclog.Logger
}

// Limits bound what a process uses; 0 is no limit.
type Limits struct {
	// Memory is the private writable memory in bytes of each process of the program: the
	// kernel refuses more.
	Memory int64
	// Resident is the resident memory in bytes, Threads the number of threads of a program
	// and its process group; beyond them it is killed.
	Resident int64
	Threads  int
	// CPUTime is how much CPU time one call may use.
	CPUTime time.Duration
	// OpenFiles is how many descriptors a process of the program may have open.
	OpenFiles int
	// Result is how many bytes one result may have.
	Result int64
}

// Node is a node whose code is an executable. It implements [engine.Engine].
type Node struct {
	config Config
	path   string // of the program
	pool   *processes
}

var _ engine.Engine = (*Node)(nil)

// New returns a node that runs nothing yet.
func New(config Config) *Node {
	config.Max = max(config.Max, config.Min, 1)
	if config.Protocol == Once {
		config.Min = 0
	}
	n := &Node{config: config}
	n.pool = newProcesses(n)
	return n
}

// Check returns an [*engine.Error] if the program cannot be found or executed. It starts nothing.
func (n *Node) Check() error {
	_, err := find(&n.config)
	return err
}

// Start finds the program and starts Min processes of it. The error is an [*engine.Error], or
// the cause of the context's end.
func (n *Node) Start(ctx context.Context) (err error) {
	if n.path, err = find(&n.config); err != nil {
		return err
	}
	return n.pool.fill(ctx)
}

// Call passes one input to a process, which runs no other call meanwhile, and returns its
// answer. It waits while Max calls are in progress. If the context ends during the call, or
// the program fails in any way, the process is killed with all that it has started, and Call
// returns when it is gone. The error is an [*engine.Error], or a [*worker.CanceledError] if the
// context ended.
func (n *Node) Call(ctx context.Context, in []byte) ([]byte, error) {
	return n.CallWithin(ctx, engine.Within{}, in)
}

// CallWithin is [Node.Call] with bounds. The limit is that of the time that the call has once it
// has a process. If it passes, the cause is that of the [*engine.Error].
func (n *Node) CallWithin(ctx context.Context, within engine.Within, in []byte) ([]byte, error) {
	if ctx.Err() != nil {
		return nil, &worker.CanceledError{Cause: context.Cause(ctx)}
	}
	input, err := n.config.encode(in)
	if err != nil {
		return nil, err
	}
	if err := n.pool.enter(ctx, within.Turn); err != nil {
		return nil, err
	}
	defer n.pool.leave()
	for range maxDeliveries {
		p, err := n.pool.take(ctx)
		if err != nil {
			return nil, err
		}
		out, err := n.exchange(ctx, within, p, input)
		n.pool.giveBack(p, err)
		if !errors.Is(err, errUndelivered) {
			return out, err
		}
	}
	return nil, &engine.Error{
		Fault: engine.Transport, Reason: fmt.Sprintf("the program ended %d times before it read its input", maxDeliveries),
		Hint: "let it run until its standard input ends, or use the protocol once", NotBegun: true,
	}
}

// exchange passes the input to a process within the limit.
func (n *Node) exchange(ctx context.Context, within engine.Within, p *process, input []byte) ([]byte, error) {
	if within.Limit > 0 {
		limited, cancel := context.WithTimeoutCause(ctx, within.Limit, &overdue{within.Cause})
		defer cancel()
		ctx = limited
	}
	return p.exchange(ctx, input)
}

// maxDeliveries is how many processes a call is passed to if each has ended, or closed its
// standard input, before it read any of the call.
const maxDeliveries = 3

// errUndelivered means that a process did not read any of the input.
var errUndelivered = errors.New("the program did not read the input")

// Close ends all processes: those without a call by the end of their standard input, and
// those that still run after Grace, or when the context ends, by SIGKILL. It returns when
// nothing is left.
func (n *Node) Close(ctx context.Context) { n.pool.close(ctx) }

// find returns the path of the program. Its error says what is wrong with the file.
func find(config *Config) (string, error) {
	program := config.Args[0]
	if strings.ContainsRune(program, filepath.Separator) {
		path := program
		if !filepath.IsAbs(path) {
			path = filepath.Join(config.Dir, path)
		}
		if err := executable(path); err != nil {
			return "", cannotRun(path, err)
		}
		return filepath.Abs(path)
	}
	var refused error
	for _, folder := range filepath.SplitList(variable(config.Env, "PATH")) {
		if !filepath.IsAbs(folder) {
			continue // as in os/exec: the current folder is not searched
		}
		path := filepath.Join(folder, program)
		err := executable(path)
		if err == nil {
			return path, nil
		}
		if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR) && refused == nil {
			refused = cannotRun(path, err)
		}
	}
	if refused != nil {
		return "", refused
	}
	return "", &engine.Error{
		Fault: engine.System, Reason: fmt.Sprintf("there is no program %q in PATH", program), Cause: fs.ErrNotExist,
		Hint: "install it, set PATH in the node's env, or write its path with a slash; a relative one begins at the pipeline's folder",
	}
}

// executable returns an error if a file cannot be executed.
func executable(path string) error {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return errors.Unwrap(err)
	case info.IsDir():
		return syscall.EISDIR
	}
	return accessible(path)
}

// cannotRun explains an error of the operating system.
func cannotRun(path string, err error) *engine.Error {
	e := &engine.Error{Fault: engine.System, Reason: fmt.Sprintf("cannot run %s: %v", path, err), Cause: err}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		e.Hint = "install it, or correct the path; a relative one begins at the pipeline's folder"
		if _, missing := os.Stat(path); missing == nil {
			e.Hint = "the program that its first line names, or its loader, is missing"
		}
	case errors.Is(err, fs.ErrPermission):
		e.Hint = "make it executable: chmod +x " + path
	case errors.Is(err, syscall.ENOEXEC):
		e.Hint = "it is no program of this machine; a script needs a first line such as #!/bin/sh"
	}
	return e
}

// variable returns the value of an environment variable, which the last of them has.
func variable(env []string, name string) string {
	for _, each := range slices.Backward(env) {
		if key, value, _ := strings.Cut(each, "="); key == name {
			return value
		}
	}
	return ""
}
