package runner

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
)

// openStream opens a stream of a runner that has been entered.
func (r *Runner) openStream(ctx context.Context, window int) *Stream {
	s := newStream(ctx, r, window)
	r.runs.Add(1)
	r.mu.Lock()
	r.streams[s] = struct{}{}
	ending := r.ending
	r.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unhook = context.AfterFunc(ctx, func() { s.abort(contextEnd(ctx)) })
	if ending {
		s.stop(errClosed())
	}
	return s
}

// contextEnd is the error of a stream whose context has ended.
func contextEnd(ctx context.Context) *Error { return classify(context.Cause(ctx)) }

// streamEnded is told of a stream of which nothing is running any more.
func (r *Runner) streamEnded(s *Stream) {
	r.mu.Lock()
	delete(r.streams, s)
	r.mu.Unlock()
	r.runs.Done()
}

// endStreams ends the streams that are open, because the runner is closing, and those
// that are just being opened.
func (r *Runner) endStreams() {
	r.mu.Lock()
	r.ending = true
	open := slices.Collect(maps.Keys(r.streams))
	r.mu.Unlock()
	for _, s := range open {
		s.abort(errClosed())
	}
}

// newStream lays a stream out over the runner's plan: a stage for each step, and a
// queue for each connection. Nothing runs before there is something to do.
func newStream(ctx context.Context, r *Runner, window int) *Stream {
	pl := r.plan
	s := &Stream{runner: r, plan: pl, settled: make(chan struct{})}
	s.ctx, s.cancel = context.WithCancelCause(ctx)
	s.sender, s.receiver = sync.NewCond(&s.mu), sync.NewCond(&s.mu)
	if window == 0 {
		window = max(defaultWindow, pl.batch)
	}
	s.stages = make([]*stage, len(pl.steps))
	for i := range pl.steps {
		s.stages[i] = newStage(s, &pl.steps[i], window)
	}
	join := func(from, to *stage) *queue {
		q := newQueue(s, from, to, window)
		if from != nil {
			from.out = append(from.out, q)
		}
		if to != nil {
			to.in = append(to.in, q)
		}
		return q
	}
	for i, st := range s.stages {
		for _, in := range st.step.inputs {
			join(s.stages[in.from], st)
		}
		if len(st.step.inputs) == 0 {
			s.in = append(s.in, join(nil, st))
		}
		if len(st.step.next) == 0 {
			s.out = append(s.out, join(s.stages[i], nil))
		}
	}
	return s
}

// abort ends the stream at once, unless it has ended by itself.
func (s *Stream) abort(err *Error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ended {
		s.stop(err)
	}
}

// stop ends the stream at once, for the first reason given: what is under way is
// cancelled. The lock is held.
func (s *Stream) stop(err *Error) {
	if s.err != nil {
		return
	}
	s.err = err
	s.cancel(err)
	for _, st := range s.stages {
		st.wakeAll()
	}
	s.sender.Broadcast()
	s.receiver.Broadcast()
	s.settle()
}

// fail puts a fault into queues, behind what they hold. The lock is held.
func (s *Stream) fail(queues []*queue, fault *Error) {
	for _, q := range queues {
		q.fillFault(q.reserve(0), fault)
	}
	s.noteFault(fault)
}

// noteFault has Send tell the first fault. The lock is held.
func (s *Stream) noteFault(fault *Error) {
	if s.fault == nil {
		s.fault = fault
	}
	s.sender.Broadcast()
}

// settle takes note of the end, once the last goroutine has gone: a stage that is
// over has started the next one, if only to tell it so. What can still be received
// stays. The lock is held.
func (s *Stream) settle() {
	if s.ended || s.live > 0 {
		return
	}
	s.ended = true
	for _, q := range s.in {
		q.discard(0)
	}
	for _, st := range s.stages {
		for _, q := range st.out {
			if q.consumer == nil {
				q.discard(q.ready())
			} else {
				q.discard(0)
			}
		}
	}
	s.unhook()
	s.cancel(nil)
	close(s.settled)
	s.receiver.Broadcast()
	s.runner.streamEnded(s)
}

// isStuck reports whether the stream cannot go on, and ends it then. That can happen
// where branches that give different numbers of items meet: one is full, which holds
// their common source up, while the other one is waited for. It is called by who is
// about to wait; the lock is held.
func (s *Stream) isStuck() bool {
	if !s.plan.joins || s.busy > 0 {
		return false
	}
	if s.blocked && haveRoom(s.in, s.wants) || !s.blocked && !s.sent {
		return false // Send can go on, or is the caller's turn
	}
	for _, q := range s.out {
		if q.n > 0 {
			return false // Recv is the caller's turn
		}
	}
	if slices.ContainsFunc(s.stages, (*stage).canGoOn) {
		return false
	}
	for _, st := range s.stages {
		if starved, full := st.imbalance(); starved != nil && full != nil {
			s.stop(NewError(KindExecution, fmt.Sprintf(
				"it takes its inputs in step, but %q gave %d items, of which no more may wait, when %q had given %d",
				full.producer.step.node.id, full.given, starved.producer.step.node.id, starved.given)).
				WithNode(st.step.node.id).
				WithHint("let its inputs give as many items as each other, or give the stream a larger window with runner.WithWindow"))
		}
	}
	return s.err != nil
}
