package serve

import (
	"container/list"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"time"
)

// keyTable keeps the answers to requests with an Idempotency-Key. It is safe for concurrent
// use.
type keyTable struct {
	limits KeyLimits

	mu       sync.Mutex
	entries  map[string]*keyEntry
	answered *list.List // of *keyEntry: those that have an answer, the oldest first
	bytes    int        // of all answers
}

// keyEntry is one key. It is under way until done is closed.
type keyEntry struct {
	name   string
	digest [sha256.Size]byte // of the request
	cancel context.CancelCauseFunc
	done   chan struct{}
	answer *answer // valid when done is closed

	waiters int // the clients that wait for the answer; the table's lock guards it
	at      time.Time
	dropped bool // the answer was too large to be kept
}

func newKeyTable(limits KeyLimits) *keyTable {
	return &keyTable{limits: limits, entries: make(map[string]*keyEntry), answered: list.New()}
}

// join returns the entry of a key, with the caller as a waiter. If the key is new, first is
// true, and the caller processes the request in the context that it gets.
func (t *keyTable) join(ctx context.Context, name string, digest [sha256.Size]byte) (e *keyEntry, run context.Context, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.expireLocked(time.Now())
	if e := t.entries[name]; e != nil {
		if e.digest != digest {
			return nil, nil, fault(keyConflict, "the key was used for a request with another body").withHint("use a new key for each request")
		}
		if e.dropped {
			return nil, nil, fault(keyConflict, "the request was processed, but its answer was too large to be kept")
		}
		e.waiters++
		return e, nil, nil
	}
	if len(t.entries) >= t.limits.Keys {
		oldest := t.answered.Front()
		if oldest == nil {
			return nil, nil, fault(keysFull, fmt.Sprintf("%d keys are under way", len(t.entries)))
		}
		t.forgetLocked(oldest)
	}
	run, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	e = &keyEntry{name: name, digest: digest, cancel: cancel, done: make(chan struct{}), waiters: 1}
	t.entries[name] = e
	return e, run, nil
}

// size returns the number of keys that are kept.
func (t *keyTable) size() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.expireLocked(time.Now())
	return len(t.entries)
}

// expireLocked forgets answers that are too old.
func (t *keyTable) expireLocked(now time.Time) {
	for {
		oldest := t.answered.Front()
		if oldest == nil || now.Sub(oldest.Value.(*keyEntry).at) < t.limits.Age {
			return
		}
		t.forgetLocked(oldest)
	}
}

func (t *keyTable) forgetLocked(element *list.Element) {
	e := t.answered.Remove(element).(*keyEntry)
	delete(t.entries, e.name)
	if !e.dropped {
		t.bytes -= len(e.answer.body)
	}
}

// leave ends the wait of a client that got no answer. If no other client waits, it cancels the
// request and forgets the key, and returns true.
func (t *keyTable) leave(e *keyEntry, cause error) (last bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e.waiters--; e.waiters > 0 {
		return false
	}
	if t.entries[e.name] == e && !e.isDone() {
		delete(t.entries, e.name)
	}
	e.cancel(cause)
	return true
}

func (e *keyEntry) isDone() bool {
	select {
	case <-e.done:
		return true
	default:
		return false
	}
}

// finish sets the answer of a key, and keeps it unless it only says that the request could not
// be processed now.
func (t *keyTable) finish(e *keyEntry, a *answer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e.answer, e.at = a, time.Now()
	close(e.done)
	e.cancel(nil)
	if t.entries[e.name] != e {
		return // every client has left
	}
	if a.status == http.StatusTooManyRequests || a.status == http.StatusServiceUnavailable {
		delete(t.entries, e.name)
		return
	}
	t.answered.PushBack(e)
	if e.dropped = len(a.body) > t.limits.Bytes/4; e.dropped {
		return
	}
	t.bytes += len(a.body)
	for t.bytes > t.limits.Bytes {
		t.forgetLocked(t.answered.Front())
	}
}

// longestKey is the greatest length of an Idempotency-Key.
const longestKey = 255

// idempotencyKey returns the key of a request, empty if it has none.
func idempotencyKey(header http.Header) (string, error) {
	values := header.Values("Idempotency-Key")
	if len(values) == 0 {
		return "", nil
	}
	key := values[0]
	isPrintable := !strings.ContainsFunc(key, func(r rune) bool { return r < ' ' || r > '~' })
	if len(values) > 1 || key == "" || len(key) > longestKey || !isPrintable {
		return "", fault(malformed, fmt.Sprintf("the Idempotency-Key is not one text of 1 to %d printable characters", longestKey))
	}
	return key, nil
}

// callOnce is run for a request with an Idempotency-Key: it processes the request, or waits for
// the answer of the first request with the key. The run ends early only when all clients
// that wait for it have left.
func (x *exchange) callOnce(key string, body []byte) error {
	header := fmt.Sprintf("%q %q ", x.req.Header.Get("Content-Type"), strings.Join(x.accept, ","))
	if x.protocol != nil {
		for _, name := range x.protocol.Headers {
			header += fmt.Sprintf("%q ", x.req.Header.Get(name))
		}
	}
	digest := sha256.Sum256(append([]byte(header), body...))
	e, run, err := x.h.answers.join(x.ctx, x.keyName(key), digest)
	if err != nil {
		return err
	}
	if run != nil {
		first := *x
		first.ctx, x.held = run, 0 // the run may hold the body for longer than this client waits
		go func() {
			x.h.answers.finish(e, first.outcome(body))
			first.letGo()
		}()
	}
	select {
	case <-e.done:
	case <-x.ctx.Done():
		cause := context.Cause(x.ctx)
		if x.h.answers.leave(e, cause) {
			<-e.done // so that nothing of the run is in progress any more
		}
		return cause
	}
	if run == nil {
		x.w.Header().Set("Idempotency-Replayed", "true")
	}
	x.send(e.answer)
	return nil
}

// keyName returns what a key is kept under: other tokens and other paths have keys of their own.
func (x *exchange) keyName(key string) string {
	owner := ""
	if x.token != nil {
		owner = x.token.id
	}
	return fmt.Sprintf("%s %s %s", owner, x.req.URL.Path, key)
}

// outcome runs a call and returns its answer, also if it fails.
func (x *exchange) outcome(body []byte) *answer {
	a, err := x.compute(x, body)
	if err != nil {
		p := x.problemOf(err)
		x.report(p, err)
		return x.problemAnswer(p)
	}
	return a
}

// submitter returns the text that stands for the token of the client in its jobs, empty without
// one. The secret cannot be found from it.
func (x *exchange) submitter() string {
	if x.token == nil {
		return ""
	}
	sum := sha256.Sum256([]byte("submitter of jobs " + x.token.id))
	return hex.EncodeToString(sum[:16])
}

// plainKey matches the keys that are the ids of their jobs: those that need no escapes in a URL.
var plainKey = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.~-]{0,99}$`)

// jobID returns the id of the job of a key, empty without one. Each token has keys of its own.
func (x *exchange) jobID(key string) string {
	if key == "" {
		return ""
	}
	if !plainKey.MatchString(key) {
		sum := sha256.Sum256([]byte(key))
		key = hex.EncodeToString(sum[:])
	}
	if submitter := x.submitter(); submitter != "" {
		return submitter[:12] + "." + key
	}
	return key
}
