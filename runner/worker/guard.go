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
// Most calls are over before anything of that matters. So a guard is used again,
// and does no more at first than to set its timer, which looks after the context
// when the call turns out to take its time.
type guard struct {
	worker  *Worker
	call    *ipc.Call
	ctx     context.Context
	timer   *time.Timer
	started time.Time
	told    func() // g.knock, bound once

	mu      sync.Mutex
	settled bool
	paused  bool        // the deadline does not count
	stop    func() bool // takes the guard off the context, which it watches then
	overdue bool        // the deadline has passed, and the call was cancelled over it
	grace   *time.Timer // set by a cancellation
}

// unwatched is how long the context of a call is not looked at.
const unwatched = 2 * time.Millisecond

var guards = sync.Pool{New: func() any {
	g := &guard{}
	g.told = g.knock
	g.timer = time.AfterFunc(time.Hour, g.look)
	g.timer.Stop()
	return g
}}

func (w *Worker) guard(ctx context.Context, call *ipc.Call) *guard {
	g := guards.Get().(*guard)
	g.worker, g.call, g.ctx, g.settled, g.started = w, call, ctx, false, time.Now()
	call.Told = g.told
	w.callsBegun.Add(1)
	g.timer.Reset(unwatched)
	return g
}

// look begins to watch the context, and from then on waits for the deadline.
func (g *guard) look() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.settled {
		return
	}
	if g.stop == nil {
		limitsKept.wake() // the call takes its time
		g.stop = context.AfterFunc(g.ctx, g.cancelled)
		if timeout := g.worker.config.Timeout; timeout > 0 && !g.paused {
			g.timer.Reset(timeout - time.Since(g.started))
		}
		return
	}
	g.expired()
}

// release ends the watch, and reports whether the call was cancelled over its
// deadline. A guard of which something has begun to run is left to it, with the
// call, and not used again; else the call is the caller's alone.
func (g *guard) release() (overdue, alone bool) {
	g.mu.Lock()
	g.settled = true
	overdue = g.overdue
	alone = g.timer.Stop() && g.stop == nil // it has not begun to look
	if g.stop != nil {
		g.stop()
	}
	if g.grace != nil {
		g.grace.Stop()
	}
	g.mu.Unlock()
	g.worker.callsEnded.Add(1)
	if alone {
		g.worker, g.call, g.ctx = nil, nil, nil
		guards.Put(g)
	}
	return overdue, alone
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
	case g.stop == nil:
		g.started = time.Now() // the timer is about to look at the context
	case paused:
		g.timer.Stop()
	case timeout > 0:
		g.timer.Reset(timeout)
	}
}

// expired ends what has passed its deadline; the lock is held.
func (g *guard) expired() {
	if g.overdue || g.paused {
		return
	}
	if owed := g.worker.owed(g.call); owed > 0 {
		g.timer.Reset(owed)
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
	if w.description.Batch == 0 && !(w.inOrder() && g.call.IsBehindOthers()) {
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
	if begun, counted := readBegun(w.process.autopsy); counted && w.conn.IsForsaken(begun) {
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
