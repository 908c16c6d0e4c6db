package cli

import (
	"context"
	"errors"
	"sync"
)

// outcome is what came of one input.
type outcome struct {
	source source
	value  any
	err    error
}

// batch takes inputs through a pipeline, several at once.
type batch struct {
	jobs     int
	failFast bool
	run      func(ctx context.Context, input any) (any, error)
}

// errFailFast is why runs were given up after another one had failed.
var errFailFast = errors.New("an input failed, and --fail-fast is given")

// each runs all inputs and hands their outcomes to take, in the inputs' order. It
// returns how many have an outcome: fewer than there are where the context ended,
// or a failure did with failFast. What was cut off by that has none.
func (b *batch) each(ctx context.Context, sources []source, take func(outcome) error) (done int, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel(nil)

	// The outcomes wait in line, each in a channel of its own; the line's length
	// bounds how many finished ones wait for a slow one before them.
	line := make(chan chan outcome, 2*b.jobs)
	running.Go(func() {
		defer close(line)
		slots := make(chan struct{}, b.jobs)
		for _, s := range sources {
			select {
			case slots <- struct{}{}:
			case <-ctx.Done():
				return
			}
			place := make(chan outcome, 1)
			select {
			case line <- place:
			case <-ctx.Done():
				return
			}
			running.Go(func() {
				defer func() { <-slots }()
				o := b.one(ctx, s)
				if o.err != nil && b.failFast {
					cancel(errFailFast)
				}
				place <- o
			})
		}
	})
	for place := range line {
		o := <-place
		if cutOff(ctx, o.err) {
			continue
		}
		done++
		if err := take(o); err != nil {
			return done, err
		}
	}
	return done, nil
}

func (b *batch) one(ctx context.Context, s source) outcome {
	value, err := load(ctx, s)
	if err == nil {
		value, err = b.run(ctx, value)
	}
	return outcome{source: s, value: value, err: err}
}

// load loads an input. A pipe that nobody writes to is left alone when the context
// ends.
func load(ctx context.Context, s source) (value any, err error) {
	loaded := make(chan struct{})
	var v any
	var failure error
	go func() {
		defer close(loaded)
		v, failure = s.load()
	}()
	select {
	case <-loaded:
		return v, failure
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// cutOff reports whether an error only says that the context has ended.
func cutOff(ctx context.Context, err error) bool {
	return err != nil && ctx.Err() != nil && (errors.Is(err, ctx.Err()) || errors.Is(err, context.Cause(ctx)))
}
