package jobs

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/cluster/internal/wire"
)

// Priority is how urgent a job is. Machines take jobs of a lower priority only if none of a
// higher one is queued.
type Priority string

// The priorities.
const (
	High   Priority = "high"
	Normal Priority = "normal"
	Low    Priority = "low"
)

// priorities are all priorities, the most urgent first.
var priorities = []Priority{High, Normal, Low}

// ParsePriority returns the priority with the given name. The error is of kind other.
func ParsePriority(name string) (Priority, error) {
	for _, p := range priorities {
		if string(p) == name {
			return p, nil
		}
	}
	return "", runner.NewError(runner.KindOther, "a priority is high, normal or low, not "+name)
}

// envelope is what the header of a queued job says beside its input.
type envelope struct {
	ID         string        `json:"id"`
	Pipeline   string        `json:"pipeline"`
	Priority   Priority      `json:"priority"`
	Submitted  time.Time     `json:"submitted"`
	NotBefore  time.Time     `json:"not_before,omitzero"`
	Attempts   int           `json:"attempts"`
	RetryDelay time.Duration `json:"retry_delay,omitempty"`
	// Stored is the name of an input that is larger than a message.
	Stored string `json:"stored,omitempty"`
	// Round counts the retries of a dead letter.
	Round int `json:"round,omitempty"`

	Submitter string `json:"submitter,omitempty"`
	Digest    string `json:"digest,omitempty"`
	Webhook   string `json:"webhook,omitempty"`

	// trace has traceparent and tracestate, which are headers of their own; nil without a trace.
	trace propagation.MapCarrier
}

const envelopeHeader = "Gophersnake-Job"

func (e *envelope) ref() Ref { return Ref{e.Pipeline, e.ID} }

// describe sets what a record says about the job as it was submitted.
func (e *envelope) describe(r *record) {
	r.Priority, r.Submitted, r.NotBefore, r.Round = e.Priority, e.Submitted, e.NotBefore, e.Round
	r.Submitter, r.Digest, r.Webhook = e.Submitter, e.Digest, e.newWebhook()
}

// messageID is what the server recognizes a message by within the dedupe window.
func (e *envelope) messageID() string { return fmt.Sprintf("%s#%d", e.ref().key(), e.Round) }

func (e *envelope) message(content []byte) (*nats.Msg, error) {
	doc, err := json.Marshal(e)
	if err != nil {
		return nil, err
	}
	header := nats.Header{envelopeHeader: {string(doc)}}
	for key, value := range e.trace {
		header[key] = []string{value}
	}
	return &nats.Msg{Subject: subjectOfJob(e.Pipeline, e.ID, string(e.Priority)), Header: header, Data: content}, nil
}

// traceFields are the headers of a trace context.
var traceFields = propagation.TraceContext{}.Fields()

// setTrace makes the runs of the job a part of the trace of a context, if that has one.
func (e *envelope) setTrace(ctx context.Context) {
	if trace.SpanContextFromContext(ctx).IsValid() {
		e.trace = make(propagation.MapCarrier)
		propagation.TraceContext{}.Inject(ctx, e.trace)
	}
}

// withTrace returns a context in the trace of the job.
func (e *envelope) withTrace(ctx context.Context) context.Context {
	return propagation.TraceContext{}.Extract(ctx, e.trace)
}

// readEnvelope reads the headers of a queued job.
func readEnvelope(header nats.Header) (e envelope, err error) {
	if err = json.Unmarshal([]byte(header.Get(envelopeHeader)), &e); err == nil && (e.Pipeline == "" || e.ID == "") {
		err = errors.New("it names no job")
	}
	for _, key := range traceFields {
		if value := header.Get(key); value != "" {
			if e.trace == nil {
				e.trace = make(propagation.MapCarrier)
			}
			e.trace[key] = value
		}
	}
	return e, err
}

// SubmitOption configures a job.
type SubmitOption func(*envelope)

// WithID sets the id of the job, any text of up to [LongestID] bytes. A job that is submitted
// again with the same id, for instance because the submitter died and does not know whether it
// was queued, is the same job until its record ends; see [Config.Retention]. Use it as an
// idempotency key. The default is an id that no other job has.
func WithID(id string) SubmitOption { return func(e *envelope) { e.ID = id } }

// WithPriority sets the priority. The default is [Normal].
func WithPriority(p Priority) SubmitOption { return func(e *envelope) { e.Priority = p } }

// WithStart delays the job until a time.
func WithStart(t time.Time) SubmitOption { return func(e *envelope) { e.NotBefore = t } }

// WithAttempts makes a run that fails with a retryable error be made again after a delay, up to
// n runs. The default is 1, because the policies of the nodes have retried the failed call.
func WithAttempts(n int, delay time.Duration) SubmitOption {
	return func(e *envelope) { e.Attempts, e.RetryDelay = n, delay }
}

// WithSubmitter names the client that submits the job, in [Job.Submitter]. It does not limit what
// others can do with the job.
func WithSubmitter(name string) SubmitOption { return func(e *envelope) { e.Submitter = name } }

// WithDigest keeps a digest of the input in [Job.Digest], so that a submitter that finds its id
// known can tell whether the job has the same input.
func WithDigest(digest string) SubmitOption { return func(e *envelope) { e.Digest = digest } }

// LongestID is the largest number of bytes of the id of a job.
const LongestID = 128

// submitPatience is how long Submit tries to reach servers that do not answer.
const submitPatience = 30 * time.Second

// Submit queues a job. When it returns without an error, the job is on the disks of the NATS
// servers. It blocks for one round trip, two if the job has an id, and for at most 30 s if the
// servers do not answer. Known is true if the job was queued before. If the context has a span, the
// runs of the job are in its trace; see [runner.WithTracerProvider].
//
// The error is of kind io if the queue is full or the servers cannot be reached, of kind
// manifest if no machine has ever served the jobs of the pipeline, of kind marshaling if the
// input cannot be carried, and of kind other if the pipeline drains or the job cannot have its webhook. After an error of kind io
// the job may have been queued; submit it again with the same id.
func (s *Store) Submit(ctx context.Context, pipeline string, input any, opts ...SubmitOption) (ref Ref, known bool, err error) {
	e := envelope{Pipeline: pipeline, Priority: Normal, Submitted: time.Now(), Attempts: 1}
	for _, opt := range opts {
		opt(&e)
	}
	e.setTrace(ctx)
	isNamed := e.ID != ""
	e.ID = cmp.Or(e.ID, nuid.Next())
	ref = e.ref()
	if len(e.ID) > LongestID {
		return ref, false, runner.NewError(runner.KindOther, fmt.Sprintf("the id of a job has at most %d bytes", LongestID))
	}
	payload, err := ipc.Encode("input", input)
	if err != nil {
		return ref, false, runner.Wrap(err, runner.KindMarshaling, "").WithOperation("encode the input")
	}
	ctx, cancel := bounded(ctx, submitPatience)
	defer cancel()
	if err := s.admits(ctx, pipeline); err != nil {
		return ref, false, err
	}
	if isNamed {
		var revision uint64
		err := s.persevere(ctx, func() (err error) {
			_, revision, err = s.load(ctx, ref)
			return err
		})
		if err != nil || revision > 0 {
			return ref, revision > 0, storeError(ctx, err, "submit a job")
		}
	}
	if e.Webhook != "" {
		if err := s.checkWebhook(ctx, pipeline, e.Webhook); err != nil {
			return ref, false, err
		}
	}
	known, err = s.enqueue(ctx, &e, wire.AppendPayload(make([]byte, 0, payload.Size()+wire.PayloadRoom), payload))
	return ref, known && isNamed, err
}

// enqueue stores a large input, publishes a job, and wakes the machines.
func (s *Store) enqueue(ctx context.Context, e *envelope, content []byte) (known bool, err error) {
	var stored string
	if len(content) > s.largest() {
		stored = e.ref().key() + "." + nuid.Next()
		err = s.storeAside(ctx, content, func(ctx context.Context) error { return s.inputs.PutAs(ctx, stored, content) })
		if err != nil {
			return false, err
		}
		e.Stored, content = stored, nil
	}
	msg, err := e.message(content)
	if err != nil {
		return false, err
	}
	if known, err = s.publish(ctx, e, msg); err != nil {
		if !isTransient(err) { // else the server may have queued the job
			s.dropInput(ctx, stored)
		}
		return false, s.submitError(ctx, e.Pipeline, err)
	}
	if known && stored != "" { // the queued job has another one, unless only the answer was lost
		s.dropUnused(ctx, e.ref(), stored)
	}
	_ = s.nc.Publish(subjectOfWake(e.Pipeline), []byte(e.Priority))
	return known, nil
}

// largest is how large a content may be that goes in a message: half of the server's limit, so
// that a dead letter has room for the error.
func (s *Store) largest() int { return int(s.nc.MaxPayload()) / 2 }

// publish publishes a queued job until a server has acknowledged it. The server refuses what it
// has: by the id within the dedupe window, and by the subject as long as the job is queued.
func (s *Store) publish(ctx context.Context, e *envelope, msg *nats.Msg) (known bool, err error) {
	msg.Header.Set(jetstream.MsgIDHeader, e.messageID())
	msg.Header.Set(jetstream.ExpectedStreamHeader, queueName(e.Pipeline))
	committer := s.queue(e.Pipeline)
	pause := shortestPause
	for {
		ack, err := committer.publish(ctx, msg)
		switch {
		case err == nil:
			return ack.Duplicate, nil
		case isQueued(err):
			return true, nil
		case !isTransient(err) || ctx.Err() != nil:
			return false, err
		case errors.Is(err, jetstream.ErrNoStreamResponse):
			if _, missing := s.js.Stream(ctx, queueName(e.Pipeline)); errors.Is(missing, jetstream.ErrStreamNotFound) {
				return false, missing
			}
		}
		select {
		case <-ctx.Done():
			return false, err
		case <-time.After(pause):
			pause = min(2*pause, longestPause)
		}
	}
}

// queue returns what publishes the jobs of a pipeline.
func (s *Store) queue(pipeline string) *committer {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.queues[pipeline]
	if c == nil {
		c = &committer{store: s, stream: queueName(pipeline)}
		s.queues[pipeline] = c
	}
	return c
}

// dropUnused deletes a large input unless the queued job refers to it.
func (s *Store) dropUnused(ctx context.Context, ref Ref, stored string) {
	if e, _, err := s.queued(ctx, ref); err != nil || e != nil && e.Stored == stored {
		return
	}
	s.dropInput(ctx, stored)
}

// The errors of [Store.Submit] wrap these if the queue has no room for the job, or takes none.
var (
	ErrFull     = errors.New("a limit of the stream is reached")
	ErrDraining = errors.New("no job is taken until the pipeline is resumed")
)

// submitError converts the error of a publish.
func (s *Store) submitError(ctx context.Context, pipeline string, err error) error {
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		e := runner.NewError(runner.KindManifest, fmt.Sprintf("no machine has ever served jobs of a pipeline %q", pipeline))
		if names, listing := s.Pipelines(ctx); listing == nil && len(names) > 0 {
			return e.WithHint("there are queues of " + strings.Join(names, ", "))
		}
		return e.WithHint("start one with gophersnake serve --jobs, or jobs.Serve")
	case isFull(err):
		e := runner.Wrap(fmt.Errorf("%w: %w", ErrFull, err), runner.KindIO, fmt.Sprintf("the queue of the pipeline %q is full and takes no job", pipeline))
		return e.WithHint("wait until jobs have ended, or give the queue more room; see jobs.Config.Jobs and Bytes")
	}
	return storeError(ctx, err, "submit a job")
}

// drainKnown is how long a client believes what it knows about the drain of a pipeline.
const drainKnown = time.Second

// admits returns an error if the pipeline drains.
func (s *Store) admits(ctx context.Context, pipeline string) error {
	s.mu.Lock()
	state := s.drains[pipeline]
	s.mu.Unlock()
	if state == nil || time.Since(state.known) > drainKnown {
		_, err := s.records.Get(ctx, drainKey(pipeline))
		if err != nil && !errors.Is(err, jetstream.ErrKeyNotFound) && !isTransient(err) {
			return storeError(ctx, err, "submit a job")
		}
		state = &drainState{draining: err == nil, known: time.Now()}
		s.mu.Lock()
		s.drains[pipeline] = state
		s.mu.Unlock()
	}
	if state.draining {
		return runner.Wrap(ErrDraining, runner.KindOther, fmt.Sprintf("the pipeline %q drains and takes no jobs", pipeline)).
			WithHint("gophersnake jobs resume " + pipeline)
	}
	return nil
}

func drainKey(pipeline string) string { return "=drain." + wire.Token(pipeline) }
