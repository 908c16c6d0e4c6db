package worker

import (
	"context"
	"sync"
	"syscall"
	"time"

	"github.com/gophersnake/gophersnake/ipc"
)

// guard watches over one call: it ends the interpreter where the call passes its
// deadline, and where the node goes on after its cancellation. A worker that has
// other calls under way at the same time is spared where the node gives the one
// call up.
//
// Most calls are over before anything of that matters. So a guard is used again, and
// does nothing until the worker's lookout finds that its call takes its time.
type guard struct {
	worker *Worker
	call   *ipc.Call
	ctx    context.Context
	begun  time.Duration // in the worker's life
	told   func()        // g.knock, bound once

	// Its place in the lookout's list.
	listed       bool
	older, newer *guard

	mu      sync.Mutex
	settled bool
	started time.Duration // when the deadline began to count, in the worker's life
	paused  bool          // the deadline does not count
	watched bool          // it watches the context and the deadline
	stop    func() bool   // takes it off the context
	timer   *time.Timer   // for the deadline; nil where that has not counted yet
	overdue bool          // the deadline has passed, and the call was cancelled over it
	grace   *time.Timer   // set by a cancellation
}

var guards = sync.Pool{New: func() any {
	g := &guard{}
	g.told = g.knock
	return g
}}

func (w *Worker) guard(ctx context.Context, call *ipc.Call) *guard {
	g := guards.Get().(*guard)
	g.worker, g.call, g.ctx, g.begun = w, call, ctx, w.age()
	g.started = g.begun
	call.OnCancelSent = g.told
	w.lookout.add(g)
	return g
}

// age is the time since the worker's birth. It costs one look at the clock, where the
// time of day would cost two.
func (w *Worker) age() time.Duration { return time.Since(w.born) }

// watch begins to watch the context and the deadline.
func (g *guard) watch() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.settled {
		return
	}
	limitsKept.wake() // the call takes its time
	g.watched = true
	g.stop = context.AfterFunc(g.ctx, g.cancelled)
	if timeout := g.worker.config.Timeout; timeout > 0 && !g.paused {
		g.expireIn(timeout - (g.worker.age() - g.started))
	}
}

// expireIn sets the timer for the deadline; the lock is held.
func (g *guard) expireIn(d time.Duration) {
	if g.timer == nil {
		g.timer = time.AfterFunc(d, g.expire)
	} else {
		g.timer.Reset(d)
	}
}

// release ends the watch, and reports whether the call was cancelled over its
// deadline. A guard that has watched is left to what may still run of it, with the
// call, and not used again; else the call is the caller's alone.
func (g *guard) release() (overdue, alone bool) {
	if g.worker.lookout.remove(g) {
		g.worker, g.call, g.ctx, g.paused = nil, nil, nil, false
		guards.Put(g)
		return false, true
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.settled = true
	if g.stop != nil {
		g.stop()
	}
	if g.timer != nil {
		g.timer.Stop()
	}
	if g.grace != nil {
		g.grace.Stop()
	}
	return g.overdue, false
}

// pause stops the clock while it is not the node that takes its time. The context
// is watched nevertheless.
func (g *guard) pause() { g.setPaused(true) }

// resume gives the node its whole time again, for its next value.
func (g *guard) resume() {
	g.worker.itemsGiven.Add(1)
	g.setPaused(false)
}

func (g *guard) setPaused(paused bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.paused = paused
	switch timeout := g.worker.config.Timeout; {
	case !g.watched:
		g.started = g.worker.age()
	case timeout == 0:
	case paused:
		g.timer.Stop()
	default:
		g.expireIn(timeout)
	}
}

// expire ends what has passed its deadline.
func (g *guard) expire() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.settled || g.overdue || g.paused {
		return
	}
	if owed := g.worker.owed(g.call); owed > 0 {
		g.expireIn(owed)
		return
	}
	if g.worker.inOrder() {
		g.worker.process.end(ReasonDeadline)
		return
	}
	g.overdue = true
	if g.grace == nil {
		g.grace = time.AfterFunc(g.worker.config.Grace, func() { g.ignored(ReasonDeadline) })
		go g.call.Cancel() // a worker that does not read may hold it up
	}
}

// cancelled asks the node to give up, and sees to it that the interpreter ends
// if it does not. The time runs before anything is sent, because a worker that
// does not read may hold that up.
func (g *guard) cancelled() {
	g.mu.Lock()
	if g.settled {
		g.mu.Unlock()
		return
	}
	if g.grace == nil {
		g.grace = time.AfterFunc(g.worker.config.Grace, func() { g.ignored(ReasonCancel) })
	}
	g.mu.Unlock()
	if !g.call.Cancel() {
		g.worker.process.signal(syscall.SIGUSR1) // it may be the worker that holds it up
	}
}

// knock has the worker look at its mail, where there is a cancellation.
func (g *guard) knock() {
	g.worker.process.signal(syscall.SIGUSR1)
	g.abandon()
}

// abandon gives up waiting for a cancelled call where the worker will skip it when
// it comes to it, or will not stop a batch for it.
func (g *guard) abandon() bool {
	w := g.worker
	if w.description.Batch == 0 && !(w.inOrder() && g.call.HasEarlierCalls()) {
		return false
	}
	g.call.Abandon()
	w.watchForsaken(w.config.Timeout)
	return true
}

// watchForsaken sees to it that calls that were given up have a deadline, too: one timer
// for all of them.
func (w *Worker) watchForsaken(after time.Duration) {
	if w.config.Timeout > 0 && w.forsaken.CompareAndSwap(false, true) {
		time.AfterFunc(after, w.endForsaken)
	}
}

// endForsaken ends an interpreter that has passed the deadline with nothing but calls
// that were given up. Where somebody waits for one that has begun, it is he who watches.
func (w *Worker) endForsaken() {
	rest := w.config.Timeout
	if begun, counted := readBegun(w.process.autopsy); counted && w.conn.WorksOnlyOnAbandoned(begun) {
		if rest -= w.conn.SinceAnswer(); rest <= 0 {
			w.process.end(ReasonDeadline)
			return
		}
	}
	w.forsaken.Store(false)
	if w.conn.Abandoned() > 0 {
		w.watchForsaken(rest)
	}
}

// ignored ends an interpreter whose node went on through the grace time.
func (g *guard) ignored(reason Reason) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.settled && !g.abandon() {
		g.worker.process.end(reason)
	}
}
