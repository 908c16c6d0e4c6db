package jobs

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"
	"github.com/vmihailenco/msgpack/v5"

	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/cluster/internal/wire"
)

// The subjects and keys of jobs:
//
//	gophersnake.jobs.PIPELINE.ID.PRIORITY   a queued job, in the stream of its pipeline
//	gophersnake.dead.PIPELINE.ID            a dead letter
//	gophersnake.webhook.PIPELINE.ID.ROUND   the end of a job that is to be posted to its webhook
//	gophersnake.wake.PIPELINE               a job was queued with the priority in the message
//	gophersnake.owner.OWNER                 questions to a machine about the jobs that it runs
//	PIPELINE.ID                             the key of a record
//	=drain.PIPELINE                         the key that says that a pipeline drains
//	=schedule.NAME                          the key of a schedule
const queuePrefix = "gophersnake-jobs-"

func queueName(pipeline string) string { return queuePrefix + wire.Token(pipeline) }

// part makes a name a token of a subject, and leaves the wildcard.
func part(name string) string {
	if name == "*" {
		return name
	}
	return wire.Token(name)
}

func subjectOfJob(pipeline, id, priority string) string {
	return "gophersnake.jobs." + part(pipeline) + "." + part(id) + "." + priority
}

func subjectOfDead(pipeline, id string) string {
	return "gophersnake.dead." + part(pipeline) + "." + part(id)
}

func subjectOfWake(pipeline string) string { return "gophersnake.wake." + wire.Token(pipeline) }

func subjectOfOwner(owner string) string { return "gophersnake.owner." + owner }

// Ref identifies a job. Its text is PIPELINE/ID.
type Ref struct {
	Pipeline, ID string
}

// String returns PIPELINE/ID.
func (r Ref) String() string { return r.Pipeline + "/" + r.ID }

// ParseRef parses the text of a [Ref]. The error is of kind other.
func ParseRef(text string) (Ref, error) {
	pipeline, id, ok := strings.Cut(text, "/")
	if !ok || pipeline == "" || id == "" {
		return Ref{}, runner.NewError(runner.KindOther, "the name of a job is PIPELINE/ID, not "+text)
	}
	return Ref{pipeline, id}, nil
}

func (r Ref) key() string { return wire.Token(r.Pipeline) + "." + wire.Token(r.ID) }

// State is what a job does.
type State string

// The states of a job. Those from [Done] on are final, except that [Store.Retry] queues a failed
// job again.
const (
	Queued   State = "queued"
	Running  State = "running"
	Done     State = "done"
	Failed   State = "failed"
	Canceled State = "canceled"
)

// Ended reports whether the state is final.
func (s State) Ended() bool { return s == Done || s == Failed || s == Canceled }

// record is what the bucket has of a job that has begun.
type record struct {
	State      State     `msgpack:"state"`
	Priority   Priority  `msgpack:"priority"`
	Submitted  time.Time `msgpack:"submitted"`
	NotBefore  time.Time `msgpack:"not_before"`
	Begun      time.Time `msgpack:"begun"`
	Ended      time.Time `msgpack:"ended"`
	Idempotent bool      `msgpack:"idempotent"`
	MayHaveRun bool      `msgpack:"may_have_run,omitempty"`
	// Begins counts how often machines began the job, and Failures how often it failed, both
	// since it was queued last. Round counts the retries of dead letters.
	Begins   int `msgpack:"begins"`
	Failures int `msgpack:"failures"`
	Round    int `msgpack:"round"`
	// Submitter and Digest are those of [Job].
	Submitter string `msgpack:"submitter,omitempty"`
	Digest    string `msgpack:"digest,omitempty"`
	// Owner is the machine process that runs the job, Machine its name.
	Owner   string `msgpack:"owner,omitempty"`
	Machine string `msgpack:"machine,omitempty"`
	// Token is different for each change, so that a writer recognizes its own change if it did
	// not hear of its success.
	Token    string        `msgpack:"token"`
	Progress *Progress     `msgpack:"progress,omitempty"`
	Result   []byte        `msgpack:"result,omitempty"`
	Stored   string        `msgpack:"stored,omitempty"` // the name of a large result
	Error    *wire.Failure `msgpack:"error,omitempty"`
	Webhook  *Webhook      `msgpack:"webhook,omitempty"`
}

// lifetime returns how long the record is kept, 0 if it has no age.
func (s *Store) lifetime(r *record) time.Duration {
	if r.State.Ended() {
		return max(time.Until(r.Ended.Add(s.config.Retention)), time.Second)
	}
	return 0
}

// load returns the record of a job and its revision: an empty record and 0 if there is none.
func (s *Store) load(ctx context.Context, ref Ref) (r record, revision uint64, err error) {
	entry, err := s.records.Get(ctx, ref.key())
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return record{}, 0, nil
	}
	if err != nil {
		return record{}, 0, err
	}
	return r, entry.Revision(), msgpack.Unmarshal(entry.Value(), &r)
}

// save stores a record if its revision is still the given one. The bucket's own methods cannot
// give an update an age, so save publishes what they would.
func (s *Store) save(ctx context.Context, ref Ref, r *record, revision uint64) (uint64, error) {
	data, err := msgpack.Marshal(r)
	if err != nil {
		return 0, err
	}
	header := nats.Header{jetstream.ExpectedLastSubjSeqHeader: {strconv.FormatUint(revision, 10)}}
	if age := s.lifetime(r); age > 0 {
		header[jetstream.MsgTTLHeader] = []string{age.Truncate(time.Second).String()}
	}
	ack, err := s.saved.publish(ctx, &nats.Msg{Subject: "$KV." + recordBucket + "." + ref.key(), Header: header, Data: data})
	if err != nil {
		return 0, err
	}
	return ack.Sequence, nil
}

// isConflict reports whether a record has changed meanwhile.
func isConflict(err error) bool {
	api, ok := errors.AsType[*jetstream.APIError](err)
	return ok && (api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence || api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequenceConstant)
}

// version is a record and its revision.
type version struct {
	record
	revision uint64
}

// The pauses between tries to reach the servers, and between two of a change that lost.
const (
	shortestPause = 2 * time.Millisecond
	longestPause  = 500 * time.Millisecond
)

// change changes the record of a job by compare-and-set. It calls apply with the record, which
// is empty if there is none; apply changes it, or returns false to leave it. If the servers do
// not answer, or another change came first, change begins again, until the context ends. If
// known is not nil, the first try takes it in place of the stored record. change returns the
// record as it is stored, and whether it is that of apply.
func (s *Store) change(ctx context.Context, ref Ref, known *version, apply func(r *record) bool) (v version, applied bool, err error) {
	token := nuid.Next()
	pause := shortestPause
	for {
		if known != nil {
			v, known = *known, nil
		} else {
			v.record, v.revision, err = s.load(ctx, ref)
		}
		if err == nil {
			if v.Token == token {
				return v, true, nil
			}
			before := v
			if !apply(&v.record) {
				return before, false, nil
			}
			v.Token = token
			var revision uint64
			if revision, err = s.save(ctx, ref, &v.record, v.revision); err == nil {
				v.revision = revision
				return v, true, nil
			}
		}
		if ctx.Err() != nil || !isConflict(err) && !isTransient(err) && !isFull(err) {
			return v, false, storeError(ctx, err, "change the job "+ref.String())
		}
		if isFull(err) {
			s.logger.Warn("the records of jobs are full; waiting", "job", ref.String(), "error", err)
		}
		err = nil
		select {
		case <-ctx.Done():
		case <-time.After(pause):
			pause = min(2*pause, longestPause)
		}
	}
}

// bounded returns a context that ends after a time, or with its parent, but has no deadline: with
// one, nats.go waits that long for an answer that was lost with a server. So each request has
// the timeout of nats.go, and is made again after it.
func bounded(parent context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(parent))
	stop := context.AfterFunc(parent, func() { cancel(context.Cause(parent)) })
	timer := time.AfterFunc(d, func() { cancel(context.DeadlineExceeded) })
	return ctx, func() {
		stop()
		timer.Stop()
		cancel(nil)
	}
}

// persevere calls an operation of the servers again until it succeeds, fails for another reason
// than that they do not answer, or the context ends.
func (s *Store) persevere(ctx context.Context, operation func() error) error {
	var last error
	for pause := shortestPause; ; pause = min(2*pause, longestPause) {
		err := operation()
		if ctx.Err() != nil && last != nil && err != nil {
			return last // it says more than that the time was over
		}
		if err == nil || ctx.Err() != nil || !isTransient(err) {
			return err
		}
		s.logger.Debug("the servers do not answer; trying again", "error", err)
		last = err
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pause):
		}
	}
}

// The time that storing a large input or result takes at most, before it is tried again.
const (
	storeTime    = 5 * time.Second
	storeTimeMiB = time.Second // for each MiB
)

// storeAside calls a function that stores a large content until it succeeds, as persevere does.
func (s *Store) storeAside(ctx context.Context, content []byte, put func(context.Context) error) error {
	return s.persevere(ctx, func() error {
		ctx, cancel := context.WithTimeout(ctx, storeTime+time.Duration(len(content)>>20)*storeTimeMiB)
		defer cancel()
		return put(ctx)
	})
}
