package jobs

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"
)

// committer publishes messages to one stream. A server that syncs each write syncs each message of
// a stream that it has alone, one after the other. So those that are to be published while others
// are on their way become an atomic batch, which it syncs once. Streams with replicas need that
// not, because their log has the messages of many publishers in one write.
//
// A batch in which one message is refused is refused as a whole. Then each message is published by
// itself, so that each publisher gets its own answer.
type committer struct {
	store  *Store
	stream string

	mu      sync.Mutex
	waiting []*commit
	isBusy  bool // a goroutine publishes
	// takesBatches says whether the stream takes batches, as of the time known.
	takesBatches bool
	known        time.Time
}

// commit is a message that is to be published.
type commit struct {
	ctx  context.Context
	msg  *nats.Msg
	ack  *jetstream.PubAck
	err  error
	done chan struct{}
}

const (
	// leastBatch is the smallest batch: its own cost are some syncs. The largest has mostBatch
	// messages, or about mostBatchBytes.
	leastBatch, mostBatch = 8, 256
	mostBatchBytes        = 4 << 20
	// batchesKnown is how long a client believes what it knows about the settings of a stream.
	batchesKnown = time.Minute
	// batchTimeout is how long the server has to answer a batch.
	batchTimeout = 5 * time.Second
)

// The headers of the messages of a batch.
const (
	batchIDHeader       = "Nats-Batch-Id"
	batchSequenceHeader = "Nats-Batch-Sequence"
	batchCommitHeader   = "Nats-Batch-Commit"
)

// publish publishes a message, whose headers have what it expects of the stream, and returns the
// acknowledgment. If the context ends first, the message may have been published.
func (c *committer) publish(ctx context.Context, msg *nats.Msg) (*jetstream.PubAck, error) {
	one := &commit{ctx: ctx, msg: msg, done: make(chan struct{})}
	c.mu.Lock()
	if !c.takesBatches && time.Since(c.known) < batchesKnown {
		c.mu.Unlock()
		one.publish(c.store.js)
		return one.ack, one.err
	}
	c.waiting = append(c.waiting, one)
	isFirst := !c.isBusy
	c.isBusy = true
	c.mu.Unlock()
	if isFirst {
		go c.run()
	}
	select {
	case <-one.done:
		return one.ack, one.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (o *commit) publish(js jetstream.JetStream) {
	o.ack, o.err = js.PublishMsg(o.ctx, o.msg)
	close(o.done)
}

// run publishes what waits until nothing does.
func (c *committer) run() {
	for {
		group := c.next()
		if group == nil {
			return
		}
		if len(group) >= leastBatch && c.isAllowed() && c.batch(group) {
			continue
		}
		var publishing sync.WaitGroup
		for _, one := range group {
			publishing.Go(func() { one.publish(c.store.js) })
		}
		publishing.Wait()
	}
}

// next returns what is published next, nil if nothing waits.
func (c *committer) next() (group []*commit) {
	c.mu.Lock()
	defer c.mu.Unlock()
	size := 0
	for len(c.waiting) > 0 && len(group) < mostBatch && size < mostBatchBytes {
		one := c.waiting[0]
		c.waiting = c.waiting[1:]
		group, size = append(group, one), size+len(one.msg.Data)
	}
	c.isBusy = len(group) > 0
	return group
}

// isAllowed asks the server whether the stream takes batches, and gains by them.
func (c *committer) isAllowed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.known) >= batchesKnown {
		ctx, cancel := context.WithTimeout(context.Background(), batchTimeout)
		defer cancel()
		stream, err := c.store.js.Stream(ctx, c.stream)
		c.takesBatches = err == nil && stream.CachedInfo().Config.AllowAtomicPublish && stream.CachedInfo().Config.Replicas == 1
		c.known = time.Now()
	}
	return c.takesBatches
}

// batchAnswer is the server's answer to a batch.
type batchAnswer struct {
	jetstream.PubAck
	Batch string              `json:"batch"`
	Count int                 `json:"count"`
	Error *jetstream.APIError `json:"error"`
}

// batch publishes messages as a batch, and reports whether the server has taken it.
func (c *committer) batch(group []*commit) bool {
	id := nuid.Next()
	var answer *nats.Msg
	for i, one := range group {
		msg := &nats.Msg{Subject: one.msg.Subject, Data: one.msg.Data, Header: make(nats.Header, len(one.msg.Header)+3)}
		for key, values := range one.msg.Header {
			msg.Header[key] = values
		}
		msg.Header.Set(batchIDHeader, id)
		msg.Header.Set(batchSequenceHeader, strconv.Itoa(i+1))
		var err error
		if i < len(group)-1 {
			err = c.store.nc.PublishMsg(msg)
		} else {
			msg.Header.Set(batchCommitHeader, "1")
			answer, err = c.store.nc.RequestMsg(msg, batchTimeout)
		}
		if err != nil {
			c.store.logger.Debug("a batch was not published", "stream", c.stream, "messages", len(group), "error", err)
			return false
		}
	}
	var a batchAnswer
	err := json.Unmarshal(answer.Data, &a)
	if err == nil && (a.Error != nil || a.Count != len(group) || a.Batch != id || a.Sequence < uint64(len(group))) {
		err = fmt.Errorf("the answer is %s", answer.Data)
	}
	if err != nil {
		c.store.logger.Debug("a batch was refused", "stream", c.stream, "messages", len(group), "error", err)
		return false
	}
	first := a.Sequence - uint64(len(group)) + 1
	for i, one := range group {
		one.ack = &jetstream.PubAck{Stream: a.Stream, Sequence: first + uint64(i), Domain: a.Domain}
		close(one.done)
	}
	return true
}
