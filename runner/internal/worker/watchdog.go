package worker

import (
	"context"
	"sync"
	"time"

	"github.com/gophersnake/gophersnake/ipc"
)

// watchAfter is how long a call runs before its guard is armed.
const watchAfter = 2 * time.Millisecond

// watchdog counts the calls of a worker and arms the guards of those that run for
// longer than watchAfter. Most calls return before that. For these a guard costs no
// more than its place in a list, and one timer serves all of them.
type watchdog struct {
	mu             sync.Mutex // guards the fields below
	oldest, newest *callGuard // the list of guards that are not armed, in the order of their calls
	begun, ended   uint64     // how many calls have begun, and ended
	timer          *time.Timer
	isTimed        bool // the timer is set, or its function runs
}

// begin registers a call and returns its guard. Every guard must be passed to
// finish.
func (d *watchdog) begin(ctx context.Context, w *Worker, call *ipc.Call) *callGuard {
	g := guardPool.Get().(*callGuard)
	g.worker, g.call, g.ctx, g.begun = w, call, ctx, w.age()
	g.deadlineFrom = g.begun
	call.Told = g.onCancelSent
	d.mu.Lock()
	defer d.mu.Unlock()
	d.begun++
	g.listed, g.older = true, d.newest
	if g.older != nil {
		g.older.newer = g
	} else {
		d.oldest = g
	}
	d.newest = g
	switch {
	case d.isTimed:
	case d.timer == nil:
		d.timer = time.AfterFunc(watchAfter, d.armDue)
	default:
		d.timer.Reset(watchAfter)
	}
	d.isTimed = true
	return g
}

// finish ends the guard of a call that has returned. It reports whether the call
// was canceled for passing its deadline, and whether the caller has the call
// exclusively: functions of a guard that was armed may still hold it.
func (d *watchdog) finish(g *callGuard) (overdue, exclusive bool) {
	d.mu.Lock()
	d.ended++
	exclusive = g.listed
	if exclusive {
		d.unlistLocked(g)
	}
	d.mu.Unlock()
	if !exclusive {
		return g.settle(), false
	}
	g.worker, g.call, g.ctx, g.paused = nil, nil, nil, false
	guardPool.Put(g)
	return false, true
}

// counts returns how many calls have begun, and ended.
func (d *watchdog) counts() (begun, ended uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.begun, d.ended
}

// armDue arms all guards that are due. The timer calls it.
func (d *watchdog) armDue() {
	for g := d.takeDue(); g != nil; g = d.takeDue() {
		g.arm()
	}
}

// takeDue takes a guard that is due off the list. If there is none, it sets the
// timer for the oldest one.
func (d *watchdog) takeDue() *callGuard {
	d.mu.Lock()
	defer d.mu.Unlock()
	g := d.oldest
	if g == nil {
		d.isTimed = false
		return nil
	}
	if left := watchAfter - (g.worker.age() - g.begun); left > 0 {
		d.timer.Reset(left)
		return nil
	}
	d.unlistLocked(g)
	return g
}

func (d *watchdog) unlistLocked(g *callGuard) {
	if g.older != nil {
		g.older.newer = g.newer
	} else {
		d.oldest = g.newer
	}
	if g.newer != nil {
		g.newer.older = g.older
	} else {
		d.newest = g.older
	}
	g.listed, g.older, g.newer = false, nil, nil
}
