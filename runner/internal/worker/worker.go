// Package worker runs one Python interpreter: it starts the process through
// go-plugin, speaks the protocol of package ipc with it, enforces the deadlines
// and limits of its calls, and explains how it ended.
//
// # States
//
// A worker is in one of these states. It alternates between ready and serving, and
// takes every other step once. Package pool replaces a worker that has ended.
//
//	state     from             entered when                     a new call
//	starting                   Start begins                     is not possible
//	ready     starting,        Start returns; later, when the   begins at once
//	          serving          last call returns
//	serving   ready            a call is sent                   is queued in the worker, or runs
//	                                                            concurrently (see Description)
//	ending    any of these     end is called, the process       fails when the state is ended
//	                           exits, or the connection ends
//	ended     ending           the autopsy is complete, and     fails with an *UnbegunError
//	                           Done is closed
//
// Alive reports whether the state is ready or serving. If a start fails, Start
// returns the autopsy in its error and no worker.
//
// A [Reason] records why a worker ended. The first reason counts, unless the process
// had exited by itself before.
package worker

import (
	"context"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner/internal/container"
	"github.com/gophersnake/gophersnake/runner/internal/isolation"
	"github.com/gophersnake/gophersnake/runner/internal/printable"
)

// Config says what a worker runs and how long it may take.
type Config struct {
	// Python is the path of the interpreter.
	Python string
	// Package is the folder that holds the worker's Python package; the interpreter
	// runs its __main__.py.
	Package string
	// Setup names the node to serve.
	Setup ipc.Setup
	// Env is the complete environment of the process.
	Env []string
	// StartTimeout bounds the time from the spawn until the node is ready.
	StartTimeout time.Duration
	// Timeout is the deadline of each call; 0 is none. That of a fused chain is the sum of those of
	// its members, 0 if one of them has none.
	Timeout time.Duration
	// Members are the nodes of a fused chain, in the order of [ipc.Setup].Members. It is empty for a
	// worker of a single node.
	Members []Member
	// Grace is how long a node may run on after its call was canceled, and how
	// long it may take to shut down.
	Grace time.Duration
	// Logger receives the worker's log records and its output.
	Logger hclog.Logger
	// Progress receives the node's progress messages that are about no call; it may be nil. The
	// function of [progress.With] receives those of a call.
	Progress func(ipc.Progress)
	// Template forks the worker, if it can. Without one the worker is spawned.
	Template *Template
	// Templates are those that a pool shares with others; see [Templates]. It may be nil.
	Templates *Templates
	// Limits bound the worker's use of the machine.
	Limits Limits
	// Isolation restricts the process; nil leaves it all rights of its user.
	Isolation *isolation.Profile
	// Container is the container that the process runs in, with a Python that is podman; nil
	// means none.
	Container *container.Container
	// OnSoftBreach is called once if the worker passes a soft limit; it may be nil.
	OnSoftBreach func(*Worker)
}

// Member is one node of a fused chain, as its worker is watched.
type Member struct {
	// Timeout bounds the time of the member in each call; 0 is none.
	Timeout time.Duration
	// Logger receives the log records of the member.
	Logger hclog.Logger
}

// memberIndex returns the index of the member with a number that a worker has stated, that of the
// first if there is none with it.
func (c *Config) memberIndex(number uint64) int {
	if number == 0 || number > uint64(len(c.Members)) {
		return 0
	}
	return int(number - 1)
}

// timeoutOf returns the deadline of a member, or that of a call if there are no members or this
// one has none.
func (c *Config) timeoutOf(member int) time.Duration {
	if len(c.Members) == 0 || c.Members[member].Timeout == 0 {
		return c.Timeout
	}
	return c.Members[member].Timeout
}

// firstDeadline returns the least time after which a call may have passed a deadline, 0 if there
// is none.
func (c *Config) firstDeadline() time.Duration {
	least := c.Timeout
	for _, m := range c.Members {
		if m.Timeout > 0 && (least == 0 || m.Timeout < least) {
			least = m.Timeout
		}
	}
	return least
}

// Worker is one running interpreter. Its methods are safe for concurrent use.
type Worker struct {
	config      Config
	process     *process
	socketRoot  string // the folder in which go-plugin makes the folder of the socket
	conn        *ipc.Conn
	connDone    <-chan struct{} // conn.Done()
	description ipc.Description

	startedAt time.Time
	exit      *Exit // set before done is closed
	done      chan struct{}

	watchdog         watchdog
	watchesAbandoned atomic.Bool // a timer checks the abandoned calls; see watchAbandoned

	// Written by the worker's calls, read by the sampler.
	isReady      atomic.Bool
	itemsEmitted atomic.Uint64
	// Written by the sampler.
	sample     atomic.Pointer[sample]
	softBreach atomic.Pointer[Breach]
}

// awaitEnd waits for the worker's end, whatever causes it, and publishes the
// autopsy. A worker whose connection has ended is useless, with or without
// calls, so awaitEnd ends its process.
func (w *Worker) awaitEnd() {
	select {
	case <-w.process.done:
		// The messages that the worker sent before it ended are still to be read. The
		// connection stays open only if a process that left the group holds the socket.
		timer := time.NewTimer(exitGrace)
		defer timer.Stop()
		select {
		case <-w.connDone:
		case <-timer.C:
		}
	case <-w.connDone:
		w.process.waitOrEnd(ReasonBroken)
	}
	w.conn.Close()
	limitSampler.remove(w)
	w.exit = w.autopsy(w.conn.FatalError())
	close(w.done)
}

// Close asks the worker to close its node and exit, which finalizes the interpreter. It
// kills the worker if it does not exit within the grace period or before the context ends.
// Close returns when the process is gone; it may be called more than once.
func (w *Worker) Close(ctx context.Context) {
	w.process.expectShutdown()
	// A worker that does not read its socket blocks Shutdown until its process is
	// gone. If the connection breaks, the worker ends as well.
	go func() { _ = w.conn.Shutdown() }()
	grace := time.NewTimer(w.config.Grace)
	defer grace.Stop()
	select {
	case <-w.done:
		return
	case <-grace.C:
		w.logUnfinished(fmt.Sprintf("within its grace period of %v", w.config.Grace))
	case <-ctx.Done():
		w.logUnfinished("in time")
	}
	w.Kill()
}

// logUnfinished logs that the worker is killed before it has exited by itself.
func (w *Worker) logUnfinished(within string) {
	w.config.Logger.Warn("the worker did not exit "+within+" and was killed: what it had not written is lost, and callbacks of atexit may not have run",
		"pid", w.PID(), "hint", "make the node's close, its threads that are not daemons, and its callbacks of atexit return sooner")
}

// Kill ends the worker at once and returns when the process is gone.
func (w *Worker) Kill() {
	w.process.end(ReasonKilled)
	<-w.done
}

// Done is closed when the worker has ended.
func (w *Worker) Done() <-chan struct{} { return w.done }

// Exit returns the autopsy of a worker that has ended, nil before.
func (w *Worker) Exit() *Exit {
	select {
	case <-w.done:
		return w.exit
	default:
		return nil
	}
}

// Alive reports whether the worker can be expected to answer: it is false as soon
// as the process has exited, was ordered to end, or the connection has ended.
func (w *Worker) Alive() bool {
	if w.process.gone.Load() || w.process.endRequested.Load() {
		return false
	}
	select {
	case <-w.connDone:
		return false
	default:
		return true
	}
}

// PID returns the process id.
func (w *Worker) PID() int { return w.process.pid() }

// Description returns the worker's description of its node.
func (w *Worker) Description() ipc.Description { return w.description }

// StartedAt returns the time at which the worker's start began.
func (w *Worker) StartedAt() time.Time { return w.startedAt }

// age is the time since the worker's start began. It reads only the monotonic
// clock; time.Now would read the wall clock as well.
func (w *Worker) age() time.Duration { return time.Since(w.startedAt) }

// Calls returns how many calls have ended.
func (w *Worker) Calls() uint64 {
	_, ended := w.watchdog.counts()
	return ended
}

// log writes a record of Python's logging to the host's log. The id of the call that wrote it
// is the word of the worker.
func (w *Worker) log(r ipc.LogRecord, trace *ipc.Trace) {
	logger := w.process.logger
	if members := w.config.Members; len(members) > 0 {
		logger = members[w.config.memberIndex(uint64(r.Member)+1)].Logger.With("worker", w.PID())
	}
	if r.Call != 0 {
		logger = logger.With("call", r.Call)
	}
	if trace != nil {
		logger = logger.With("trace_id", hex.EncodeToString(trace.TraceID[:]),
			"span_id", hex.EncodeToString(trace.SpanID[:]), "run", trace.Run)
	}
	logger = printable.NewLogger(logger)
	if r.Logger != "" && r.Logger != "root" {
		logger = logger.Named(r.Logger)
	}
	args := make([]any, 0, 2*len(r.Fields))
	for _, key := range slices.Sorted(maps.Keys(r.Fields)) {
		args = append(args, key, r.Fields[key])
	}
	logger.Log(hclog.LevelFromString(r.Level), r.Message, args...)
}
