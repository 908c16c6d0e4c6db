package jobs

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/vmihailenco/msgpack/v5"

	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/cluster/internal/wire"
)

// deadLetter is the message of a job that has failed.
type deadLetter struct {
	Error *wire.Failure `msgpack:"error"`
	// Content is the input, and Stored the name of one that is too large, in the results bucket.
	Content []byte `msgpack:"content,omitempty"`
	Stored  string `msgpack:"stored,omitempty"`
}

// bury publishes the dead letter of a failed job, and reports whether it is new. Again, it changes
// nothing.
func (s *Store) bury(ctx context.Context, e *envelope, content []byte, failure *wire.Failure) (isNew bool, err error) {
	dead := deadLetter{Error: failure, Content: content}
	body, err := msgpack.Marshal(&dead)
	if err == nil && len(body) > s.largest() {
		if dead.Stored, err = s.results.Put(ctx, content); err == nil {
			dead.Content = nil
			body, err = msgpack.Marshal(&dead)
		}
	}
	if err != nil {
		return false, err
	}
	msg, err := e.message(body)
	if err != nil {
		return false, err
	}
	msg.Subject = subjectOfDead(e.Pipeline, e.ID)
	ack, err := s.js.PublishMsg(ctx, msg, jetstream.WithMsgID(e.messageID()))
	return err == nil && !ack.Duplicate, err
}

// ErrEnded is wrapped by the error of [Store.Cancel] for a job that has ended.
var ErrEnded = errors.New("only a queued or running job can be canceled")

// Cancel cancels a job, queued or running, and reports it as canceled. The machine that runs it
// cancels the run; what its nodes have done is not undone, and if one of them is not idempotent,
// the job says that it may have run. The error is of kind other if the job has ended.
func (s *Store) Cancel(ctx context.Context, ref Ref) error {
	e, msg, err := s.queued(ctx, ref)
	if err != nil {
		return storeError(ctx, err, "cancel the job "+ref.String())
	}
	var owner string
	v, applied, err := s.change(ctx, ref, nil, func(r *record) bool {
		switch {
		case r.State.Ended(), r.State == "" && e == nil:
			return false
		case r.State == "":
			e.describe(r)
		case r.State == Running:
			owner, r.MayHaveRun = r.Owner, !r.Idempotent
		}
		r.State, r.Ended = Canceled, time.Now()
		return true
	})
	switch {
	case err != nil:
		return err
	case !applied && v.State == "":
		return unknown(ref)
	case !applied:
		return runner.Wrap(ErrEnded, runner.KindOther, fmt.Sprintf("the job %s has ended: it is %s", ref, v.State))
	}
	if owner != "" {
		_ = s.nc.Publish(subjectOfOwner(owner), []byte(askCancel+ref.key()))
		return nil // that machine, or the next that is given the job, removes it from the queue
	}
	if msg != nil && s.queueWebhook(ctx, ref, &v.record) == nil { // else the machine that is given the job does both
		s.removeQueued(ctx, e, msg.Sequence)
	}
	return nil
}

// removeQueued deletes the message of a job that has ended. If that fails, the machine that is
// given the job deletes it.
func (s *Store) removeQueued(ctx context.Context, e *envelope, sequence uint64) {
	stream, err := s.js.Stream(ctx, queueName(e.Pipeline))
	if err == nil {
		err = stream.DeleteMsg(ctx, sequence)
	}
	if err == nil {
		s.dropInput(ctx, e.Stored)
	}
}

// dropInput deletes a large input, unless the name is empty. If the servers do not answer for
// long, the sweep of a machine deletes it.
func (s *Store) dropInput(ctx context.Context, name string) {
	if name == "" {
		return
	}
	ctx, cancel := bounded(ctx, submitPatience)
	defer cancel()
	for pause := shortestPause; s.inputs.Delete(ctx, name) != nil && ctx.Err() == nil; pause = min(2*pause, longestPause) {
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

// sweepAge is how old a large input is at least that the sweep deletes. A job is queued sooner
// after its input was stored.
const sweepAge = time.Hour

// sweep deletes large inputs that no queued job has any more, because a submitter died before it
// queued the job, or a machine after the job had ended.
func (s *Store) sweep(ctx context.Context, age time.Duration) error {
	return s.inputs.Names(ctx, func(name string, stored time.Time) {
		parts := strings.Split(name, ".")
		if len(parts) != 3 || time.Since(stored) < age {
			return
		}
		e, _, err := s.queued(ctx, Ref{wire.Untoken(parts[0]), wire.Untoken(parts[1])})
		if err == nil && (e == nil || e.Stored != name) {
			s.dropInput(ctx, name)
		}
	})
}

// Retry queues a failed job again, with its input from the dead letter. Its next runs are in the
// trace of the context, or in that of the submitter if the context has none. The error is of kind
// other if the job has not failed, or its dead letter is not kept any more.
func (s *Store) Retry(ctx context.Context, ref Ref) error {
	stream, err := s.js.Stream(ctx, deadStream)
	if err != nil {
		return storeError(ctx, err, "retry the job "+ref.String())
	}
	msg, err := s.deadLetter(ctx, stream, ref)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return runner.NewError(runner.KindOther, fmt.Sprintf("the job %s has no dead letter", ref)).
			WithHint("only failed jobs can be retried, as long as their dead letters are kept")
	}
	var e envelope
	var dead deadLetter
	if err == nil {
		if e, err = readEnvelope(msg.Header); err == nil {
			err = msgpack.Unmarshal(msg.Data, &dead)
		}
	}
	if err == nil && dead.Stored != "" {
		dead.Content, err = s.results.Get(ctx, dead.Stored)
	}
	if err != nil {
		return storeError(ctx, err, "read the dead letter of "+ref.String())
	}
	e.setTrace(ctx)
	buried := e.Round
	e.Round, e.Stored, e.NotBefore = buried+1, "", time.Time{}
	v, applied, err := s.change(ctx, ref, nil, func(r *record) bool {
		if r.State == Queued && r.Round == e.Round || r.State != Failed && r.State != "" {
			return false
		}
		*r = record{State: Queued, Idempotent: r.Idempotent}
		e.describe(r)
		return true
	})
	if err != nil {
		return err
	}
	if !applied && (v.State != Queued || v.Round != e.Round) { // else an earlier retry has died after its change
		return runner.NewError(runner.KindOther, fmt.Sprintf("the job %s is %s", ref, v.State))
	}
	if err := s.enqueueAgain(ctx, &e, dead.Content); err != nil {
		return err
	}
	return storeError(ctx, s.dropDead(ctx, stream, msg.Sequence, &dead), "delete the dead letter of "+ref.String())
}

// deadLetter returns the dead letter of a job. If the job is still in its queue, its machine may be
// about to store the letter, so deadLetter waits for that.
func (s *Store) deadLetter(ctx context.Context, stream jetstream.Stream, ref Ref) (*jetstream.RawStreamMsg, error) {
	ctx, cancel := bounded(ctx, submitPatience)
	defer cancel()
	isLast := false
	for pause := shortestPause; ; pause = min(2*pause, longestPause) {
		msg, err := stream.GetLastMsgForSubject(ctx, subjectOfDead(ref.Pipeline, ref.ID))
		if !errors.Is(err, jetstream.ErrMsgNotFound) || isLast {
			return msg, err
		}
		r, _, loading := s.load(ctx, ref)
		queued, _, reading := s.queued(ctx, ref)
		if loading != nil || reading != nil || r.State != Failed || ctx.Err() != nil {
			return nil, err
		}
		isLast = queued == nil // if there was a letter to come, it has come
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

// enqueueAgain queues the job of a dead letter. The message of its last round may still be in
// the stream, because the machine that failed has not acknowledged it yet.
func (s *Store) enqueueAgain(ctx context.Context, e *envelope, content []byte) error {
	for pause := shortestPause; ; pause = min(2*pause, longestPause) {
		known, err := s.enqueue(ctx, e, content)
		if err != nil || !known {
			return err
		}
		queued, _, err := s.queued(ctx, e.ref())
		if err == nil && queued != nil && queued.Round == e.Round {
			return nil
		}
		if err == nil && queued == nil { // that of this round has ended, or that of the last one was in the way until now
			var r record
			if r, _, err = s.load(ctx, e.ref()); err == nil && (r.State != Queued || r.Round != e.Round) {
				return nil
			}
		}
		if err != nil {
			return storeError(ctx, err, "retry the job "+e.ref().String())
		}
		select {
		case <-ctx.Done():
			return storeError(ctx, ctx.Err(), "retry the job "+e.ref().String())
		case <-time.After(pause):
		}
	}
}

// dropDead deletes a dead letter. It may be gone: the job may have failed again already, and its
// new letter has then replaced this one.
func (s *Store) dropDead(ctx context.Context, stream jetstream.Stream, sequence uint64, dead *deadLetter) error {
	err := stream.DeleteMsg(ctx, sequence)
	if err != nil {
		if _, reading := stream.GetMsg(ctx, sequence); errors.Is(reading, jetstream.ErrMsgNotFound) {
			err = nil
		}
	}
	if err == nil && dead.Stored != "" {
		s.results.Drop(dead.Stored)
	}
	return err
}

// forever is when a paused pipeline goes on by itself.
const forever = 100 * 365 * 24 * time.Hour

// Pause makes all machines take no further jobs of a pipeline, until [Store.Resume]. Jobs that
// run go on, and jobs can be submitted.
func (s *Store) Pause(ctx context.Context, pipeline string) error {
	return s.eachConsumer(ctx, pipeline, func(stream jetstream.Stream, name string) error {
		_, err := stream.PauseConsumer(ctx, name, time.Now().Add(forever))
		return err
	})
}

// Resume ends a pause and a drain of a pipeline.
func (s *Store) Resume(ctx context.Context, pipeline string) error {
	if err := s.records.Purge(ctx, drainKey(pipeline)); err != nil {
		return storeError(ctx, err, "resume "+pipeline)
	}
	s.mu.Lock()
	delete(s.drains, pipeline)
	s.mu.Unlock()
	err := s.eachConsumer(ctx, pipeline, func(stream jetstream.Stream, name string) error {
		_, err := stream.ResumeConsumer(ctx, name)
		return err
	})
	if err == nil {
		for _, priority := range priorities {
			_ = s.nc.Publish(subjectOfWake(pipeline), []byte(priority))
		}
	}
	return err
}

func (s *Store) eachConsumer(ctx context.Context, pipeline string, do func(stream jetstream.Stream, name string) error) error {
	stream, err := s.js.Stream(ctx, queueName(pipeline))
	if err != nil {
		return s.submitError(ctx, pipeline, err)
	}
	for _, priority := range priorities {
		if err := do(stream, string(priority)); err != nil {
			return storeError(ctx, err, "change the queue of "+pipeline)
		}
	}
	return nil
}

// Drain makes Submit refuse further jobs of a pipeline, within a second, until [Store.Resume],
// and waits until all queued jobs have ended. If the context ends first, Drain returns its
// error, and the pipeline still drains.
func (s *Store) Drain(ctx context.Context, pipeline string) error {
	stream, err := s.js.Stream(ctx, queueName(pipeline))
	if err != nil {
		return s.submitError(ctx, pipeline, err)
	}
	if _, err := s.records.Put(ctx, drainKey(pipeline), []byte("draining")); err != nil {
		return storeError(ctx, err, "drain "+pipeline)
	}
	s.mu.Lock()
	delete(s.drains, pipeline)
	s.mu.Unlock()
	select { // until no client takes the pipeline for open
	case <-time.After(drainKnown):
	case <-ctx.Done():
	}
	for pause := shortestPause; ; pause = min(2*pause, longestPause) {
		info, err := stream.Info(ctx)
		if err == nil && info.State.Msgs == 0 {
			return nil
		}
		if err != nil && !isTransient(err) || ctx.Err() != nil {
			return storeError(ctx, errors.Join(err, ctx.Err()), "drain "+pipeline)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
}

// The questions to the machine that owns a job. A key follows.
const (
	askHas    = "has "
	askCancel = "cancel "
	answerYes = "yes"
)

// ownerTimeout is how long a machine has to say that it runs a job.
const ownerTimeout = 5 * time.Second

// runsAt reports whether a machine says that it runs a job. The machine is dead or cut off if it
// does not answer.
func (s *Store) runsAt(ctx context.Context, owner string, ref Ref) bool {
	ctx, cancel := context.WithTimeout(ctx, ownerTimeout)
	defer cancel()
	answer, err := s.nc.RequestMsgWithContext(ctx, &nats.Msg{Subject: subjectOfOwner(owner), Data: []byte(askHas + ref.key())})
	return err == nil && string(answer.Data) == answerYes
}
