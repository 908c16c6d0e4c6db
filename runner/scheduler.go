package runner

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gophersnake/gophersnake/retry"
	"github.com/gophersnake/gophersnake/runner/internal/tracing"
	"github.com/gophersnake/gophersnake/runner/manifest"
)

// NodePolicy says how the operations of a node are retried, and when its circuit
// breaker refuses them. The zero value has neither retries nor a breaker;
// [DefaultNodePolicy] returns the policy of nodes that are not configured.
type NodePolicy struct {
	// Policy says how often, and after which delays, a failed operation is retried.
	Policy retry.Policy
	// Breaker configures the node's circuit breaker. Without it the node has none.
	Breaker *retry.BreakerConfig
	// Idempotent means that an operation may run twice. Otherwise it is retried only
	// if it was not handed to a worker; see the field NotBegun of [Error].
	Idempotent bool
	// On restricts retries to errors of these kinds. Empty means all kinds; an error
	// that is not retryable is not retried in any case.
	On []Kind
	// Never lists Python exceptions that are not retried, by the names of their classes
	// or of classes that these inherit from. The names of modules may be left out, in
	// whole or in part: JSONDecodeError and json.JSONDecodeError both stand for
	// json.decoder.JSONDecodeError.
	Never []string
	// Ignore lists, in the same way, the exceptions that the breaker does not count when
	// a call raises them, because they are the fault of the input.
	Ignore []string
	// WaitWhenOpen makes an operation that the open breaker refuses wait until the breaker
	// admits it, as a probe or after one has succeeded, or until ctx ends. When as many
	// probes in a row have failed as failures open the breaker, operations fail again.
	WaitWhenOpen bool
}

// DefaultNodePolicy returns the policy [retry.Default] with a breaker in its default
// configuration, for idempotent nodes.
func DefaultNodePolicy() NodePolicy {
	return NodePolicy{Policy: retry.Default(), Breaker: &retry.BreakerConfig{}, Idempotent: true}
}

// Validate returns nil if all fields are valid, else the problems, joined. Each
// problem of the policy or the breaker is a [*retry.FieldError].
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
	for _, name := range slices.Concat(p.Never, p.Ignore) {
		if err := manifest.CheckException(name); err != nil {
			faults = append(faults, fmt.Errorf("the exceptions: %w", err))
		}
	}
	return errors.Join(faults...)
}

// Scheduler runs operations under the retry policy and the circuit breaker of a
// node. Each node has a breaker of its own. All methods are safe for concurrent use.
type Scheduler struct {
	defaults NodePolicy
	emit     func(Event)

	// entries is copied on write, so that readers take no lock. An entry, once
	// added, stays.
	entries atomic.Pointer[map[string]*entry]
	lock    sync.Mutex // held by writers of entries and of their settings
}

// NewScheduler returns a scheduler. Nodes that are not configured have the policy
// defaults. The scheduler calls events with each [CallRetried] and [BreakerChanged],
// on the goroutine of the operation; events may be nil.
func NewScheduler(defaults NodePolicy, events func(Event)) (*Scheduler, error) {
	if err := defaults.Validate(); err != nil {
		return nil, Wrap(err, KindManifest, "invalid default policy")
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

// Configure replaces a node's policy. It may be called at any time: operations that
// begin later use the new policy and a new, closed breaker. Operations under way end
// under the policy and the breaker that they began with, and do not count on the new
// breaker. The counters of the node continue.
//
// The error is of kind [KindManifest] if the policy is invalid; then the node keeps
// its policy.
func (s *Scheduler) Configure(node string, policy NodePolicy) error {
	if err := policy.Validate(); err != nil {
		return Wrap(err, KindManifest, "invalid policy").WithNode(node)
	}
	replaced := s.replace(node, policy)
	if replaced == nil {
		return nil
	}
	if state := replaced.breaker.State(); state != retry.Closed {
		s.emit(BreakerChanged{Node: node, Time: time.Now(), From: state, To: retry.Closed})
	}
	return nil
}

// replace sets the settings of a node and returns the former ones, nil if the node
// is new.
func (s *Scheduler) replace(node string, policy NodePolicy) *settings {
	s.lock.Lock()
	defer s.lock.Unlock()
	if e, ok := (*s.entries.Load())[node]; ok {
		return e.settings.Swap(newSettings(e, policy))
	}
	s.addLocked(node, policy)
	return nil
}

// Execute runs op under a node's policy and breaker. The operation may be any Go
// function, and the node need not be one of a pipeline.
//
// If the breaker is open, Execute returns at once, without calling op, an error of
// kind [KindOther] that wraps [retry.ErrOpen], unless the policy has WaitWhenOpen.
// Otherwise it calls op, and calls it
// again after each retryable error while the policy allows it. The breaker counts the
// outcome once, however many attempts there were. Failures that the node did not
// cause do not count: the end of ctx, errors of the kinds [KindManifest] and
// [KindMarshaling], errors whose field BreakerExempt is set, and the exceptions that the
// policy ignores. If ctx ends after an attempt has failed, in the delay before the next
// one or during that, the failure of that attempt counts.
//
// The error is an [*Error] with the node and the number of attempts. Its kind is that
// of the last attempt's error, or [KindOther] if ctx ended.
func (s *Scheduler) Execute(ctx context.Context, node string, op func(ctx context.Context) error) error {
	return s.node(node).execute(ctx, nil, func(ctx context.Context, _ int) error { return op(ctx) })
}

// Breaker returns a node's circuit breaker, for example to read its state or to reset
// it. It is nil if the node has none; a nil breaker is always closed.
// [Scheduler.Configure] replaces the breaker, so the result should not be kept.
func (s *Scheduler) Breaker(node string) *retry.Breaker {
	return s.node(node).settings.Load().breaker
}

// node returns the entry of a node, which it adds with the default policy if needed.
func (s *Scheduler) node(name string) *entry {
	if e, ok := (*s.entries.Load())[name]; ok {
		return e
	}
	s.lock.Lock()
	defer s.lock.Unlock()
	if e, ok := (*s.entries.Load())[name]; ok {
		return e
	}
	return s.addLocked(name, s.defaults)
}

// addLocked adds the entry of a node.
func (s *Scheduler) addLocked(node string, policy NodePolicy) *entry {
	e := &entry{node: node, emit: s.emit}
	e.settings.Store(newSettings(e, policy))
	entries := maps.Clone(*s.entries.Load())
	entries[node] = e
	s.entries.Store(&entries)
	return e
}

// entry is the scheduler's state of one node. It is created once, so that the runner
// can keep it; only its settings are replaced.
type entry struct {
	node     string
	emit     func(Event)
	counts   counts
	settings atomic.Pointer[settings]
}

// settings are a policy in the form in which operations use it, and the breaker that
// belongs to it. An operation uses the settings that it found when it began.
type settings struct {
	policy     retry.Policy
	breaker    *retry.Breaker
	idempotent bool
	on         kinds // empty: all
	never      []string
	ignore     []string
	// waitBelow is the number of failures in a row from which an operation no longer waits
	// for an open breaker; 0 if it does not wait at all.
	waitBelow int
	options   []retry.Option
	// last is the failure that the breaker counted last; a refusal quotes it.
	last atomic.Pointer[Error]
}

// newSettings returns the settings for a valid policy.
func newSettings(e *entry, policy NodePolicy) *settings {
	s := &settings{policy: policy.Policy, idempotent: policy.Idempotent, on: kindSet(policy.On),
		never: policy.Never, ignore: policy.Ignore}
	s.options = []retry.Option{
		retry.If(s.shouldRetry),
		retry.OnRetry(e.noteRetry),
		retry.MapError(func(attempt int, err error) error {
			failure := AsError(err).WithNode(e.node).WithAttempt(attempt, s.policy.Attempts())
			e.reportBreach(failure)
			return failure
		}),
	}
	if policy.Breaker == nil {
		return s
	}
	config := *policy.Breaker
	if policy.WaitWhenOpen {
		s.waitBelow = 2 * cmp.Or(config.Failures, retry.DefaultFailures)
	}
	observer := config.OnChange
	config.OnChange = func(from, to retry.State) {
		if observer != nil {
			observer(from, to)
		}
		if e.settings.Load() == s { // else this breaker is no longer the node's
			e.emit(BreakerChanged{Node: e.node, Time: time.Now(), From: from, To: to,
				CallsWait: to == retry.Open && s.breaker.Failures() < s.waitBelow})
		}
	}
	s.breaker, _ = retry.NewBreaker(config) // the configuration is valid
	return s
}

// noteRetry counts and reports a retry.
func (e *entry) noteRetry(attempt int, delay time.Duration, err error) {
	e.counts.retries.Add(1)
	e.emit(CallRetried{Node: e.node, Time: time.Now(), Attempt: attempt, Delay: delay, Err: err})
}

type onceKey struct{}

// WithoutRetry returns a context whose calls of nodes make one attempt, for a
// caller that retries them itself, perhaps in another process.
func WithoutRetry(ctx context.Context) context.Context {
	return context.WithValue(ctx, onceKey{}, true)
}

// attempts makes the attempts of an operation, watched by the call unless that is nil.
func (e *entry) attempts(ctx context.Context, s *settings, c *tracing.Call, op operation) error {
	policy := s.policy
	if ctx.Value(onceKey{}) != nil {
		policy = retry.None()
	}
	if c == nil {
		return retry.Do(ctx, policy, op, s.options...)
	}
	options := append(slices.Clip(s.options), retry.OnRetry(func(attempt int, delay time.Duration, err error) {
		e.noteRetry(attempt, delay, err)
		c.NoteRetry(attempt, delay)
	}))
	return retry.Do(ctx, policy, func(ctx context.Context, attempt int) error {
		return c.Attempt(ctx, attempt, op)
	}, options...)
}

// settle tells the breaker the outcome of an operation, and adds a change of its state to the
// trace.
func (s *settings) settle(permit *retry.Permit, c *tracing.Call, success bool) {
	var before retry.State
	if c.HasSpan() {
		before = s.breaker.State()
	}
	if success {
		permit.Success()
	} else {
		permit.Failure()
	}
	if c.HasSpan() {
		c.NoteBreaker(before, s.breaker.State())
	}
}

// operation is one attempt of an operation. The number of the attempt is counted from
// 1. The scheduler adds the node and the attempt to its error.
type operation func(ctx context.Context, attempt int) error

// execute runs an operation with retries; the breaker counts it once. The call watches it, and
// may be nil.
func (e *entry) execute(ctx context.Context, c *tracing.Call, op operation) error {
	e.counts.calls.Add(1)
	s := e.settings.Load()
	permit, err := s.breaker.Allow()
	if err != nil {
		if s, permit, err = e.awaitBreaker(ctx, s, err); err != nil {
			return e.counts.fail(e.refusal(s, err))
		}
	}
	defer permit.Release() // a panic has no outcome, and must not hold a probe's slot
	if err = e.attempts(ctx, s, c, op); err == nil {
		s.settle(&permit, c, true)
		return nil
	}
	failure, blamed := e.failure(err)
	if s.counts(blamed) {
		s.last.Store(blamed)
		s.settle(&permit, c, false)
	}
	if blamed == nil {
		return e.counts.cancel(failure)
	}
	return e.counts.fail(failure)
}

// executeOnce runs an operation without retries, but under the breaker. The call watches it,
// and may be nil.
func (e *entry) executeOnce(ctx context.Context, c *tracing.Call, op operation) error {
	e.counts.calls.Add(1)
	s := e.settings.Load()
	permit, err := s.breaker.Allow()
	if err != nil {
		if s, permit, err = e.awaitBreaker(ctx, s, err); err != nil {
			return e.counts.fail(e.refusal(s, err))
		}
	}
	defer permit.Release()
	if err = c.Attempt(ctx, 1, op); err == nil {
		s.settle(&permit, c, true)
		return nil
	}
	failure := AsError(err).WithNode(e.node)
	e.reportBreach(failure)
	if ctx.Err() != nil {
		return e.counts.cancel(failure)
	}
	if s.counts(failure) {
		s.last.Store(failure)
		s.settle(&permit, c, false)
	}
	return e.counts.fail(failure)
}

// awaitBreaker waits for the breaker that has refused an operation, if the policy says so.
// It returns the settings to use from then on, since they may be replaced meanwhile, and
// the permit or the reason for which there is none.
func (e *entry) awaitBreaker(ctx context.Context, s *settings, refused error) (*settings, retry.Permit, error) {
	for {
		open, ok := errors.AsType[*retry.OpenError](refused)
		if !ok || open.Failures >= s.waitBelow {
			return s, retry.Permit{}, refused
		}
		if ended := s.breaker.Await(ctx); ended != nil {
			return s, retry.Permit{}, fmt.Errorf("%w, while %w", ended, refused)
		}
		s = e.settings.Load()
		permit, err := s.breaker.Allow()
		if err == nil {
			return s, permit, nil
		}
		refused = err
	}
}

// shouldRetry decides on an attempt's error.
func (s *settings) shouldRetry(err error) bool {
	failure := AsError(err)
	return s.retries(failure) && (s.idempotent || failure.NotBegun)
}

// retries reports whether a failure is retried if the node may run again.
func (s *settings) retries(failure *Error) bool {
	return failure.Retryable() && (s.on == 0 || s.on.has(failure.Kind)) && !failure.isRaisedAs(s.never)
}

// failure returns the operation's error, which carries the context of the last
// attempt's error. The kind is that of the last attempt, except that an interrupted
// operation is of kind Other. The second error is the one that the breaker considers:
// the same, or that of the last attempt before ctx ended, nil if there was none.
func (e *entry) failure(err error) (failure, blamed *Error) {
	// retry.Do returns these types unwrapped. errors.As would also find those of a
	// nested operation, whose context is not this one's.
	switch end := err.(type) { //nolint:errorlint // see above
	case *retry.Exhausted:
		failure = AsError(end.Err)
		if end.Budget > 0 {
			failure = failure.WithMetadata("retry budget", fmt.Sprintf("%v, spent after %d attempts", end.Budget, end.Attempts))
		}
		return failure, failure
	case *retry.Interrupted:
		failure = new(Error)
		if last := AsError(end.Err); last != nil {
			*failure = *last
		}
		failure.Kind, failure.Verdict, failure.After = KindOther, VerdictByKind, nil
		failure.Cause, failure.origin = end, nil
		return failure.WithNode(e.node), AsError(end.Failed)
	}
	failure = AsError(err)
	return failure, failure
}

// counts reports whether the breaker counts a failure, which may be nil. An exception of
// a worker's start says nothing about an input, so it counts in any case.
func (s *settings) counts(failure *Error) bool {
	switch {
	case failure == nil, failure.BreakerExempt, failure.Kind == KindManifest, failure.Kind == KindMarshaling:
		return false
	}
	return failure.NotBegun || !failure.isRaisedAs(s.ignore)
}

// refusal returns the error of an operation that the breaker refused with err.
func (e *entry) refusal(s *settings, err error) *Error {
	failure := Wrap(err, KindOther, "").WithNode(e.node)
	failure.Hint = "fix the cause of the node's failures, then wait for the next probe or reset the breaker"
	last := s.last.Load()
	if last == nil {
		return failure
	}
	if class := last.PythonClass; manifest.CheckException(class) == nil {
		failure.Hint += fmt.Sprintf("; if %s is the fault of the input, list it in the manifest: breaker: {ignore: [%[1]s]}", class)
	}
	failure = failure.WithMetadata("last failure", last.Error())
	return failure
}

// machines are the scheduler's entries of a node for the machines that it runs on.
type machines struct {
	mu      sync.Mutex
	entries map[string]*entry
}

// entry returns the entry for a machine. It is that of NODE@MACHINE in the scheduler, and has the
// breaker that the manifest gives the node.
func (m *machines) entry(n *node, machine string) (*entry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e := m.entries[machine]; e != nil {
		return e, nil
	}
	name := n.id + "@" + machine
	if err := n.scheduler.Configure(name, n.policy); err != nil {
		return nil, err
	}
	if m.entries == nil {
		m.entries = make(map[string]*entry)
	}
	m.entries[machine] = n.scheduler.node(name)
	return m.entries[machine], nil
}

// health returns the breakers for machines whose last calls have failed, by the machines' names.
func (m *machines) health() []MachineHealth {
	m.mu.Lock()
	defer m.mu.Unlock()
	var failing []MachineHealth
	for _, machine := range slices.Sorted(maps.Keys(m.entries)) {
		s := m.entries[machine].settings.Load()
		h := MachineHealth{Machine: machine, Breaker: s.breaker.State(), Failures: s.breaker.Failures(), LastError: s.last.Load()}
		if h.Breaker != retry.Closed || h.Failures > 0 {
			failing = append(failing, h)
		}
	}
	return failing
}
