package cluster

import (
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/cluster/internal/wire"
)

// How a stream of a pipeline continues when its machine is lost, as the machine announces it.
const (
	resumesNot   = ""       // it fails
	resumesEach  = "each"   // each sink returns one value for each item: from the first item without one
	resumesState = "states" // from the last checkpoint
)

// The client asks for a checkpoint after some items, or bytes, whichever comes first.
const (
	checkpointItems = 64
	checkpointBytes = 4 << 20
)

// mostLogged and mostLoggedBytes bound the items that a client keeps.
const (
	mostLogged      = 1024
	mostLoggedBytes = 64 << 20
)

// input is an item that was put into a stream.
type input struct {
	payload ipc.Payload
	packed  arrival
	size    int64
}

// inputLog is the items of a stream that its machine, or another one, may still need.
//
//	items before first   are forgotten: sent, if the stream cannot be resumed; if it can, the
//	                     checkpoint is behind them, or their values have arrived
//	first to sent        were sent to the current machine
//	sent to the end      wait for credit
type inputLog struct {
	most    int // items
	resumes string
	items   []input // from first on
	first   int     // counted from the beginning of the stream
	sent    int
	bytes   int64
	fresh   int64 // bytes of the items from first to sent
	saving  int   // the item behind which the machine takes a checkpoint; 0 if none is asked for
	closed  bool  // no item follows
	ended   bool  // the machine knows that

	// What the last checkpoint has: the states, and how many values each sink has returned.
	states  map[string][]byte
	emitted map[string]int
}

func (g *inputLog) add(in input) {
	g.items = append(g.items, in)
	g.bytes += in.size
}

func (g *inputLog) isSent() bool { return g.sent == g.first+len(g.items) }

// hasRoom reports whether an item of a size may be added. An empty log takes one of any size.
func (g *inputLog) hasRoom(size int64) bool {
	return len(g.items) == 0 || len(g.items) < g.most && g.bytes+size <= mostLoggedBytes
}

// next returns the next frame to send, and false if there is none.
func (g *inputLog) next() (arrival, bool) {
	if g.isSent() {
		return arrival{}, false
	}
	in := &g.items[g.sent-g.first]
	a := in.packed
	g.sent++
	g.fresh += in.size
	switch {
	case g.resumes == resumesNot:
		g.forget(g.sent)
	case g.resumes == resumesState && g.saving == 0 && (g.sent-g.first >= checkpointItems || g.fresh >= checkpointBytes):
		g.saving = g.sent
		a.flags |= flagSave
	}
	return a, true
}

// forget drops the items before one.
func (g *inputLog) forget(first int) {
	n := first - g.first
	for i := range g.items[:n] {
		g.bytes -= g.items[i].size
		g.fresh -= g.items[i].size
	}
	clear(g.items[:n])
	g.items, g.first = g.items[n:], first
}

// rewind makes the log begin again, on another machine.
func (g *inputLog) rewind(resumes string) {
	g.resumes, g.sent, g.fresh, g.saving, g.ended = resumes, g.first, 0, 0, false
}

// claimed returns the items whose contents are in the value store.
func (g *inputLog) claimed() (all []arrival) {
	for i := range g.items {
		if g.items[i].packed.flags&flagClaimed != 0 {
			all = append(all, g.items[i].packed)
		}
	}
	return all
}

// opening is the content of a frame that opens a stream.
type opening struct {
	Window int               `msgpack:"window"`
	States map[string][]byte `msgpack:"states,omitempty"`
}

// on runs the stream on one machine. It returns nil if the stream is to continue on another
// one, and otherwise why it has ended.
func (s *Stream) on(a *attempt) error {
	first, err := s.attach(a)
	if err == nil {
		err = s.open(a)
	}
	for err == nil {
		select {
		case how := <-a.answer:
			return s.conclude(a, how, first)
		case state := <-s.states:
			err = s.save(state)
		case <-s.ctx.Done():
			err = s.ctx.Err()
		}
	}
	s.client.settle(a, answer{err: err})
	s.detach()
	s.client.tell(a, frameCancel)
	return err
}

// attach makes an attempt the one of the stream, and returns the item that it begins with.
func (s *Stream) attach(a *attempt) (first int, err error) {
	if err := s.repack(); err != nil {
		return 0, err
	}
	nc, subject, reply := s.client.conn.nc, a.target.subject, s.client.inbox+"."+a.name
	s.mu.Lock()
	defer s.mu.Unlock()
	s.log.rewind(a.resumes)
	s.skip = make(map[string]int)
	for sink, n := range s.counts {
		if a.resumes == resumesEach {
			s.skip[sink] = n - s.log.first
		} else {
			s.skip[sink] = n - s.log.emitted[sink]
		}
	}
	l := newLane(&s.mu, s.window, func(frame []byte) { _ = nc.PublishRequest(subject, reply, frame) }, nil)
	l.arrive = func(r arrival) { s.arriveLocked(a, l, r) }
	l.changed = s.sender
	s.attempt, s.lane, s.base, s.over = a, l, s.log.emitted, nil
	return s.log.first, nil
}

// repack stores the contents of items again that a machine may have taken from the value store.
func (s *Stream) repack() error {
	s.mu.Lock()
	items := slices.Clone(s.log.items[:s.log.sent-s.log.first])
	s.mu.Unlock()
	for i := range items {
		if items[i].packed.flags&flagClaimed == 0 {
			continue
		}
		var err error
		if items[i].packed, _, err = s.client.conn.packValue(s.ctx, 0, "", items[i].payload); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	copy(s.log.items, items) // between two machines, Send alone changes the log, at its end
	return nil
}

// open sends the frame that opens the stream on its machine.
func (s *Stream) open(a *attempt) error {
	c, ctx := s.client, s.ctx
	head := callHead{waited: time.Since(s.call.since)}
	if a.mayWait {
		head.flags |= flagMayWait
	}
	if deadline, ok := ctx.Deadline(); ok {
		head.flags |= flagDeadline
		head.timeout = time.Until(deadline)
	}
	content, err := appendDocument(nil, opening{Window: s.window, States: s.log.states})
	if err != nil {
		return runner.Wrap(err, runner.KindOther, "open the stream")
	}
	room := wire.PayloadRoom + headerSize(s.call.header)
	packed, _, err := c.conn.pack(ctx, 0, "", content, room)
	if err != nil {
		return err
	}
	head.flags |= packed.flags
	if s.call.progress != nil {
		head.flags |= flagProgress
	}
	err = c.outbox.sendNow(&nats.Msg{
		Subject: a.target.subject, Reply: c.inbox + "." + a.name, Header: s.call.header,
		Data: append(appendCall(nil, frameOpen, head), packed.content...),
	}, &a.number)
	if err != nil {
		e := runner.Wrap(err, runner.KindTransport, "open the stream")
		e.NotBegun = true
		return e
	}
	return nil
}

// handle processes a frame of the machine. It reports whether the stream has ended there.
func (s *Stream) handle(a *attempt, kind frameKind, flags byte, c *cursor) (over *arrival) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.attempt != a || s.lane == nil {
		return nil
	}
	s.lane.handleLocked(kind, flags, c)
	s.pumpLocked()
	return s.over
}

// sync tells the machine of an attempt what was sent and has arrived.
func (s *Stream) sync(a *attempt) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.attempt == a && s.lane != nil && s.lane.allowed > 0 {
		s.lane.flowLocked(flagAsk)
	}
}

// arriveLocked takes a frame of the machine.
func (s *Stream) arriveLocked(a *attempt, l *lane, r arrival) {
	switch {
	case r.flags&(flagEnd|flagFault) != 0:
		s.over = &r
	case r.flags&flagState != 0:
		l.takenLocked()
		s.states <- r // there is one at a time
	case s.skip[r.sink] > 0:
		s.skip[r.sink]--
		l.takenLocked()
		if r.flags&flagClaimed != 0 {
			s.stale = append(s.stale, r)
		}
	default:
		s.counts[r.sink]++
		s.queue = append(s.queue, received{r, l})
		s.receiver.Signal()
		if a.resumes == resumesEach {
			s.confirmLocked(a.sinks)
		}
	}
}

// confirmLocked forgets the items whose values have arrived from all sinks.
func (s *Stream) confirmLocked(sinks []string) {
	least := s.log.sent
	for _, sink := range sinks {
		least = min(least, s.counts[sink])
	}
	if least > s.log.first {
		s.log.forget(least)
		s.sender.Broadcast()
	}
}

// save makes a checkpoint of the machine the one from which the stream would continue.
func (s *Stream) save(state arrival) error {
	content, err := s.client.conn.unpack(s.ctx, state)
	if err != nil {
		return err
	}
	var c runner.Checkpoint
	if err := (&cursor{rest: content}).document(&c); err != nil {
		return runner.Wrap(err, runner.KindTransport, "read a checkpoint")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	emitted := make(map[string]int)
	for sink, n := range c.Emitted {
		emitted[sink] = s.base[sink] + n
	}
	s.log.states, s.log.emitted = c.States, emitted
	s.log.forget(s.log.saving)
	s.log.saving = 0
	s.sender.Broadcast()
	return nil
}

// detach leaves the current machine. It reports whether that had begun the stream.
func (s *Stream) detach() (begun bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lane == nil {
		return false
	}
	begun = s.lane.allowed > 0
	left := s.lane.endLocked()
	if s.over == nil {
		s.stale = append(s.stale, left...)
	}
	select {
	case state := <-s.states:
		s.stale = append(s.stale, state)
	default:
	}
	s.lane = nil
	return begun
}

// conclude decides what the end of an attempt means, which had begun with an item: it returns nil
// if the stream continues on another machine.
func (s *Stream) conclude(a *attempt, how answer, first int) error {
	begun := s.detach()
	switch {
	case how.over != nil:
		return s.ended(a, how.over)
	case how.lost != "" && !begun:
		return nil
	case how.lost != "":
		s.client.tell(a, frameCancel) // perhaps it lives
		return s.lost(a, how.lost, first)
	}
	why := "it was stopped"
	if how.none {
		why = "it has ended"
	}
	switch out := s.call.conclude(s.ctx, a, how); {
	case !out.again:
		return out.err
	case begun:
		return s.lost(a, why, first)
	}
	return nil
}

// ended returns why a stream has ended on its machine.
func (s *Stream) ended(a *attempt, last *arrival) error {
	if last.flags&flagEnd != 0 {
		return io.EOF
	}
	content, err := s.client.conn.unpack(s.ctx, *last)
	if err != nil {
		return err
	}
	var f wire.Failure
	if err := (&cursor{rest: content}).document(&f); err != nil {
		return runner.Wrap(err, runner.KindTransport, "read the failure of the stream").WithMetadata("machine", a.machine)
	}
	return f.Err()
}

// lost decides about a stream whose machine is gone. The stream had begun there with an item.
func (s *Stream) lost(a *attempt, why string, first int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.call.tried)
	if s.log.first > first {
		s.call.moves = 0
	}
	s.call.moves++
	if a.resumes != resumesNot && s.call.moves <= mostMoves {
		return nil
	}
	in, out := s.log.sent, 0
	for _, n := range s.counts {
		out += n
	}
	e := runner.NewError(runner.KindTransport, fmt.Sprintf("machine %s was lost during the stream: %s; %d items had gone in, %d come out", a.machine, why, in, out))
	e.Verdict = runner.VerdictPermanent
	e = e.WithMetadata("machine", a.machine).WithMetadata("may_have_run", "true")
	if a.resumes != resumesNot {
		return e.WithHint(fmt.Sprintf("%d machines were lost while they ran the same items; perhaps these end them", s.call.moves))
	}
	return e.WithHint("a stream continues on another machine if all nodes are idempotent, and those that keep a state have snapshot() and restore()")
}
