package retry

import "sync"

// notifier passes changes of state to an observer: in order, one at a time, and
// without the breaker's lock. The first goroutine to call notify passes on every
// pending change, those that others add meanwhile included; the others return at
// once.
type notifier struct {
	lock      sync.Mutex
	pending   []change
	notifying bool // a goroutine is passing changes on
}

type change struct{ from, to State }

// add queues a change. The caller holds the breaker's lock, which gives the
// changes their order.
func (n *notifier) add(from, to State) {
	n.lock.Lock()
	defer n.lock.Unlock()
	n.pending = append(n.pending, change{from, to})
}

// notify passes the pending changes to observe. If observe panics, only the change
// it was given is lost.
func (n *notifier) notify(observe func(from, to State)) {
	if !n.begin() {
		return
	}
	panicked := true
	defer func() {
		if panicked {
			n.end()
		}
	}()
	for next, ok := n.next(); ok; next, ok = n.next() {
		observe(next.from, next.to)
	}
	panicked = false
}

// begin reports whether the caller is the one to pass changes on.
func (n *notifier) begin() bool {
	n.lock.Lock()
	defer n.lock.Unlock()
	if n.notifying || len(n.pending) == 0 {
		return false
	}
	n.notifying = true
	return true
}

// next removes and returns the oldest change. When there is none, it ends the
// notifying under the same lock, so that no change added right after is left
// pending.
func (n *notifier) next() (change, bool) {
	n.lock.Lock()
	defer n.lock.Unlock()
	if len(n.pending) == 0 {
		n.notifying = false
		return change{}, false
	}
	first := n.pending[0]
	n.pending = n.pending[1:]
	return first, true
}

func (n *notifier) end() {
	n.lock.Lock()
	defer n.lock.Unlock()
	n.notifying = false
}
