package program

import (
	"context"
	"errors"
	"sync"

	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/failure"
	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/input"
	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/output"
)

// batch runs a pipeline on many inputs, several at the same time.
type batch struct {
	jobs     int // the number of inputs to process at the same time
	failFast bool
	run      func(ctx context.Context, input any) (any, error)
}

// errFailFast is the cause of runs that were canceled because another one failed.
var errFailFast = errors.New("an input failed, and --fail-fast is set")

// runAll runs all inputs and calls handle with their outcomes in the order of the inputs.
// It returns the number of outcomes. That is less than the number of inputs if the context
// ended or, with failFast, an input failed: an input that was canceled or not started has
// no outcome. An error of handle ends the batch.
func (b *batch) runAll(ctx context.Context, sources []input.Source, handle func(output.Outcome) error) (done int, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel(nil)

	// Each input has a channel for its outcome in the queue. The queue's capacity limits
	// the number of outcomes that wait for a slow input before them.
	queue := make(chan chan output.Outcome, 2*b.jobs)
	running.Go(func() {
		defer close(queue)
		slots := make(chan struct{}, b.jobs)
		for _, s := range sources {
			outcome := make(chan output.Outcome, 1)
			if !Send(ctx, slots, struct{}{}) || !Send(ctx, queue, outcome) {
				return
			}
			running.Go(func() {
				defer func() { <-slots }()
				o := b.runOne(ctx, s)
				if o.Err != nil && b.failFast {
					cancel(errFailFast)
				}
				outcome <- o
			})
		}
	})
	for outcome := range queue {
		o := <-outcome
		if failure.IsContextEnd(ctx, o.Err) {
			continue
		}
		done++
		if err := handle(o); err != nil {
			return done, err
		}
	}
	return done, nil
}

// Send sends a value to a channel unless the context ends before.
func Send[T any](ctx context.Context, to chan<- T, value T) bool {
	select {
	case to <- value:
		return true
	case <-ctx.Done():
		return false
	}
}

// runOne loads one input and runs the pipeline on it.
func (b *batch) runOne(ctx context.Context, s input.Source) output.Outcome {
	value, err := s.Load(ctx)
	if err == nil {
		value, err = b.run(ctx, value)
	}
	return output.Outcome{Name: s.Name, Stem: s.Stem, Value: value, Err: err}
}
