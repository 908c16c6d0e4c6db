package cluster

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner"
)

// peer is a machine as a client knows it. The client's lock guards it.
type peer struct {
	id, name, version, schema string
	labels                    map[string]string
	subject                   string // the prefix of its targets
	leaving                   bool
	heard                     time.Time
	pinged                    *atomic.Uint64         // the number of the last ping
	targets                   map[string]*peerTarget // by the node
}

// peerTarget is a target of a machine as a client knows it.
type peerTarget struct {
	load
	subject    string
	idempotent bool
	ready      bool
	lends      bool   // it takes values that stay in the value store
	streams    bool   // it takes streams
	groups     bool   // it reads groups of calls
	resumes    string // how these continue elsewhere
	described  *ipc.Description
	sinks      []string // of these
	own        int      // calls of this client that are not answered
	others     int      // those of other clients, when the machine reported its load
	inventory  time.Time
}

// report sets the load that the machine has reported.
func (t *peerTarget) report(l load) {
	t.load = l
	t.others = max(l.Active+l.Waiting-t.own, 0)
}

// free returns how many calls the target would start at once, as far as the client knows.
func (t *peerTarget) free() int { return t.Slots - t.own - t.others }

// crowd returns how many calls there are for each slot.
func (t *peerTarget) crowd() float64 { return float64(t.own+t.others) / float64(max(t.Slots, 1)) }

// announced processes the announcement of a machine.
func (c *Client) announced(msg *nats.Msg) {
	var a announcement
	if json.Unmarshal(msg.Data, &a) != nil || a.Machine == "" {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, name := range a.Pipelines {
		c.others[name] = true
	}
	switch {
	case a.Pipeline != c.pipeline:
		return
	case !speaksOurs(a), c.schema != "" && a.Schema != c.schema:
		c.refused[a.Machine] = refusedMachine{a, time.Now()}
		if p := c.machines[a.Machine]; p != nil { // its code was reloaded: it finishes the calls that it has
			p.leaving, p.heard = true, time.Now()
		}
		return
	}
	delete(c.refused, a.Machine)
	p := c.machines[a.Machine]
	isNew := p == nil
	if isNew {
		p = &peer{id: a.Machine, pinged: new(atomic.Uint64), subject: callGroup(c.pipeline, a.Machine), targets: make(map[string]*peerTarget)}
		c.machines[a.Machine] = p
	}
	isNew = isNew || p.leaving && !a.Leaving
	p.name, p.version, p.schema, p.labels, p.leaving, p.heard = a.Name, a.Version, a.Schema, a.Labels, a.Leaving, time.Now()
	for _, state := range a.Targets {
		t := p.targets[state.Node]
		if t == nil {
			t = &peerTarget{subject: p.subject + "." + targetName(state.Node)}
			p.targets[state.Node] = t
		}
		t.idempotent, t.ready, t.lends = state.Idempotent, state.Ready, state.Lends
		t.groups = a.Groups
		t.streams, t.resumes, t.sinks = len(state.Sinks) > 0, state.Resumes, state.Sinks
		if state.Description != nil {
			t.described = state.Description
			isNew = true
		}
		t.report(state.load)
		c.rescueLocked(p, state.Node)
	}
	if isNew {
		c.wakeLocked()
	}
}

// wakeLocked wakes the calls that wait for a machine.
func (c *Client) wakeLocked() {
	close(c.changed)
	c.changed = make(chan struct{})
}

// received processes what arrives in the client's inbox.
func (c *Client) received(msg *nats.Msg) {
	name := lastToken(msg.Subject)
	switch {
	case name == answersToken:
		c.answeredGroup(msg.Data)
	case strings.HasPrefix(name, groupPrefix):
		if isNoResponders(msg) {
			c.loseGroup(name[len(groupPrefix):])
		}
	case name == pingToken:
		if msg.Reply != "" {
			_ = msg.Respond(appendHead(nil, framePong, 0))
		}
	case name == helloToken:
		if isNoResponders(msg) {
			return // no machine at all
		}
		c.announced(msg)
	case name == inventoryToken:
		c.inventoried(msg)
	case strings.HasPrefix(name, alivePrefix):
		c.alive(name[len(alivePrefix):], isNoResponders(msg))
	default:
		c.answered(name, msg.Data, isNoResponders(msg))
	}
}

// answered processes the answer to a call, or a frame of a stream.
func (c *Client) answered(name string, data []byte, none bool) {
	cur := cursor{rest: data}
	kind, flags, err := cur.head()
	switch {
	case err != nil:
	case kind == frameItem, kind == frameFlow:
		c.streamed(name, kind, flags, &cur)
		return
	case kind == frameProgress:
		c.reported(name, &cur)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if a := c.takeLocked(name, &cur, err); a != nil {
		a.answer <- answer{data: data, none: none}
	}
}

// takeLocked forgets the attempt with a name, and notes the load behind the head of its answer. It
// returns nil if the caller has left.
func (c *Client) takeLocked(name string, cur *cursor, err error) *attempt {
	a := c.calls[name]
	if a == nil || !c.removeLocked(a) {
		return nil
	}
	l := cur.load()
	if err != nil || cur.failed {
		return a // the caller says so
	}
	a.peer.heard = time.Now()
	a.target.report(l)
	if c.machines[a.peer.id] == a.peer {
		c.rescueLocked(a.peer, a.node)
	}
	return a
}

// answeredGroup processes a group of answers. The callers wake when the lock is free again.
func (c *Client) answeredGroup(data []byte) {
	type settled struct {
		a     *attempt
		frame []byte
	}
	var all []settled
	cur := cursor{rest: data}
	if kind, _, err := cur.head(); err != nil || kind != frameAnswers {
		return
	}
	c.mu.Lock()
	for name, frame, ok := cur.member(); ok; name, frame, ok = cur.member() {
		inner := cursor{rest: frame}
		kind, _, err := inner.head()
		if err == nil && (kind == frameItem || kind == frameFlow || kind == frameProgress) {
			continue // these have messages of their own
		}
		if a := c.takeLocked(string(name), &inner, err); a != nil {
			all = append(all, settled{a, frame})
		}
	}
	c.mu.Unlock()
	for _, s := range all {
		s.a.answer <- answer{data: s.frame}
	}
}

// streamed processes a frame of a stream.
func (c *Client) streamed(name string, kind frameKind, flags byte, cur *cursor) {
	c.mu.Lock()
	a := c.calls[name]
	if a != nil {
		a.peer.heard = time.Now()
	}
	c.mu.Unlock()
	if a == nil || a.stream == nil {
		return
	}
	if over := a.stream.handle(a, kind, flags, cur); over != nil {
		c.settle(a, answer{over: over})
	}
}

// address returns the subjects of a group of calls. NATS tells the reply subject if the machine has
// ended, and then each call of the group moves.
func (c *Client) address(receiver string, members []mail) (subject, reply string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lastGroup++
	for i := range members {
		if a := c.calls[members[i].name]; a != nil {
			a.group = c.lastGroup
		}
	}
	return receiver, c.inbox + "." + groupPrefix + strconv.FormatUint(c.lastGroup, 36)
}

// loseGroup moves the calls of a group that no machine has got.
func (c *Client) loseGroup(id string) {
	number, err := strconv.ParseUint(id, 36, 64)
	if err != nil || number == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, a := range c.calls {
		if a.group == number {
			c.settleLocked(a, answer{none: true})
		}
	}
}

// unsent ends the calls that cannot be sent.
func (c *Client) unsent(members []mail, err error) {
	if members[0].reply == "" { // it is about a call, and perhaps sent with the lock held
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range members {
		if a := c.calls[lastToken(members[i].reply)]; a != nil {
			c.settleLocked(a, answer{err: unsent(err)})
		}
	}
}

// alive processes the answer to a ping of a machine.
func (c *Client) alive(id string, isGone bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.machines[id]
	switch {
	case p == nil:
	case isGone:
		c.endedLocked(p)
	default:
		p.heard = time.Now()
	}
}

// The times after which a client asks a machine that has calls and was quiet, asks which calls
// it has, and fails its calls because it is not connected itself.
const (
	machineQuiet   = 250 * time.Millisecond
	inventoryEvery = time.Second
	longestOffline = 10 * time.Second
)

// watch looks after the machines until the client is closed.
func (c *Client) watch() {
	ticker := time.NewTicker(watchEvery)
	defer ticker.Stop()
	for {
		select {
		case <-c.closed:
			c.end(errClientClosed())
			return
		case <-c.conn.closed:
			c.loseAll("the connection to NATS was closed")
			c.end(notBegun(runner.KindTransport, "the connection to NATS is closed"))
			return
		case <-ticker.C:
			c.look()
		}
	}
}

// pingOf returns a question to a machine whether it is there.
func (c *Client) pingOf(p *peer) mail {
	return mail{numbered: p.pinged, subject: aliveSubject(p.id), reply: c.inbox + "." + alivePrefix + p.id, data: appendHead(nil, framePing, 0)}
}

// look asks the machines that have been quiet, gives up those that have been silent for too
// long, and asks which calls they have. While the client itself is not connected, all are
// silent, and nothing is concluded for some time.
func (c *Client) look() {
	if !c.isOnline() {
		return
	}
	var messages []mail // which are sent without the lock
	var streams []*attempt
	now := time.Now()
	c.mu.Lock()
	for _, a := range c.calls {
		if a.stream != nil && now.Sub(a.synced) > inventoryEvery {
			a.synced = now
			streams = append(streams, a)
		}
	}
	for _, p := range c.machines {
		switch silent := now.Sub(p.heard); {
		case silent > c.silence:
			c.loseLocked(p, "it does not answer")
			continue
		case silent > machineQuiet && p.own() > 0:
			messages = append(messages, c.pingOf(p))
		}
		messages = c.inventoriesLocked(p, now, messages)
	}
	c.mu.Unlock()
	for _, a := range streams {
		a.stream.sync(a)
	}
	for _, m := range messages {
		c.outbox.add(m) // behind the calls
	}
}

// isOnline reports whether the client is connected. If it is not for too long, it fails the
// calls under way.
func (c *Client) isOnline() bool {
	isConnected, now := c.conn.nc.IsConnected(), time.Now()
	c.mu.Lock()
	wasOffline := !c.offline.IsZero()
	switch {
	case isConnected:
		c.offline = time.Time{}
	case !wasOffline:
		c.offline = now
	}
	isLong := !isConnected && now.Sub(c.offline) > longestOffline
	if c.looked.beat(now) || wasOffline || !isConnected {
		for _, p := range c.machines {
			p.heard = now
		}
	}
	c.mu.Unlock()
	if isLong {
		c.loseAll("there is no connection to NATS")
	}
	if isConnected && wasOffline {
		_ = c.sayHello()
	}
	return isConnected
}

func (p *peer) own() (n int) {
	for _, t := range p.targets {
		n += t.own
	}
	return n
}

// mostInventoried bounds the calls in one inventory, so that it fits into a message.
const mostInventoried = 1000

// inventoriesLocked adds the inventories that are due for a machine. A message can be lost, that
// of a call or of its answer, when a server dies or a connection breaks. So the client asks
// from time to time whether the machine still has the calls that were sent; a large value may first
// be stored for longer than that. The question goes the way of the calls, and the answer the way of
// their answers, so that neither overtakes them.
func (c *Client) inventoriesLocked(p *peer, now time.Time, messages []mail) []mail {
	lists := make(map[*peerTarget][]string)
	for name, a := range c.calls {
		if a.peer == p && a.number.Load() > 0 && now.Sub(a.sent) > inventoryEvery && now.Sub(a.target.inventory) > inventoryEvery && len(lists[a.target]) < mostInventoried {
			lists[a.target] = append(lists[a.target], c.inbox+"."+name)
		}
	}
	for t, names := range lists {
		t.inventory = now
		data := append(appendHead(nil, frameInventory, 0), strings.Join(names, " ")...)
		messages = append(messages, mail{subject: t.subject, reply: c.inbox + "." + inventoryToken, data: data})
	}
	return messages
}

// inventoried processes the answer to an inventory: the calls that the machine does not have.
func (c *Client) inventoried(msg *nats.Msg) {
	cur := cursor{rest: msg.Data}
	kind, _, err := cur.head()
	cur.load()
	if err != nil || kind != frameUnknown || cur.failed {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for reply := range strings.FieldsSeq(string(cur.rest)) {
		if a := c.calls[reply[strings.LastIndexByte(reply, '.')+1:]]; a != nil {
			c.settleLocked(a, answer{lost: "it does not know the call: a message was lost"})
		}
	}
}

// endedLocked loses the calls of a machine that has ended and may have begun them. NATS says of those
// that were sent later that nothing has got them, so these move.
func (c *Client) endedLocked(p *peer) {
	p.leaving = true
	ping := p.pinged.Load()
	for _, a := range c.calls {
		if n := a.number.Load(); a.peer == p && n > 0 && n < ping {
			c.settleLocked(a, answer{lost: "it has ended"})
		}
	}
	if p.own() == 0 {
		delete(c.machines, p.id)
	}
}

// loseLocked forgets a machine, and its calls fail or move.
func (c *Client) loseLocked(p *peer, why string) {
	delete(c.machines, p.id)
	for _, a := range c.calls {
		if a.peer == p {
			c.settleLocked(a, answer{lost: why})
		}
	}
}

// loseAll fails all calls under way.
func (c *Client) loseAll(why string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, a := range c.calls {
		c.settleLocked(a, answer{lost: why})
	}
}

// end makes all calls fail: those under way are canceled, and further ones are not made.
func (c *Client) end(err error) {
	c.mu.Lock()
	c.ended = err
	var all []*attempt
	for _, a := range c.calls {
		all = append(all, a)
		c.settleLocked(a, answer{err: err})
	}
	c.mu.Unlock()
	for _, a := range all {
		c.tell(a, frameCancel)
	}
}

// rescueLocked asks for calls back that wait on other machines while this one has free slots.
// The machine that has one refuses it if it has not begun it, and then it is made here.
func (c *Client) rescueLocked(p *peer, node string) {
	t := p.targets[node]
	free := t.free()
	if c.waiting == 0 || free <= 0 || !t.ready || p.leaving {
		return
	}
	var queued []*attempt
	for _, a := range c.calls {
		if a.mayWait && !a.asked && a.node == node && a.peer != p && a.target.free() <= 0 {
			queued = append(queued, a)
		}
	}
	slices.SortFunc(queued, func(a, b *attempt) int { return a.sent.Compare(b.sent) })
	for _, a := range queued[:min(free, len(queued))] {
		a.asked = true
		c.tell(a, frameWithdraw)
	}
}

// tell sends the machine of a call a message about it. It does not block.
func (c *Client) tell(a *attempt, kind frameKind) {
	c.outbox.add(mail{subject: a.target.subject, data: append(appendHead(nil, kind, 0), c.inbox+"."+a.name...)})
}
