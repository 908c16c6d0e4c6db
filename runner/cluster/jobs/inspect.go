package jobs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/vmihailenco/msgpack/v5"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/cluster/internal/wire"
)

// Job is the state of a job at one time.
type Job struct {
	Ref
	State    State
	Priority Priority
	// Submitted, Begun and Ended are zero until that has happened; Begun is that of the last
	// attempt. NotBefore is zero if the job was not delayed.
	Submitted, NotBefore, Begun, Ended time.Time
	// Submitter is the client of [WithSubmitter], and Digest that of [WithDigest].
	Submitter, Digest string
	// Machine has run the job last.
	Machine string
	// Begins is how often a machine has begun the job, and Failures how often it has failed.
	Begins, Failures int
	// Progress is what the job has last reported, or nil.
	Progress *Progress
	// Err is the error of a failed job, with all that it had on the machine.
	Err *runner.Error
	// MayHaveRun says that the job has no result, but a node that is not idempotent may have
	// done its work.
	MayHaveRun bool
	// Webhook is nil if the job has none.
	Webhook *Webhook
}

// job returns what a record says.
func (r *record) job(ref Ref) *Job {
	j := &Job{
		Ref: ref, State: r.State, Priority: r.Priority, Submitted: r.Submitted, NotBefore: r.NotBefore, Begun: r.Begun, Ended: r.Ended,
		Machine: r.Machine, Begins: r.Begins, Failures: r.Failures, Progress: r.Progress, MayHaveRun: r.MayHaveRun,
		Submitter: r.Submitter, Digest: r.Digest, Webhook: r.Webhook,
	}
	if r.Error != nil {
		j.Err = r.Error.Err()
	}
	return j
}

// job returns what the message of a queued job says.
func (e *envelope) job() *Job {
	return &Job{
		Ref: e.ref(), State: Queued, Priority: e.Priority, Submitted: e.Submitted, NotBefore: e.NotBefore,
		Submitter: e.Submitter, Digest: e.Digest, Webhook: e.newWebhook(),
	}
}

// queued returns the message of a job that is in its stream, or nil.
func (s *Store) queued(ctx context.Context, ref Ref) (*envelope, *jetstream.RawStreamMsg, error) {
	stream, err := s.js.Stream(ctx, queueName(ref.Pipeline))
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	msg, err := stream.GetLastMsgForSubject(ctx, subjectOfJob(ref.Pipeline, ref.ID, "*"))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	e, err := readEnvelope(msg.Header)
	return &e, msg, err
}

// Get returns the state of a job. The error is of kind other, and wraps [ErrUnknown], if there is
// no such job.
func (s *Store) Get(ctx context.Context, ref Ref) (*Job, error) {
	r, revision, err := s.load(ctx, ref)
	if err == nil && revision > 0 {
		return r.job(ref), nil
	}
	var e *envelope
	if err == nil {
		e, _, err = s.queued(ctx, ref)
	}
	if err == nil && e == nil { // it may have begun and ended meanwhile
		if r, revision, err = s.load(ctx, ref); err == nil && revision > 0 {
			return r.job(ref), nil
		}
	}
	switch {
	case err != nil:
		return nil, storeError(ctx, err, "read the job "+ref.String())
	case e == nil:
		return nil, unknown(ref)
	}
	return e.job(), nil
}

// ErrUnknown is wrapped by the errors of jobs that do not exist, or not any more.
var ErrUnknown = errors.New("there is no such job")

func unknown(ref Ref) error {
	return runner.Wrap(ErrUnknown, runner.KindOther, ref.String()).WithHint("gophersnake jobs ls lists all; a job that has ended is kept for a time")
}

// List calls each with the jobs of a pipeline until it returns false: first those whose records
// exist, in the order of their last change, and then those that have not begun. It reads all of
// them, but holds only the ids.
func (s *Store) List(ctx context.Context, pipeline string, each func(*Job) bool) error {
	known := make(map[string]bool)
	more := true
	err := s.scan(ctx, pipeline, func(ref Ref, r *record) bool {
		known[ref.ID] = true
		more = each(r.job(ref))
		return more
	})
	if err != nil || !more {
		return storeError(ctx, err, "list jobs")
	}
	ids, err := s.queuedIDs(ctx, pipeline)
	if err != nil {
		return storeError(ctx, err, "list jobs")
	}
	for _, id := range ids {
		if known[id] {
			continue
		}
		j, err := s.Get(ctx, Ref{pipeline, id})
		if errors.Is(err, ErrUnknown) {
			continue
		}
		if err != nil || !each(j) {
			return err
		}
	}
	return nil
}

// Query selects jobs for [Store.Page].
type Query struct {
	// State and Submitter are those of the jobs; if one is empty, it does not matter.
	State     State
	Submitter string
	// After is the id after which the page begins, and Limit how many jobs it has at most.
	After string
	Limit int
}

func (q *Query) selects(j *Job) bool {
	return j.ID > q.After && (q.State == "" || j.State == q.State) && (q.Submitter == "" || j.Submitter == q.Submitter)
}

// Page returns jobs of a pipeline in the order of their ids, and whether there are more of them.
// It reads the records of all jobs that have begun, and of the others as many as it needs; it
// holds their ids.
func (s *Store) Page(ctx context.Context, pipeline string, q Query) (page []*Job, more bool, err error) {
	known := make(map[string]bool)
	add := func(j *Job) {
		if !q.selects(j) {
			return
		}
		i, again := slices.BinarySearchFunc(page, j.ID, func(j *Job, id string) int { return strings.Compare(j.ID, id) })
		if again { // it has changed meanwhile
			page[i] = j
			return
		}
		page = slices.Insert(page, i, j)
		page = page[:min(len(page), q.Limit+1)]
	}
	err = s.scan(ctx, pipeline, func(ref Ref, r *record) bool {
		known[ref.ID] = true
		add(r.job(ref))
		return true
	})
	var ids []string
	if err == nil && (q.State == "" || q.State == Queued) {
		ids, err = s.queuedIDs(ctx, pipeline)
	}
	for _, id := range ids {
		if known[id] || id <= q.After {
			continue
		}
		if err != nil || len(page) > q.Limit && id > page[q.Limit].ID {
			break
		}
		var j *Job
		if j, err = s.Get(ctx, Ref{pipeline, id}); err == nil {
			add(j)
		} else if errors.Is(err, ErrUnknown) {
			err = nil
		}
	}
	if err != nil {
		return nil, false, storeError(ctx, err, "list jobs")
	}
	return page[:min(len(page), q.Limit)], len(page) > q.Limit, nil
}

// queuedIDs returns the ids of the jobs in the stream of a pipeline, sorted.
func (s *Store) queuedIDs(ctx context.Context, pipeline string) (ids []string, err error) {
	stream, err := s.js.Stream(ctx, queueName(pipeline))
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	info, err := stream.Info(ctx, jetstream.WithSubjectFilter(subjectOfJob(pipeline, "*", "*")))
	if err != nil {
		return nil, err
	}
	for subject := range info.State.Subjects {
		if parts := strings.Split(subject, "."); len(parts) == 5 {
			ids = append(ids, wire.Untoken(parts[3]))
		}
	}
	slices.Sort(ids)
	return ids, nil
}

// Counts are the jobs in the queue of a pipeline.
type Counts struct {
	// Waiting are the jobs that no machine has been given, and Given those that a machine runs,
	// or that wait for another attempt or for their time.
	Waiting, Given uint64
	// Dead are the dead letters of the pipeline.
	Dead uint64
	// Paused says that machines take no jobs, and Draining that no jobs can be submitted.
	Paused, Draining bool
}

// Count returns how many jobs a pipeline has in its queue.
func (s *Store) Count(ctx context.Context, pipeline string) (c Counts, err error) {
	err = s.eachPriority(ctx, pipeline, func(_ jetstream.Stream, _ Priority, info *jetstream.ConsumerInfo) error {
		c.Waiting += info.NumPending
		c.Given += uint64(info.NumAckPending)
		c.Paused = c.Paused || info.Paused
		return nil
	})
	if err != nil {
		return c, err
	}
	dead, err := s.js.Stream(ctx, deadStream)
	if err == nil {
		var info *jetstream.StreamInfo
		if info, err = dead.Info(ctx, jetstream.WithSubjectFilter(subjectOfDead(pipeline, "*"))); err == nil {
			c.Dead = uint64(len(info.State.Subjects))
		}
	}
	if err == nil {
		_, err = s.records.Get(ctx, drainKey(pipeline))
		c.Draining = err == nil
		if errors.Is(err, jetstream.ErrKeyNotFound) {
			err = nil
		}
	}
	return c, storeError(ctx, err, "count jobs")
}

// scan calls each with the records of a pipeline as they are.
func (s *Store) scan(ctx context.Context, pipeline string, each func(Ref, *record) bool) error {
	return s.watch(ctx, wire.Token(pipeline)+".*", func(ref Ref, r *record) bool { return r != nil && each(ref, r) })
}

// watch calls each with the records whose keys match, as watchEntries does; the record is nil if
// that has no entry.
func (s *Store) watch(ctx context.Context, keys string, each func(Ref, *record) bool) error {
	return s.watchEntries(ctx, keys, func(entry jetstream.KeyValueEntry) (bool, error) {
		if entry == nil {
			return each(Ref{}, nil), nil
		}
		pipeline, id, _ := strings.Cut(entry.Key(), ".")
		var r record
		if err := msgpack.Unmarshal(entry.Value(), &r); err != nil {
			return false, err
		}
		return each(Ref{wire.Untoken(pipeline), wire.Untoken(id)}, &r), nil
	})
}

// watchEntries calls each with the entries of the records' bucket whose keys match, first as they
// are, then with nil, and then after each change, until it returns false or an error, or the context
// ends. It calls each with nil now and then while nothing changes, too.
func (s *Store) watchEntries(ctx context.Context, keys string, each func(jetstream.KeyValueEntry) (bool, error)) error {
	watcher, err := s.records.Watch(ctx, keys, jetstream.IgnoreDeletes())
	if err != nil {
		return err
	}
	defer func() { _ = watcher.Stop() }()
	silence := time.NewTimer(watchSilence)
	defer silence.Stop()
	for {
		var entry jetstream.KeyValueEntry
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-silence.C: // the watcher never says so if the last of the entries expire meanwhile
		case update, ok := <-watcher.Updates():
			if !ok {
				return fmt.Errorf("the watch of %s has ended", keys)
			}
			entry = update
		}
		silence.Reset(watchSilence)
		if more, err := each(entry); err != nil || !more {
			return err
		}
	}
}

// watchSilence is after which silence all records that exist have come.
const watchSilence = 3 * time.Second

// Watch calls each with the jobs of a pipeline that have begun, and again after each change, until
// it returns false or the context ends. Changes that follow each other fast may be one call.
func (s *Store) Watch(ctx context.Context, pipeline string, each func(*Job) bool) error {
	err := s.watch(ctx, wire.Token(pipeline)+".*", func(ref Ref, r *record) bool { return r == nil || each(r.job(ref)) })
	return storeError(ctx, err, "watch jobs")
}

// Wait waits until a job has ended, and returns it. It does not fail if the job has failed. The
// error is that of [Store.Get], or that of the context.
func (s *Store) Wait(ctx context.Context, ref Ref) (j *Job, err error) {
	err = s.Follow(ctx, ref, func(now *Job) bool { j = now; return true })
	return j, err
}

// Follow calls each with a job as it is, and again after each change, until the job has ended or
// each returns false. It may call each again if nothing has changed. Changes that follow each other
// fast may be one call. The error is that of [Store.Get], or that of the context.
func (s *Store) Follow(ctx context.Context, ref Ref, each func(*Job) bool) error {
	j, err := s.Get(ctx, ref)
	if err != nil {
		return err
	}
	if !each(j) || j.State.Ended() {
		return nil
	}
	err = s.watch(ctx, ref.key(), func(_ Ref, r *record) bool {
		switch {
		case r != nil:
			j = r.job(ref)
		default: // in silence, the record itself shows whether the watch has missed a change
			now, reading := s.Get(ctx, ref)
			if reading == nil {
				j = now
			}
		}
		return each(j) && !j.State.Ended()
	})
	return storeError(ctx, err, "wait for the job "+ref.String())
}

// Result returns the result of a job that is done. If it has failed, the error is that of the job,
// with its kind, node and traceback. If it has not ended or was canceled, the error is of kind other.
func (s *Store) Result(ctx context.Context, ref Ref) (any, error) {
	r, revision, err := s.load(ctx, ref)
	if err != nil {
		return nil, storeError(ctx, err, "read the job "+ref.String())
	}
	switch {
	case revision == 0 || !r.State.Ended():
		j, err := s.Get(ctx, ref)
		if err != nil {
			return nil, err
		}
		return nil, runner.NewError(runner.KindOther, fmt.Sprintf("the job %s is %s and has no result yet", ref, j.State))
	case r.State == Canceled:
		return nil, runner.Wrap(context.Canceled, runner.KindOther, fmt.Sprintf("the job %s was canceled", ref))
	case r.State == Failed:
		return nil, r.Error.Err()
	}
	content := r.Result
	if r.Stored != "" {
		if content, err = s.results.Get(ctx, r.Stored); err != nil {
			return nil, err
		}
	}
	return decode("result", content, s.config.OrderedMaps)
}

// decode returns the value of a content.
func decode(what string, content []byte, ordered bool) (any, error) {
	p, err := wire.ReadPayload(content)
	if err != nil {
		return nil, runner.Wrap(err, runner.KindMarshaling, "read the "+what+" of a job")
	}
	if ordered {
		p = p.Ordered()
	}
	return p.Decode(what, ipc.DefaultLimits())
}
