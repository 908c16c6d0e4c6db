package runner

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gophersnake/gophersnake/retry"
)

// NodePolicy says how a node's operations are retried, and when to leave the
// node alone for a while. The zero value does neither; [DefaultNodePolicy] is
// what nodes have where nothing is said.
type NodePolicy struct {
	// Policy says how often, and when, a failed operation is tried again.
	Policy retry.Policy
	// Breaker sets the node's circuit breaker up; nil is no breaker.
	Breaker *retry.BreakerConfig
	// Idempotent says that an operation may run twice. Where it may not, it is
	// tried again only if it never reached a worker: [Error].NotBegun.
	Idempotent bool
	// On narrows what is retried to these kinds; empty is all that is retryable.
	On []Kind
}

// DefaultNodePolicy returns [retry.Default] with a breaker of default figures,
// for idempotent nodes.
func DefaultNodePolicy() NodePolicy {
	return NodePolicy{Policy: retry.Default(), Breaker: &retry.BreakerConfig{}, Idempotent: true}
}

// Validate says what is wrong with the figures: nil, or the faults joined, each
// with a [*retry.FieldError].
func (p NodePolicy) Validate() error {
	var faults []error
	if err := p.Policy.Validate(); err != nil {
		faults = append(faults, fmt.Errorf("the retry policy: %w", err))
	}
	if p.Breaker != nil {
		if err := p.Breaker.Validate(); err != nil {
			faults = append(faults, fmt.Errorf("the breaker: %w", err))
		}
	}
	for _, kind := range p.On {
		if _, err := kind.MarshalText(); err != nil {
			faults = append(faults, fmt.Errorf("the kinds to retry: %w", err))
		}
	}
	return errors.Join(faults...)
}

// Scheduler runs operations under their node's retry policy and circuit
// breaker. Each node has a breaker of its own. It is safe for concurrent use.
type Scheduler struct {
	defaults NodePolicy
	emit     func(Event)

	// entries is replaced as a whole, so that it is read without a lock.
	entries atomic.Pointer[map[string]*entry]
	lock    sync.Mutex // one writer at a time
}

// NewScheduler returns a scheduler. Nodes that are not configured have the
// defaults. events is told of [CallRetried] and [BreakerChanged]; it may be nil.
func NewScheduler(defaults NodePolicy, events func(Event)) (*Scheduler, error) {
	if err := defaults.Validate(); err != nil {
		return nil, Wrap(err, KindManifest, "the default policy cannot be used")
	}
	if defaults.Breaker != nil {
		defaults.Breaker = new(*defaults.Breaker) // the caller may change its own
	}
	if events == nil {
		events = func(Event) {}
	}
	s := &Scheduler{defaults: defaults, emit: events}
	s.entries.Store(&map[string]*entry{})
	return s, nil
}

// Configure sets a node's policy, in place of the one that it has. The node
// begins with a new breaker, closed.
func (s *Scheduler) Configure(node string, policy NodePolicy) error {
	if err := policy.Validate(); err != nil {
		return Wrap(err, KindManifest, "its policy cannot be used").WithNode(node)
	}
	s.lock.Lock()
	defer s.lock.Unlock()
	s.put(newEntry(node, policy, s.emit))
	return nil
}

// Execute runs an operation under a node's policy and breaker. Any operation
// will do; the node need not be one of a pipeline.
//
// An open breaker refuses the operation at once, with an error of kind [KindOther]
// that wraps [retry.ErrOpen]. Else op runs, and runs again after a retryable
// error while the policy allows it. The breaker counts the outcome once, however
// many attempts there were. The caller's own faults do not count against the
// node: the end of ctx, errors of kind [KindManifest], [Error].BreakerExempt.
//
// The error is an [*Error] with the node and the number of attempts; its kind is
// that of the last attempt's error, or Other where ctx ended.
func (s *Scheduler) Execute(ctx context.Context, node string, op func(ctx context.Context) error) error {
	return s.node(node).execute(ctx, op)
}

// Breaker returns a node's circuit breaker, to look at its state or to reset
// it. It is nil, which is a breaker that never opens, where the node has none.
func (s *Scheduler) Breaker(node string) *retry.Breaker {
	return s.node(node).breaker
}

// node returns what is kept of a node. The runner asks once, not for every call.
func (s *Scheduler) node(name string) *entry {
	if e, ok := (*s.entries.Load())[name]; ok {
		return e
	}
	s.lock.Lock()
	defer s.lock.Unlock()
	if e, ok := (*s.entries.Load())[name]; ok {
		return e
	}
	e := newEntry(name, s.defaults, s.emit)
	s.put(e)
	return e
}

// put adds or replaces an entry. The lock is held.
func (s *Scheduler) put(e *entry) {
	entries := maps.Clone(*s.entries.Load())
	entries[e.node] = e
	s.entries.Store(&entries)
}

// entry is one node's policy and breaker.
type entry struct {
	node       string
	policy     retry.Policy
	breaker    *retry.Breaker
	idempotent bool
	on         kinds // empty: all
	options    []retry.Option
	// last is the failure that the breaker counted last; a refusal quotes it.
	last   atomic.Pointer[Error]
	counts counts
	emit   func(Event)
}

// newEntry makes the entry of a policy that has been validated.
func newEntry(node string, policy NodePolicy, emit func(Event)) *entry {
	e := &entry{node: node, policy: policy.Policy, idempotent: policy.Idempotent, on: kindSet(policy.On), emit: emit}
	e.options = []retry.Option{
		retry.If(e.worthRetrying),
		retry.OnRetry(func(attempt int, delay time.Duration, err error) {
			e.counts.retries.Add(1)
			emit(CallRetried{Node: node, Time: time.Now(), Attempt: attempt, Delay: delay, Err: err})
		}),
	}
	if policy.Breaker == nil {
		return e
	}
	config := *policy.Breaker
	observer := config.OnChange
	config.OnChange = func(from, to retry.State) {
		if observer != nil {
			observer(from, to)
		}
		emit(BreakerChanged{Node: node, Time: time.Now(), From: from, To: to})
	}
	e.breaker, _ = retry.NewBreaker(config) // it fails on bad figures only
	return e
}

// execute runs an operation: the breaker around the retries.
func (e *entry) execute(ctx context.Context, op func(ctx context.Context) error) error {
	e.counts.calls.Add(1)
	permit, err := e.breaker.Allow()
	if err != nil {
		return e.counts.fail(e.refusal(err))
	}
	// Where there is no outcome, as after a panic, a probe's slot goes back.
	defer permit.Release()
	err = retry.Do(ctx, e.policy, func(ctx context.Context, attempt int) error {
		if err := op(ctx); err != nil {
			failure := AsError(err).WithNode(e.node).WithAttempt(attempt, e.policy.Attempts())
			e.tellBreach(failure)
			return failure
		}
		return nil
	}, e.options...)
	if err == nil {
		permit.Success()
		return nil
	}
	failure := e.failure(err)
	if nodeToBlame(failure) {
		e.last.Store(failure)
		permit.Failure()
	}
	return e.counts.fail(failure)
}

// worthRetrying decides on an attempt's error.
func (e *entry) worthRetrying(err error) bool {
	failure := AsError(err)
	return failure.Retryable() &&
		(e.on == 0 || e.on.has(failure.Kind)) &&
		(e.idempotent || failure.NotBegun)
}

// failure is the operation's error: what is known of the last attempt's. Its
// kind stays, unless the operation was interrupted: then it did not fail of itself.
func (e *entry) failure(err error) *Error {
	switch end := err.(type) {
	case *retry.Exhausted:
		failure := AsError(end.Err)
		if end.Budget > 0 {
			failure = failure.WithMetadata("retry budget", fmt.Sprintf("%v, spent after %d attempts", end.Budget, end.Attempts))
		}
		return failure
	case *retry.Interrupted:
		var failure Error
		if last := AsError(end.Err); last != nil {
			failure = *last
		}
		failure.Kind, failure.Verdict, failure.After = KindOther, VerdictByKind, nil
		failure.Cause, failure.origin = end, nil
		return failure.WithNode(e.node)
	}
	return AsError(err)
}

// nodeToBlame reports whether a failure counts against the node.
func nodeToBlame(failure *Error) bool {
	if _, interrupted := failure.Cause.(*retry.Interrupted); interrupted {
		return false
	}
	return failure.Kind != KindManifest && !failure.BreakerExempt
}

// refusal is the error of an operation that the breaker does not let through.
func (e *entry) refusal(err error) *Error {
	failure := Wrap(err, KindOther, "").WithNode(e.node)
	failure.Hint = "fix what the node failed of, and wait for the probe or reset the breaker"
	if last := e.last.Load(); last != nil {
		failure = failure.WithMetadata("last failure", last.Error())
	}
	return failure
}
