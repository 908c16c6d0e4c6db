package command

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/gophersnake/gophersnake/runner/internal/engine"
	"github.com/gophersnake/gophersnake/runner/internal/worker"
)

// processes are those of a node. A call first gets one of Max slots, in the order of
// their arrival, and then a process: an idle one, or one that it starts. So there are never
// more processes than Max, and a call never waits for a start of another one. Processes
// beyond Min are kept when they become idle.
//
// When an idle process ends by itself, or one that served was ended, another one is started if
// fewer than Min are left: after several ends in a row without a call that succeeds, with a
// delay, but a call starts one without.
type processes struct {
	node   *Node
	slots  *engine.Line // each call in progress, and each start by refill, has one
	ctx    context.Context
	cancel context.CancelCauseFunc

	running sync.WaitGroup // of start and watch

	mu       sync.Mutex // guards the fields below
	isClosed bool
	all      []*process
	idle     []*process  // the last is used next
	failures int         // ends since a call succeeded
	timer    *time.Timer // of the next start by refill; nil if none is due
	// idleTimer calls retireIdle; nil if it need not.
	idleTimer *time.Timer
}

func newProcesses(n *Node) *processes {
	c := &n.config
	p := &processes{node: n, slots: engine.NewLine(engine.LineConfig{Places: c.Max, Queue: c.Queue, Wait: c.QueueWait, Place: "a process"})}
	p.ctx, p.cancel = context.WithCancelCause(context.Background())
	return p
}

// errClosed is the error of a call of a node that was closed.
var errClosed = &engine.Error{Fault: engine.Transport, Reason: "the node was closed", NotBegun: true}

// enter waits for a slot.
func (p *processes) enter(ctx context.Context, turn *engine.Turn) error {
	switch err := p.slots.Enter(ctx, turn); {
	case errors.Is(err, engine.ErrLineClosed):
		return errClosed
	case err != nil && ctx.Err() != nil:
		return &worker.CanceledError{Cause: err}
	default:
		return err
	}
}

func (p *processes) leave() {
	p.slots.Leave()
	p.refill()
}

// take returns an idle process, or starts one. The caller has a slot.
func (p *processes) take(ctx context.Context) (*process, error) {
	p.mu.Lock()
	for len(p.idle) > 0 {
		last := p.idle[len(p.idle)-1]
		p.idle = p.idle[:len(p.idle)-1]
		if !last.isEnding() {
			p.mu.Unlock()
			return last, nil
		}
	}
	p.mu.Unlock()
	return p.start(ctx)
}

// start starts a process that is not idle.
func (p *processes) start(ctx context.Context) (*process, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(p.ctx, func() { cancel(errClosed) })()
	p.mu.Lock()
	if p.isClosed {
		p.mu.Unlock()
		return nil, errClosed
	}
	p.running.Add(1)
	p.mu.Unlock()
	defer p.running.Done()
	started, err := startProcess(ctx, p.node)
	if err != nil {
		return nil, asError(err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.isClosed {
		started.end(errClosed)
	}
	p.all = append(p.all, started)
	p.running.Go(func() { p.watch(started) })
	return started, nil
}

// asError returns the error of a start. The end of the context is its cause.
func asError(err error) error {
	if e, ok := errors.AsType[*engine.Error](err); ok {
		return e
	}
	return &worker.CanceledError{Cause: err}
}

// giveBack takes a process back from a call.
func (p *processes) giveBack(m *process, failed error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if failed != nil || p.node.config.Protocol == Once {
		return // it has ended, and watch counts that
	}
	p.failures = 0
	config := &p.node.config
	switch {
	case p.isClosed, m.isEnding():
	case config.MaxCalls > 0 && m.calls >= config.MaxCalls, config.MaxAge > 0 && time.Since(m.startedAt) >= config.MaxAge:
		p.retireLocked(m)
	default:
		m.idleSince = time.Now()
		p.idle = append(p.idle, m)
		if len(p.idle) > config.Min && config.IdleTimeout > 0 && p.idleTimer == nil {
			p.idleTimer = time.AfterFunc(config.IdleTimeout, p.retireIdle)
		}
	}
}

// retireLocked asks a process to end, and kills it after the grace period.
func (p *processes) retireLocked(m *process) {
	m.closeInput()
	time.AfterFunc(p.node.config.Grace, m.kill)
}

// retireIdle retires the processes beyond Min that were idle for long enough. The first of
// the idle ones has waited for longest.
func (p *processes) retireIdle() {
	p.mu.Lock()
	defer p.mu.Unlock()
	config := &p.node.config
	p.idleTimer = nil
	for len(p.idle) > config.Min && !p.isClosed {
		if left := config.IdleTimeout - time.Since(p.idle[0].idleSince); left > 0 {
			p.idleTimer = time.AfterFunc(left, p.retireIdle)
			return
		}
		p.retireLocked(p.idle[0])
		p.idle = p.idle[1:]
	}
}

// watch waits for the end of a process, and replaces it.
func (p *processes) watch(m *process) {
	<-m.done
	p.mu.Lock()
	wasIdle := slices.Contains(p.idle, m)
	p.all, p.idle = without(p.all, m), without(p.idle, m)
	if !m.wasAsked() {
		p.failures++
	}
	p.mu.Unlock()
	m.calling.Lock() // a call may still read what the program had written
	m.closeFiles()
	m.calling.Unlock()
	if wasIdle {
		err := m.exitError()
		p.node.config.Logger.Warn("a program ended without a call", "command", p.node.config.Args[0], "pid", m.id, "error", err)
	}
	p.refill()
}

// refill starts processes in the background until Min are left, unless it has to wait. A slot
// that is in use has a process, or will have one.
func (p *processes) refill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.isClosed || len(p.idle)+p.slots.Used() >= p.node.config.Min || p.timer != nil {
		return
	}
	p.timer = time.AfterFunc(delayAfter(p.failures), func() {
		p.mu.Lock()
		p.timer = nil
		p.mu.Unlock()
		p.startIdle()
	})
}

// startIdle starts one process, and then the next one.
func (p *processes) startIdle() {
	if !p.slots.TryEnter() {
		return // all are in use by calls
	}
	m, err := p.start(p.ctx)
	p.mu.Lock()
	closed := p.isClosed
	if err == nil {
		p.idle = append(p.idle, m)
	} else {
		p.failures++
	}
	p.mu.Unlock()
	if err != nil && !closed {
		p.node.config.Logger.Warn("a program could not be started", "command", p.node.config.Args[0], "error", err)
	}
	p.leave()
}

// fill starts the first Min processes, concurrently.
func (p *processes) fill(ctx context.Context) error {
	results := make(chan error)
	for range p.node.config.Min {
		go func() {
			m, err := p.start(ctx)
			if err == nil {
				p.mu.Lock()
				p.idle = append(p.idle, m)
				p.mu.Unlock()
			}
			results <- err
		}()
	}
	var failed error
	for range p.node.config.Min {
		if err := <-results; err != nil {
			failed = err
		}
	}
	return failed
}

// close ends all processes, and waits until nothing is left.
func (p *processes) close(ctx context.Context) {
	p.mu.Lock()
	if !p.isClosed {
		p.isClosed = true
		p.slots.Close()
		p.cancel(errClosed)
		if p.timer != nil {
			p.timer.Stop()
		}
	}
	for _, m := range p.all {
		if slices.Contains(p.idle, m) {
			m.closeInput()
		} else {
			m.end(errClosed)
		}
	}
	all := slices.Clone(p.all)
	p.mu.Unlock()
	grace := time.NewTimer(p.node.config.Grace)
	defer grace.Stop()
	for _, m := range all {
		select {
		case <-m.done:
			continue
		case <-grace.C:
			grace.Reset(0)
		case <-ctx.Done():
		}
		m.kill()
	}
	p.running.Wait()
}

const (
	// firstDelay and lastDelay bound the delays of a replacement.
	firstDelay = 100 * time.Millisecond
	lastDelay  = 30 * time.Second
)

// delayAfter returns how long a replacement waits after a number of failures in a row: not at
// all after the first, then it doubles.
func delayAfter(failures int) time.Duration {
	if failures <= 1 {
		return 0
	}
	return min(lastDelay, firstDelay<<min(failures-2, 16))
}

func without(all []*process, m *process) []*process {
	return slices.DeleteFunc(all, func(each *process) bool { return each == m })
}
