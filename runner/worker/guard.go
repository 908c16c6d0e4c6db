package worker

import (
	"context"
	"sync"
	"syscall"
	"time"

	"github.com/gophersnake/gophersnake/ipc"
)

// guard watches over one call: it ends the interpreter where the call passes its
// deadline, and where the node goes on after its cancellation. Guards are used
// again, so that a call costs neither a timer nor its functions.
type guard struct {
	worker   *Worker
	call     *ipc.Call
	deadline *time.Timer
	cancel   func() // g.cancelled, bound once
	stop     func() bool

	mu      sync.Mutex
	settled bool
	grace   *time.Timer // set by a cancellation
}

var guards = sync.Pool{New: func() any {
	g := &guard{}
	g.cancel = g.cancelled
	return g
}}

func (w *Worker) guard(ctx context.Context, call *ipc.Call) *guard {
	g := guards.Get().(*guard)
	g.worker, g.call, g.settled = w, call, false
	if timeout := w.config.Timeout; timeout > 0 {
		if g.deadline == nil {
			g.deadline = time.AfterFunc(timeout, func() { g.end(ReasonDeadline) })
		} else {
			g.deadline.Reset(timeout)
		}
	}
	if ctx.Done() != nil {
		g.stop = context.AfterFunc(ctx, g.cancel)
	}
	return g
}

// release ends the watch. A guard of which something has begun to run is left
// to it, and not used again.
func (g *guard) release() {
	reusable := g.worker.config.Timeout <= 0 || g.deadline.Stop()
	if g.stop != nil {
		reusable = g.stop() && reusable
	}
	g.mu.Lock()
	g.settled = true
	if g.grace != nil {
		g.grace.Stop()
	}
	g.mu.Unlock()
	if reusable {
		g.worker, g.call, g.stop = nil, nil, nil
		guards.Put(g)
	}
}

// end ends the interpreter, unless the call has been answered.
func (g *guard) end(reason Reason) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.settled {
		g.worker.process.end(reason)
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
	g.grace = time.AfterFunc(g.worker.config.Grace, func() { g.end(ReasonCancel) })
	g.mu.Unlock()
	g.call.Cancel()
	g.worker.process.signal(syscall.SIGUSR1) // look at your mail
}
