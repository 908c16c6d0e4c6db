package jobs

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/retry"
	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/cluster/internal/wire"
)

// run is a job that this server has been given.
type run struct {
	*puller
	store  *Store
	ref    Ref
	e      envelope
	msg    jetstream.Msg
	ctx    context.Context
	cancel context.CancelCauseFunc
	// fetched is when the job was asked for, and slotted when it got its slot, zero before.
	fetched, slotted time.Time
	hasLeft          bool // the slot

	progress atomic.Pointer[Progress] // what is not stored yet

	mu      sync.Mutex
	version version // the record as this server has stored it
}

// verdict is what becomes of a job that a server was given.
type verdict int

const (
	begun     verdict = iota // the server runs it
	settled                  // it has ended
	elsewhere                // another run of it is alive
	lost                     // it must not be begun again, and has failed
)

// errFenced cancels the run of a job that was canceled, or that another machine has begun.
var errFenced = errors.New("the job was canceled, or another machine has it")

// handle brings a job that the server was given to its end, or gives it back. It reports whether
// the job has had a slot.
func (p *puller) handle(msg jetstream.Msg, fetched time.Time) (hadSlot bool) {
	e, err := readEnvelope(msg.Headers())
	if err != nil {
		p.server.store.logger.Error("a message of the queue is not a job; it is deleted", "subject", msg.Subject(), "error", err)
		_ = msg.TermWithReason("it is not a job")
		return false
	}
	if wait := time.Until(e.NotBefore); wait > 0 {
		_ = msg.NakWithDelay(wait)
		return false
	}
	r := &run{puller: p, store: p.server.store, ref: e.ref(), e: e, msg: msg, fetched: fetched}
	r.ctx, r.cancel = context.WithCancelCause(p.server.living)
	defer r.cancel(nil)
	if !p.server.enter(r) {
		_ = msg.NakWithDelay(r.store.config.AckWait)
		return false
	}
	defer p.server.leave(r)
	if !p.idempotent && r.enterSlot() != nil { // a job that has begun may have run, so it begins only now
		_ = msg.Nak()
		return false
	}
	defer r.leaveSlot()
	r.bring()
	return !r.slotted.IsZero()
}

// bring begins the job and brings it to its end, or gives it back.
func (r *run) bring() {
	verdict, err := r.begin()
	switch {
	case err != nil:
		r.store.logger.Warn("cannot begin a job", "job", r.ref.String(), "error", err)
		_ = r.msg.NakWithDelay(recheck)
	case verdict == elsewhere:
		_ = r.msg.NakWithDelay(r.store.config.AckWait)
	case verdict == begun:
		r.counts.begins.Add(1)
		if r.version.Begins > 1 {
			r.counts.redeliveries.Add(1)
		}
		r.execute()
	default:
		r.settle()
	}
}

// begin marks the job as begun by compare-and-set, before a worker gets it. The message may be
// a second delivery, so the record decides.
func (r *run) begin() (what verdict, err error) {
	var known *version
	if meta, err := r.msg.Metadata(); err == nil && meta.NumDelivered == 1 && r.e.Round == 0 {
		known = &version{} // most likely there is no record
	}
	v, _, err := r.store.change(r.server.living, r.ref, known, func(record *record) bool {
		what = r.judge(record)
		switch what {
		case begun:
			record.State, record.Begun, record.Error, record.Progress = Running, time.Now(), nil, nil
			record.Owner, record.Machine, record.Idempotent = r.server.id, r.server.name, r.idempotent
			record.Begins++
		case lost:
			r.fail(record, r.lostError(record))
		}
		return what == begun || what == lost
	})
	r.version = v
	return what, err
}

// judge decides about a job from its record, and completes an empty one.
func (r *run) judge(record *record) verdict {
	if record.State == "" {
		r.e.describe(record)
	}
	switch {
	case record.State.Ended(), record.Round > r.e.Round:
		return settled
	case record.State != Running:
		return begun
	case record.Owner != r.server.id && r.store.runsAt(r.server.living, record.Owner, r.ref):
		return elsewhere
	case !record.Idempotent, record.Begins >= r.store.config.Begins:
		return lost
	}
	return begun
}

// lostError is the error of a job whose machine died, and that is not begun again.
func (r *run) lostError(record *record) *runner.Error {
	if !record.Idempotent {
		record.MayHaveRun = true
		return runner.NewError(runner.KindTransport, fmt.Sprintf("machine %s was lost during the job; the job may have run", record.Machine)).
			WithMetadata("machine", record.Machine).WithHint("a node of the pipeline is not idempotent, so the job is not begun again; gophersnake jobs retry does that")
	}
	return runner.NewError(runner.KindTransport, fmt.Sprintf("%d machines were lost during the job, the last of them %s", record.Begins, record.Machine)).
		WithMetadata("machine", record.Machine)
}

// fail changes a record to that of a failed job.
func (r *run) fail(record *record, err error) {
	record.State, record.Ended, record.Error = Failed, time.Now(), wire.NewFailure(err)
}

// execute runs a job that has begun, and stores its outcome.
func (r *run) execute() {
	alive, stop := context.WithCancel(r.server.living)
	var keeping sync.WaitGroup
	keeping.Go(func() { r.keepAlive(alive) })
	result, err := r.result()
	r.leaveSlot()
	if err == nil {
		err = r.finish(result)
	}
	if err != nil {
		err = r.failed(err)
	}
	stop()
	keeping.Wait()
	if err != nil {
		r.store.logger.Warn("cannot store the outcome of a job; it will be begun again", "job", r.ref.String(), "error", err)
	}
}

// enterSlot waits for a slot, if the job has none.
func (r *run) enterSlot() (err error) {
	if r.slotted.IsZero() {
		r.slotted, err = r.slots.enter(r.ctx, r.fetched)
	}
	return err
}

// leaveSlot frees the slot of the job, once.
func (r *run) leaveSlot() {
	if !r.slotted.IsZero() && !r.hasLeft {
		r.hasLeft = true
		r.slots.leave(r.slotted)
		r.signal()
	}
}

// outcome is the result of a job, in the record or stored aside.
type outcome struct {
	content []byte
	stored  string // the name of a large result
}

// result runs the pipeline in a slot and returns the result. A large one is stored when result
// returns, so that a machine holds no more of them than it has slots.
func (r *run) result() (o outcome, err error) {
	if err := r.enterSlot(); err != nil {
		return o, err
	}
	input, err := r.content(r.ctx)
	if err != nil {
		return o, err
	}
	value, err := decode("input", input, true)
	if err != nil {
		return o, err
	}
	ctx, stop := runner.WithProgress(context.WithValue(r.e.withTrace(r.ctx), runKey{}, r), r.reported)
	defer stop()
	err = r.runner.RunView(ctx, value, func(v any) error {
		p, err := ipc.Encode("result", v)
		if err != nil {
			return runner.Wrap(err, runner.KindMarshaling, "").WithOperation("encode the result")
		}
		o.content = wire.AppendPayload(make([]byte, 0, p.Size()+wire.PayloadRoom), p)
		return nil
	})
	if err == nil && len(o.content) > largestInline {
		o.stored, err = r.storeLarge(o.content)
		o.content = nil
	}
	return o, err
}

// storeLarge stores a large result, and returns its name. It waits for servers that do not answer.
func (r *run) storeLarge(content []byte) (name string, err error) {
	err = r.store.storeAside(r.server.living, content, func(ctx context.Context) (err error) {
		name, err = r.store.results.Put(ctx, content)
		return err
	})
	return name, err
}

// staleTime is how long a large input may be missing on the server that is asked for it, because
// that one has not got it yet.
const staleTime = 5 * time.Second

// content returns the encoded input. It waits for servers that do not answer.
func (r *run) content(ctx context.Context) (content []byte, err error) {
	if r.e.Stored == "" {
		return r.msg.Data(), nil
	}
	started := time.Now()
	for {
		err = r.store.persevere(ctx, func() (err error) {
			content, err = r.store.inputs.Get(ctx, r.e.Stored)
			return err
		})
		if !errors.Is(err, jetstream.ErrObjectNotFound) || time.Since(started) > staleTime || ctx.Err() != nil {
			return content, err
		}
		select {
		case <-ctx.Done():
		case <-time.After(longestPause):
		}
	}
}

// largestInline is how large a result may be that is a part of the record.
const largestInline = 128 << 10

// finish stores the result of a job, unless the job was canceled or another machine has begun it
// meanwhile, and acknowledges the message.
func (r *run) finish(o outcome) error {
	applied, err := r.conclude(func(record *record) {
		record.State, record.Ended, record.Result, record.Stored = Done, time.Now(), o.content, o.stored
	})
	if o.stored != "" && !applied {
		r.store.results.Drop(o.stored)
	}
	if err == nil {
		r.settle()
	}
	return err
}

// conclude changes the record of the job if this server still has it.
func (r *run) conclude(apply func(*record)) (applied bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	known := r.version
	v, applied, err := r.store.change(r.server.living, r.ref, &known, func(record *record) bool {
		if record.State != Running || record.Owner != r.server.id || record.Begins != known.Begins || record.Round != known.Round {
			return false
		}
		apply(record)
		if progress := r.progress.Load(); progress != nil {
			record.Progress = progress
		}
		return true
	})
	if err == nil {
		r.version = v
	}
	return applied, err
}

// failed deals with an error of the run: the job waits for another attempt, or it has failed.
func (r *run) failed(err error) error {
	var wait time.Duration
	given := false // back to the queue
	_, concluding := r.conclude(func(record *record) {
		switch cause := context.Cause(r.ctx); {
		case errors.Is(cause, errLeaving) && record.Idempotent, couldNotBegin(err), r.slotted.IsZero():
			record.Begins--
			given = true
			if couldNotBegin(err) && !errors.Is(cause, errLeaving) {
				wait = recheck
				r.pauseFor(recheck)
			}
		case errors.Is(cause, errLeaving):
			record.MayHaveRun = true
			r.fail(record, runner.Wrap(err, runner.KindTransport, "the machine was stopped during the job; the job may have run"))
		default:
			record.Failures++
			given = record.Failures < r.e.Attempts && runner.IsRetryable(err)
			wait = r.e.RetryDelay
			if !given {
				r.fail(record, runner.AsError(err).WithMetadata("machine", r.server.name))
			}
		}
		if given {
			record.State, record.Owner = Queued, ""
			if !r.slotted.IsZero() {
				record.Error = wire.NewFailure(err)
			}
		}
	})
	switch {
	case concluding != nil:
		return concluding
	case r.version.State == Queued:
		_ = r.msg.NakWithDelay(wait)
	default:
		r.settle()
	}
	return nil
}

// couldNotBegin reports whether no node has begun the job, for a reason of this machine.
func couldNotBegin(err error) bool {
	return errors.Is(err, runner.ErrDraining) || errors.Is(err, runner.ErrClosed) && runner.AsError(err).NotBegun || errors.Is(err, retry.ErrOpen)
}

// settle removes a job that has ended from the queue: its webhook first, which a retry of the job
// must not overtake, and then the dead letter, if it has failed.
// If the job belongs to another machine now, settle leaves it alone.
func (r *run) settle() {
	isCurrent := r.version.Round == r.e.Round
	if isCurrent && !r.version.State.Ended() {
		return
	}
	if isCurrent {
		if err := r.store.queueWebhook(r.server.living, r.ref, &r.version.record); err != nil {
			r.store.logger.Warn("cannot store a webhook; trying again", "job", r.ref.String(), "error", err)
			_ = r.msg.NakWithDelay(recheck)
			return
		}
	}
	if isCurrent && r.version.State == Failed {
		content, err := r.content(r.server.living)
		switch {
		case err == nil:
			var isNew bool
			if isNew, err = r.store.bury(r.server.living, &r.e, content, r.version.Error); isNew {
				r.counts.dead.Add(1)
			}
		case errors.Is(err, jetstream.ErrObjectNotFound): // it was deleted after the dead letter had been stored
			err = nil
		}
		if err != nil {
			r.store.logger.Warn("cannot store a dead letter; trying again", "job", r.ref.String(), "error", err)
			_ = r.msg.NakWithDelay(recheck)
			return
		}
	}
	if r.msg.Ack() == nil {
		r.store.dropInput(r.server.living, r.e.Stored)
	}
}

// keepAlive tells the server that the job is running, stores its progress, and looks whether
// the job still belongs to this machine, until the context ends.
func (r *run) keepAlive(ctx context.Context) {
	ticker, reports := time.NewTicker(r.store.config.AckWait/3), time.NewTicker(min(reportInterval, r.store.config.AckWait/3))
	defer ticker.Stop()
	defer reports.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-reports.C:
			if r.progress.Load() != nil {
				r.check(ctx)
			}
			continue
		case <-ticker.C:
		}
		r.confirm(ctx)
		r.check(ctx)
	}
}

// confirm tells the server that the job is in progress, and waits for its answer. If there is
// none, the record, and the question of the machine that is given the job next, protect the job.
func (r *run) confirm(ctx context.Context) {
	bounded, cancel := context.WithTimeout(ctx, r.store.config.AckWait/3)
	defer cancel()
	if _, err := r.store.nc.RequestWithContext(bounded, r.msg.Reply(), inProgress); err != nil && ctx.Err() == nil {
		r.store.logger.Debug("the server does not confirm that a job is in progress", "job", r.ref.String(), "error", err)
	}
}

// inProgress is the acknowledgment of a job that is still running.
var inProgress = []byte("+WPI")

// check cancels the run if the job does not belong to this machine any more, and otherwise stores
// its progress.
func (r *run) check(ctx context.Context) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.version.State != Running {
		return
	}
	if progress := r.progress.Load(); progress != nil {
		known := r.version
		v, applied, err := r.store.change(ctx, r.ref, &known, func(record *record) bool {
			record.Progress = progress
			return record.State == Running && record.Owner == r.server.id && record.Begins == known.Begins
		})
		switch {
		case err == nil && applied:
			r.version = v
			r.progress.CompareAndSwap(progress, nil)
		case err == nil:
			r.cancel(errFenced)
		}
		return
	}
	record, revision, err := r.store.load(ctx, r.ref)
	if err == nil && revision > r.version.revision && (record.State != Running || record.Owner != r.server.id || record.Begins != r.version.Begins) {
		r.cancel(errFenced)
	}
}
