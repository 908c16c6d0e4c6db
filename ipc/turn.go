package ipc

// note is what the caller of a call is told while he waits.
type note uint8

const (
	over     note = iota // the call has its answer, or its error; the last note
	yourTurn             // he is the one who reads now
)

// claim takes the turn to read for a call, where nobody has it. Else the call stands in
// line: its caller is told when it is his turn, unless his answer comes before.
func (c *Conn) claim(call *Call) bool {
	call.inLine.Store(true) // first, so that who ends his turn meanwhile finds the call or leaves the turn
	if c.reading.Load() || !c.reading.CompareAndSwap(false, true) {
		return false
	}
	call.inLine.Store(false)
	return true
}

// endTurn lets the next caller in line read, if there is one.
func (c *Conn) endTurn() {
	c.reading.Store(false)
	c.calls.Lock()
	defer c.calls.Unlock()
	next := c.latestInLine()
	if next != nil && c.reading.CompareAndSwap(false, true) {
		next.inLine.Store(false)
		next.notes <- yourTurn // with the lock held, so that it comes before over
	}
}

// isAwaited reports whether somebody waits for his turn.
func (c *Conn) isAwaited() bool {
	c.calls.Lock()
	defer c.calls.Unlock()
	return c.latestInLine() != nil
}

// leaveLine takes a call out of the line whose caller has something else to do. If it
// has become his turn already, it is the next one's.
func (c *Conn) leaveLine(call *Call) {
	c.calls.Lock()
	call.inLine.Store(false)
	c.calls.Unlock()
	select {
	case told := <-call.notes:
		if told == yourTurn {
			c.endTurn()
		} else {
			call.notes <- told // for when he is back
		}
	default:
	}
}

// fewLooked is how many calls are looked at to find a late one.
const fewLooked = 64

// latestInLine returns the call in line that is likely to be answered last: its caller
// reads for the others for longest, and the turn is seldom handed on. The calls' lock is
// held.
func (c *Conn) latestInLine() *Call {
	var latest *Call
	looked := 0
	for _, call := range c.calls.open {
		if call.inLine.Load() && (latest == nil || call.head.call > latest.head.call) {
			latest = call
		}
		if looked++; looked >= fewLooked && latest != nil {
			break
		}
	}
	return latest
}
