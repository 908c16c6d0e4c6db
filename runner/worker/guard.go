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
// call up. Guards are used again, so that a call costs neither a timer nor its
// functions.
type guard struct {
	worker   *Worker
	call     *ipc.Call
	deadline *time.Timer
	cancel   func() // g.cancelled, bound once
	told     func() // g.knock, bound once
	stop     func() bool

	mu      sync.Mutex
	settled bool
	overdue bool        // the deadline has passed, and the call was cancelled over it
	grace   *time.Timer // set by a cancellation
}

var guards = sync.Pool{New: func() any {
	g := &guard{}
	g.cancel, g.told = g.cancelled, g.knock
	return g
}}

func (w *Worker) guard(ctx context.Context, call *ipc.Call) *guard {
	g := guards.Get().(*guard)
	g.worker, g.call, g.settled = w, call, false
	call.Told = g.told
	if timeout := w.config.Timeout; timeout > 0 {
		if g.deadline == nil {
			g.deadline = time.AfterFunc(timeout, g.expired)
		} else {
			g.deadline.Reset(timeout)
		}
	}
	if ctx.Done() != nil {
		g.stop = context.AfterFunc(ctx, g.cancel)
	}
	return g
}

// release ends the watch, and reports whether the call was cancelled over its
// deadline. A guard of which something has begun to run is left to it, with the
// call, and not used again; else the call is the caller's alone.
func (g *guard) release() (overdue, alone bool) {
	reusable := g.worker.config.Timeout <= 0 || g.deadline.Stop()
	if g.stop != nil {
		reusable = g.stop() && reusable
	}
	g.mu.Lock()
	g.settled = true
	overdue = g.overdue
	if g.grace != nil {
		g.grace.Stop()
	}
	g.mu.Unlock()
	g.worker.answered.Store(int64(time.Since(g.worker.born)))
	if reusable {
		g.worker, g.call, g.stop = nil, nil, nil
		guards.Put(g)
	}
	return overdue, reusable
}

// pause stops the clock while it is not the node that takes its time.
func (g *guard) pause() {
	if g.deadline != nil {
		g.deadline.Stop()
	}
}

// resume gives the node its whole time again, for its next value.
func (g *guard) resume() {
	if timeout := g.worker.config.Timeout; timeout > 0 {
		g.deadline.Reset(timeout)
	}
}

// expired ends what has passed its deadline.
func (g *guard) expired() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.settled || g.overdue {
		return
	}
	if owed := g.worker.owed(g.call); owed > 0 {
		g.deadline.Reset(owed)
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
	return true
}

// ignored ends an interpreter whose node went on through the grace time.
func (g *guard) ignored(reason Reason) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.settled && !g.abandon() {
		g.worker.process.end(reason)
	}
}
