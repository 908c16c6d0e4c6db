package cluster

import (
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/gophersnake/gophersnake/runner/cluster/internal/wire"
)

// callers are the clients whose calls a machine has. A client that dies sends no cancellation,
// so the machine asks those that have been silent: NATS itself answers that an inbox has no
// subscriber any more.
type callers struct {
	machine *Machine
	inbox   string

	mu     sync.Mutex
	all    map[string]*caller // by the prefix of their inboxes
	looked pulse
}

// caller is a client with calls on this machine.
type caller struct {
	owner  *callers
	prefix string

	// The lock of callers guards the rest.
	calls map[*served]struct{}
	heard time.Time
}

// The times after which a machine asks a silent client, and gives its calls up.
const (
	callerQuiet  = 500 * time.Millisecond
	callerSilent = 5 * time.Second
	watchEvery   = 250 * time.Millisecond
)

// pulse notices that this process itself has been stopped, or got no processor. Then what the
// others have said in the meantime is not yet read, and their silence means nothing.
type pulse struct{ last time.Time }

// beat is called every watchEvery, and reports whether the process has paused.
func (p *pulse) beat(now time.Time) bool {
	last := p.last
	p.last = now
	return !last.IsZero() && now.Sub(last) > 4*watchEvery
}

func newCallers(m *Machine) *callers {
	return &callers{machine: m, inbox: m.conn.nc.NewInbox(), all: make(map[string]*caller)}
}

// add registers a call with its client.
func (cs *callers) add(call *served) *caller {
	prefix := inboxPrefix(call.reply)
	cs.mu.Lock()
	defer cs.mu.Unlock()
	c := cs.all[prefix]
	if c == nil {
		c = &caller{owner: cs, prefix: prefix, calls: make(map[*served]struct{})}
		cs.all[prefix] = c
	}
	c.calls[call] = struct{}{}
	c.heard = time.Now()
	return c
}

func (c *caller) remove(call *served) {
	c.owner.mu.Lock()
	defer c.owner.mu.Unlock()
	delete(c.calls, call)
	if len(c.calls) == 0 && c.owner.all[c.prefix] == c {
		delete(c.owner.all, c.prefix)
	}
}

// heard notes a sign of life of the client with the inbox that a subject belongs to.
func (cs *callers) heard(subject string) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if c := cs.all[inboxPrefix(subject)]; c != nil {
		c.heard = time.Now()
	}
}

// watch asks silent clients until the machine has left.
func (cs *callers) watch() {
	ticker := time.NewTicker(watchEvery)
	defer ticker.Stop()
	for {
		select {
		case <-cs.machine.ended:
			return
		case <-ticker.C:
			cs.look()
		}
	}
}

// look asks the clients that have been quiet, and gives those up that have been silent for too
// long. While the machine itself is not connected, all are silent, and nothing is concluded.
func (cs *callers) look() {
	var quiet, gone []string
	var silentStreams []*served
	isConnected := cs.machine.conn.nc.IsConnected()
	now := time.Now()
	cs.mu.Lock()
	wasPaused := cs.looked.beat(now)
	for prefix, c := range cs.all {
		for call := range c.calls {
			if call.stream != nil && call.stream.isSilent(now, isConnected && !wasPaused) {
				silentStreams = append(silentStreams, call)
			}
		}
		switch silent := now.Sub(c.heard); {
		case !isConnected, wasPaused:
			c.heard = now
		case silent > callerSilent:
			gone = append(gone, prefix)
		case silent > callerQuiet:
			quiet = append(quiet, prefix)
		}
	}
	cs.mu.Unlock()
	for _, prefix := range quiet {
		// The name of the client's inbox in the reply subject says later which client has answered.
		_ = cs.machine.conn.nc.PublishRequest(prefix+"."+pingToken, cs.inbox+"."+wire.Token(prefix), appendHead(nil, framePing, 0))
	}
	for _, prefix := range gone {
		cs.giveUp(prefix)
	}
	for _, call := range silentStreams {
		call.target.abandon(call, errCallerLeft)
	}
}

// answered processes the answer to a ping: the client's, or that of NATS if there is none.
func (cs *callers) answered(msg *nats.Msg) {
	name := msg.Subject[strings.LastIndexByte(msg.Subject, '.')+1:]
	cs.mu.Lock()
	prefix := ""
	for p, c := range cs.all {
		if wire.Token(p) == name {
			prefix, c.heard = p, time.Now()
		}
	}
	cs.mu.Unlock()
	if prefix != "" && isNoResponders(msg) {
		cs.giveUp(prefix)
	}
}

// giveUp cancels the calls of a client that is gone.
func (cs *callers) giveUp(prefix string) {
	var calls []*served
	cs.mu.Lock()
	if c := cs.all[prefix]; c != nil {
		for call := range c.calls {
			calls = append(calls, call)
		}
	}
	cs.mu.Unlock()
	for _, call := range calls {
		cs.machine.logger.Info("a caller is gone; its call is canceled", "call", call.reply)
		call.target.abandon(call, errCallerDied)
	}
}

// inboxPrefix returns the part of an inbox that all subjects of one client share.
func inboxPrefix(subject string) string {
	return subject[:max(strings.LastIndexByte(subject, '.'), 0)]
}

// isNoResponders reports whether NATS says that nothing subscribes to the subject of a request.
func isNoResponders(msg *nats.Msg) bool {
	return len(msg.Data) == 0 && msg.Header.Get("Status") == "503"
}
