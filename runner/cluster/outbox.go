package cluster

import (
	"runtime"
	"sync"

	"github.com/nats-io/nats.go"
)

// outbox sends the answers of a machine, in the order in which they were added. One goroutine
// sends those of all calls that end at about the same time, one after the other, so that the
// connection writes them with one system call. If each call sent its own answer, most writes
// would have one message.
type outbox struct {
	conn   *nats.Conn
	failed func(error)
	wake   chan struct{}

	mu     sync.Mutex
	queue  []mail
	closed bool // there is no goroutine any more
}

type mail struct {
	subject string
	data    []byte
}

func newOutbox(conn *nats.Conn, failed func(error)) *outbox {
	return &outbox{conn: conn, failed: failed, wake: make(chan struct{}, 1)}
}

// add sends a message soon.
func (o *outbox) add(subject string, data []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		o.send(mail{subject, data})
		return
	}
	o.queue = append(o.queue, mail{subject, data})
	if len(o.queue) == 1 {
		o.wake <- struct{}{}
	}
}

func (o *outbox) send(m mail) {
	if err := o.conn.Publish(m.subject, m.data); err != nil {
		o.failed(err)
	}
}

// run sends messages until end is closed.
func (o *outbox) run(end <-chan struct{}) {
	var batch []mail
	for isOver := false; !isOver; {
		select {
		case <-o.wake:
		case <-end:
			isOver = true
		}
		runtime.Gosched() // other calls that are about to end come along
		o.mu.Lock()
		batch, o.queue, o.closed = o.queue, batch[:0], isOver
		if isOver {
			defer o.mu.Unlock() // nothing may overtake the last messages
		} else {
			o.mu.Unlock()
		}
		for i, m := range batch {
			o.send(m)
			batch[i] = mail{}
		}
	}
}
