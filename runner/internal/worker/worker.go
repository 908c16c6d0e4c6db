// Package worker runs one Python interpreter: it starts the process through
// go-plugin, speaks the protocol of package ipc with it, watches over its calls
// and explains how it ended.
//
// A worker is in one of three states: starting, until [Start] returns; serving;
// and ended, once [Worker.Done] is closed. It never comes back from the last:
// package pool replaces it.
package worker

import (
	"context"
	"errors"
	"maps"
	"os"
	"os/exec"
	"slices"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner/internal/isolation"
)

// Config says what a worker runs and how long it may take.
type Config struct {
	// Python is the interpreter.
	Python string
	// Package is the folder that holds the Python package; the interpreter runs it.
	Package string
	// Setup names the node to serve.
	Setup ipc.Setup
	// Env is the whole environment of the process.
	Env []string
	// StartTimeout bounds the time from the spawn until the node is ready.
	StartTimeout time.Duration
	// Timeout is the deadline of each call; 0 is none.
	Timeout time.Duration
	// Grace is how long a node may go on after its call was cancelled, and how
	// long it may take to shut down.
	Grace time.Duration
	// Logger receives what the worker says.
	Logger hclog.Logger
	// Progress receives the node's progress messages; it may be nil.
	Progress func(ipc.Progress)
	// Template forks the worker, where it can; nil where the worker is to be spawned.
	Template *Template
	// Limits bound what it uses of the machine.
	Limits Limits
	// Isolation bounds what it may do; nil is all that its user may.
	Isolation *isolation.Profile
	// Worn is told once of a worker that has passed a soft limit; it may be nil.
	Worn func(*Worker)
}

// Worker is one running interpreter.
type Worker struct {
	config      Config
	process     *process
	sockets     string // where the folder of its socket is made
	conn        *ipc.Conn
	hello       ipc.Hello
	description ipc.Description

	born time.Time
	exit *Exit // set before done is closed
	done chan struct{}

	lookout  lookout
	forsaken atomic.Bool // a timer watches over the calls that were given up

	// How far it is with its calls, and what it was seen to use.
	isReady    atomic.Bool
	itemsGiven atomic.Uint64
	sample     atomic.Pointer[sample]
	worn       atomic.Pointer[Breach]
}

// Start starts a worker and returns once its node is ready for calls. Its error
// is a *[StartError], or wraps the context's where that ended first.
func Start(ctx context.Context, config Config) (*Worker, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	config.Setup.Limits.Result, config.Setup.Limits.OpenFiles = config.Limits.Result, config.Limits.OpenFiles
	w := &Worker{config: config, born: time.Now(), done: make(chan struct{})}
	cmd := exec.Command(config.Python, config.Package)
	cmd.Dir = config.Setup.Base
	w.process = newProcess(cmd, config.Logger)
	w.process.shares = config.Setup.Shared != nil
	w.process.isolation = config.Isolation
	w.process.template = config.Template
	config.Template.await(ctx)
	defer config.Template.renew()

	sockets, leave, err := socketFolders.enter()
	if err != nil {
		return nil, &StartError{Stage: StageSpawn, Python: config.Python, Cause: err}
	}
	defer leave()
	w.sockets = sockets

	if config.Limits.areWatched() {
		limitsKept.add(w)
	}
	stop := context.AfterFunc(ctx, func() { w.process.end(ReasonKilled) })
	timer := time.AfterFunc(config.StartTimeout, func() { w.process.end(ReasonStartTimeout) })

	stage, err := w.connect(ctx)
	inTime, wanted := timer.Stop(), stop()
	if err == nil && !(inTime && wanted) {
		// The process is being ended: it is no worker to hand out.
		stage, err = StageSetup, errors.New("it came too late")
		w.conn.Close()
	}
	if err != nil {
		err = w.startError(ctx, stage, err)
		limitsKept.remove(w)
	}
	if w.process.socketDir != "" {
		_ = os.RemoveAll(w.process.socketDir) // the worker did, unless it did not come that far
	}
	if err != nil {
		return nil, err
	}
	w.isReady.Store(true)
	go w.watch()
	return w, nil
}

// connect takes the worker through its start; with an error it says at which
// stage it happened.
func (w *Worker) connect(ctx context.Context) (Stage, error) {
	socket, err := w.spawn()
	if err != nil {
		w.process.closeChannel()
		if !w.process.wasStarted() {
			return StageSpawn, err
		}
		return StageHandshake, err
	}
	nc, err := ipc.Dial(ctx, socket, w.process.pid(), w.process.secret)
	if err != nil {
		w.process.closeChannel()
		return StageHandshake, err
	}
	settled := make(chan struct{})
	defer close(settled)
	go w.process.closeOnceDead(nc, settled)
	events := ipc.Events{Log: w.log, Progress: w.config.Progress}
	w.conn, w.hello, w.description, err = ipc.Start(nc, w.process.channel, w.config.Setup, events)
	if err != nil {
		_ = nc.Close()
		return StageSetup, err
	}
	return "", nil
}

// watch gathers the end of the worker, whoever brings it about. A worker whose
// connection has ended, called or not, is of no more use.
func (w *Worker) watch() {
	select {
	case <-w.process.done:
		// Its last words are still to be read. Only a process that left its group
		// and took the socket along keeps the connection from ending.
		timer := time.NewTimer(dyingTime)
		defer timer.Stop()
		select {
		case <-w.conn.Done():
		case <-timer.C:
		}
	case <-w.conn.Done():
		w.process.endUnlessDying(ReasonBroken)
	}
	w.conn.Close()
	limitsKept.remove(w)
	w.exit = w.autopsy(w.conn.FatalError())
	close(w.done)
}

// autopsy is what there is to say of the end, the worker's own last word included.
func (w *Worker) autopsy(lastWord *ipc.RemoteError) *Exit {
	e := w.process.exit(w.config.Package, lastWord)
	switch e.Reason {
	case ReasonDeadline:
		e.Limit = w.config.Timeout
		e.Breach = &Breach{LimitCall, "no answer", inTime(e.Limit)}
	case ReasonCancel:
		e.Limit = w.config.Grace
	case ReasonStartTimeout:
		e.Limit = w.config.StartTimeout
		e.Breach = &Breach{LimitStart, inTime(e.Uptime), inTime(e.Limit)}
	case ReasonSelf:
		if memory := w.config.Setup.Limits.Memory; memory > 0 && lastWord != nil && lastWord.Class == "MemoryError" {
			e.Breach = &Breach{LimitMemory, "an allocation", inBytes(memory)}
		}
	}
	return e
}

// Close asks the worker to close its node and exit, and ends it where it does
// not within the grace time or before the context ends. It returns when the
// process is gone.
func (w *Worker) Close(ctx context.Context) {
	w.process.expectEnd()
	// A worker that does not read may hold this up until its process is gone. A
	// broken connection makes it end as well.
	go func() { _ = w.conn.Shutdown() }()
	grace := time.NewTimer(w.config.Grace)
	defer grace.Stop()
	select {
	case <-w.done:
		return
	case <-grace.C:
	case <-ctx.Done():
	}
	w.Kill()
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

// Alive reports whether the worker can be expected to answer. One that cannot
// has ended, or is about to.
func (w *Worker) Alive() bool {
	if w.process.gone.Load() || w.process.ending.Load() {
		return false
	}
	select {
	case <-w.conn.Done():
		return false
	default:
		return true
	}
}

// PID returns the process id.
func (w *Worker) PID() int { return w.process.pid() }

// Description returns what the worker said of its node.
func (w *Worker) Description() ipc.Description { return w.description }

// log hands a record of Python's logging to the host's log.
func (w *Worker) log(r ipc.LogRecord) {
	logger := w.config.Logger
	if r.Logger != "" && r.Logger != "root" {
		logger = logger.Named(r.Logger)
	}
	args := make([]any, 0, 2*len(r.Fields))
	for _, key := range slices.Sorted(maps.Keys(r.Fields)) {
		args = append(args, key, r.Fields[key])
	}
	logger.Log(hclog.LevelFromString(r.Level), r.Message, args...)
}
