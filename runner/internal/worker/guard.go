package worker

import (
	"context"
	"sync"
	"syscall"
	"time"

	"github.com/gophersnake/gophersnake/ipc"
)

// callGuard enforces the deadline and the cancellation of one call. Its methods run on
// several goroutines: those of the call, of the watchdog, of the context and of timers.
//
// A guard is in one of these states:
//
//	state    entered when                         the guard
//	listed   the call begins                      is in the watchdog's list and does nothing
//	armed    the call has run for watchAfter      watches the context and the deadline
//	paused   Items waits for its caller           watches the context only
//	overdue  the deadline passes, if that does    has canceled the call, and waits for the
//	         not end the worker                   grace period
//	settled  the call has returned                does nothing
//
// Most calls return while their guard is listed. Only such a guard is used again,
// because the timers of an armed one may still be running.
//
// A deadline that passes ends the interpreter of a serial worker, which runs one
// call at a time. In other workers it only cancels the call.
//
// When the context or the deadline cancels a call, the guard sends the cancellation
// to the worker, and the wake signal, on which the worker reads it. The node then has
// the grace period to stop; after that the guard ends the interpreter. But if the
// worker runs the call in a batch, or runs other calls before it, the guard does not
// wait: it abandons the call. It cannot abandon a call that is still being sent because
// the worker does not read its socket. If that lasts for the grace period, the guard ends
// the interpreter, too.
type callGuard struct {
	worker       *Worker
	call         *ipc.Call
	ctx          context.Context
	begun        time.Duration // when the call began, as Worker.age
	onCancelSent func()        // the method cancelSent, bound once for all uses

	// The watchdog's lock guards these.
	listed       bool
	older, newer *callGuard // links in the watchdog's list

	mu           sync.Mutex // guards the fields below
	settled      bool
	deadlineFrom time.Duration // when the deadline began to count, as Worker.age
	paused       bool          // the deadline does not count
	armed        bool
	stop         func() bool // stops watching the context
	timer        *time.Timer // fires at the deadline; nil until that is first counted
	overdue      bool        // the deadline has passed, and the call was canceled for it
	grace        *time.Timer // runs from the cancellation; nil before
}

// guardPool holds guards that can be used again.
var guardPool = sync.Pool{New: func() any {
	g := &callGuard{}
	g.onCancelSent = g.cancelSent
	return g
}}

// arm starts to watch the context and the deadline, because the call has run for
// watchAfter. The watchdog calls it, once.
func (g *callGuard) arm() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.settled {
		return
	}
	limitSampler.wake() // this call takes long enough to be sampled
	g.armed = true
	g.stop = context.AfterFunc(g.ctx, g.cancel)
	if timeout := g.worker.config.firstDeadline(); timeout > 0 && !g.paused {
		g.expireInLocked(timeout - (g.worker.age() - g.deadlineFrom))
	}
}

// expireInLocked makes expire run after d.
func (g *callGuard) expireInLocked(d time.Duration) {
	if g.timer == nil {
		g.timer = time.AfterFunc(d, g.expire)
	} else {
		g.timer.Reset(d)
	}
}

// settle ends an armed guard when its call has returned, and reports whether the
// call was canceled for passing its deadline. Functions of the guard that run later
// do nothing.
func (g *callGuard) settle() (overdue bool) {
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
	return g.overdue
}

// pause stops the deadline while the caller, not the node, takes time. The context
// is still watched.
func (g *callGuard) pause() { g.setPaused(true) }

// resume starts the deadline anew: the node has the whole timeout for its next item.
func (g *callGuard) resume() {
	g.worker.itemsEmitted.Add(1)
	g.setPaused(false)
}

// setPaused stops the timer of the deadline or restarts it. A guard that is not armed has
// no timer; for it only the time from which the deadline counts is moved.
func (g *callGuard) setPaused(paused bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.paused = paused
	switch timeout := g.worker.config.Timeout; {
	case !g.armed:
		g.deadlineFrom = g.worker.age()
	case timeout == 0:
	case paused:
		g.timer.Stop()
	default:
		g.expireInLocked(timeout)
	}
}

// expire acts on a deadline that has passed. If the call has time left because the
// worker began it late, expire runs again after that time. Otherwise it ends a serial
// worker, and in other workers cancels only this call.
func (g *callGuard) expire() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.settled || g.overdue || g.paused {
		return
	}
	if left := g.worker.timeLeft(g.call, g.worker.age()-g.deadlineFrom); left > 0 {
		g.expireInLocked(left)
		return
	}
	if g.worker.isSerial() {
		g.worker.process.end(ReasonDeadline)
		return
	}
	g.overdue = true
	if g.grace == nil {
		g.grace = time.AfterFunc(g.worker.config.Grace, func() { g.endIgnored(ReasonDeadline) })
		go g.call.Cancel() // it blocks while the worker does not read its socket
	}
}

// cancel cancels the call after its context has ended. The grace period starts
// before anything is sent, because sending blocks while the worker does not read its
// socket.
func (g *callGuard) cancel() {
	g.mu.Lock()
	if g.settled {
		g.mu.Unlock()
		return
	}
	if g.grace == nil {
		g.grace = time.AfterFunc(g.worker.config.Grace, func() { g.endIgnored(ReasonCancel) })
	}
	g.mu.Unlock()
	if !g.call.Cancel() {
		g.worker.wake() // the call is still being sent, perhaps because the worker does not read
	}
}

// cancelSent runs after the cancellation has been sent: it makes the worker read
// it, and abandons the call if the worker will not answer it soon.
func (g *callGuard) cancelSent() {
	g.worker.wake()
	g.abandon()
}

// endIgnored ends the interpreter of a node that ran on through the grace period.
func (g *callGuard) endIgnored(reason Reason) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.settled && !g.abandon() {
		g.worker.process.end(reason)
	}
}

// abandon makes the caller of a canceled call return without the worker's answer,
// and reports whether it did. It does so only if the answer may take long for a
// reason other than this call: the worker has other calls to run before it skips
// this one, or runs it in a batch, which one cancellation does not stop.
func (g *callGuard) abandon() bool {
	w := g.worker
	if w.description.Batch == 0 && !(w.isSerial() && g.call.HasEarlierCalls()) {
		return false
	}
	if !g.call.Abandon() {
		return false
	}
	w.watchAbandoned(w.config.Timeout)
	return true
}

// wake sends the wake signal, SIGUSR1, on which the worker's signal handler reads the
// connection and finds cancellations there.
func (w *Worker) wake() { w.process.signal(syscall.SIGUSR1) }

// isSerial reports whether the worker runs its calls one after the other.
func (w *Worker) isSerial() bool { return w.description.Concurrency <= 1 }

// timeLeft returns the time that is left to a call whose timeout has passed since it
// was sent, that long ago; 0 or less if there is none. In a serial worker the timeout counts from when
// the worker began the call. While calls that still have a caller are before it, their
// guards watch the worker, so the call has its whole timeout left. Abandoned calls
// before it have no guards, so the timeout counts from the worker's last answer.
func (w *Worker) timeLeft(call *ipc.Call, sent time.Duration) time.Duration {
	if !w.isSerial() {
		return 0
	}
	if call.HasEarlierPending() {
		return w.config.firstDeadline()
	}
	if len(w.config.Members) > 0 {
		return w.memberTimeLeft(min(sent, w.conn.SinceAnswer()))
	}
	return w.config.Timeout - w.conn.SinceAnswer()
}

// memberTimeLeft returns after which time the deadlines of a fused chain are to be checked again,
// if the worker has run its call for at most the given time; 0 or less if one has passed. When
// the running member has begun is the word of the worker, which the sum of all deadlines bounds.
func (w *Worker) memberTimeLeft(took time.Duration) time.Duration {
	left := w.config.firstDeadline() // another member may be running by then
	if total := w.config.Timeout; total > 0 {
		left = min(left, total-took)
	}
	number, ran := readMember(w.process.autopsyFile)
	if limit := w.config.Members[w.config.memberIndex(number)].Timeout; limit > 0 {
		left = min(left, limit-min(ran, took))
	}
	return left
}

// watchAbandoned starts the timer that checks all abandoned calls of the worker, unless
// it runs already. Abandoned calls have no guards, but a deadline, too.
func (w *Worker) watchAbandoned(after time.Duration) {
	if w.config.Timeout > 0 && w.watchesAbandoned.CompareAndSwap(false, true) {
		time.AfterFunc(after, w.checkAbandoned)
	}
}

// checkAbandoned ends an interpreter that has spent its timeout on abandoned calls
// only. If a call that has begun still has a caller, that call's guard watches the
// worker. The timer runs again while there are abandoned calls.
func (w *Worker) checkAbandoned() {
	left := w.config.Timeout
	if begun, counted := readBegun(w.process.autopsyFile); counted && w.conn.WorksOnlyOnAbandoned(begun) {
		if left -= w.conn.SinceAnswer(); left <= 0 {
			w.process.end(ReasonDeadline)
			return
		}
	}
	w.watchesAbandoned.Store(false)
	if w.conn.Abandoned() > 0 {
		w.watchAbandoned(left)
	}
}
