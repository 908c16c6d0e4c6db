package retry

import "sync"

// changes hands changes of state to an observer: in order, one at a time, and
// without the breaker's lock. The goroutine that finds nobody telling tells all
// that there is; others leave theirs to it.
type changes struct {
	lock    sync.Mutex
	waiting []change
	telling bool
}

type change struct{ from, to State }

// add notes a change. The breaker's lock is held, which makes the order.
func (c *changes) add(from, to State) {
	c.lock.Lock()
	defer c.lock.Unlock()
	c.waiting = append(c.waiting, change{from, to})
}

// tell hands over what waits. An observer that panics loses its change only.
func (c *changes) tell(observe func(from, to State)) {
	if !c.begin() {
		return
	}
	panicked := true
	defer func() {
		if panicked {
			c.stop()
		}
	}()
	for next, ok := c.next(); ok; next, ok = c.next() {
		observe(next.from, next.to)
	}
	panicked = false
}

func (c *changes) begin() bool {
	c.lock.Lock()
	defer c.lock.Unlock()
	if c.telling || len(c.waiting) == 0 {
		return false
	}
	c.telling = true
	return true
}

// next takes the oldest change. Where there is none it ends the telling in the
// same breath, so that a change added right after finds nobody telling.
func (c *changes) next() (change, bool) {
	c.lock.Lock()
	defer c.lock.Unlock()
	if len(c.waiting) == 0 {
		c.telling = false
		return change{}, false
	}
	first := c.waiting[0]
	c.waiting = c.waiting[1:]
	return first, true
}

func (c *changes) stop() {
	c.lock.Lock()
	defer c.lock.Unlock()
	c.telling = false
}
