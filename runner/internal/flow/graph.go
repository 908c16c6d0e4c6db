package flow

import (
	"context"
	"sync"
	"sync/atomic"
)

// graphRun is one run of a plan that is no chain. Each step runs as soon as it has
// its inputs, and independent steps run at the same time.
type graphRun struct {
	plan    *Plan
	ctx     context.Context
	cancel  context.CancelCauseFunc
	input   Value
	steps   []stepRun
	running sync.WaitGroup

	once sync.Once
	err  error // the first failure; later ones follow from its cancellation
}

// stepRun is the progress of one step.
type stepRun struct {
	missing atomic.Int32 // inputs that have no value yet
	unused  atomic.Int32 // steps that still need the value, and the result
	value   Value
}

// runGraph runs all steps and releases the input. No step is still running when it
// returns.
func (p *Plan) runGraph(ctx context.Context, input Value) (Result, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer input.Release()
	r := &graphRun{plan: p, ctx: ctx, cancel: cancel, input: input, steps: make([]stepRun, len(p.steps))}
	for i := range p.steps {
		r.steps[i].missing.Store(int32(len(p.steps[i].inputs)))
		r.steps[i].unused.Store(int32(len(p.steps[i].next)))
		if p.steps[i].isSink {
			r.steps[i].unused.Add(1)
		}
	}
	for i := range p.steps {
		if len(p.steps[i].inputs) == 0 {
			r.running.Go(func() { r.runFrom(i) })
		}
	}
	r.running.Wait()
	if r.err != nil {
		r.releaseUnused()
		return Result{}, r.err
	}
	out := Result{plan: p, many: make([]Value, len(p.sinks))}
	for at, i := range p.sinks {
		out.many[at] = p.result(r.steps[i].value)
	}
	return out, nil
}

// runFrom runs a step, and then goes on with one of the steps whose last missing input
// this was, until there is none. For each of the others it starts a goroutine.
func (r *graphRun) runFrom(i int) {
	for i >= 0 {
		s := &r.plan.steps[i]
		out, err := s.node.Call(r.ctx, r.inputs(s))
		if err != nil {
			r.once.Do(func() {
				r.err = err
				r.cancel(err)
			})
			return
		}
		r.steps[i].value = out
		for _, from := range s.inputs {
			if r.steps[from].unused.Add(-1) == 0 {
				r.steps[from].value.Release()
			}
		}
		i = -1
		for _, next := range s.next {
			switch {
			case r.steps[next].missing.Add(-1) > 0:
			case i < 0:
				i = next
			default:
				r.running.Go(func() { r.runFrom(next) })
			}
		}
	}
}

// inputs returns the values that a step is called with.
func (r *graphRun) inputs(s *step) Inputs {
	if len(s.inputs) == 0 {
		return Inputs{First: r.input, Leave: s.leaves}
	}
	in := Inputs{First: r.steps[s.inputs[0]].value, Leave: s.leaves}
	if rest := s.inputs[1:]; len(rest) > 0 {
		in.Rest = make([]Value, len(rest))
		for at, from := range rest {
			in.Rest[at] = r.steps[from].value
		}
	}
	return in
}

// releaseUnused releases the values of a run that failed: those that are still needed by
// the result or by a step that has not run.
func (r *graphRun) releaseUnused() {
	for i := range r.steps {
		if r.steps[i].unused.Load() > 0 {
			r.steps[i].value.Release()
		}
	}
}
