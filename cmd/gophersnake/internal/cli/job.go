package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/manifest"
)

// job takes inputs through a pipeline, shows how it goes, and puts out what comes
// of it.
type job struct {
	app      *app
	pipeline *manifest.Pipeline
	inputs   sourceSet
	out      output
	jobs     int // 0 for as many as there are workers
	failFast bool
	service  service

	display *display
	// told holds the failures whose stories have been told.
	told  map[string]bool
	first error // the first failure
}

func (j *job) do(ctx context.Context) error {
	j.told = make(map[string]bool)
	j.display = j.app.newDisplay(j.pipeline.Order(), len(j.inputs.sources))
	defer j.display.close()
	return j.app.withRunner(ctx, j.pipeline, j.display, j.service,
		func(ctx context.Context, r *runner.Runner, _ <-chan struct{}) error { return j.runAll(ctx, r) })
}

func (j *job) runAll(ctx context.Context, r *runner.Runner) error {
	b := &batch{jobs: j.jobs, failFast: j.failFast, run: r.Run}
	if b.jobs == 0 {
		b.jobs = workers(j.pipeline)
	}
	done, err := b.each(ctx, j.inputs.sources, j.take)
	if err != nil {
		return err
	}
	complete := done == len(j.inputs.sources) && ctx.Err() == nil
	if !complete {
		j.tellUnfinished(ctx, done)
	}
	if j.first != nil && !j.inputs.many {
		return j.first
	}
	return errors.Join(j.first, j.out.finish(complete))
}

// tellUnfinished says why not all inputs were done: the context ended, or else a
// failure did it, which has been told.
func (j *job) tellUnfinished(ctx context.Context, done int) {
	cause := context.Cause(ctx)
	if cause == nil {
		cause = errFailFast
	}
	if j.inputs.many {
		cause = fmt.Errorf("%w: %d of %s are done", cause, done, plural(len(j.inputs.sources), "input"))
	}
	if ctx.Err() == nil {
		j.app.logger.Warn(cause.Error())
		return
	}
	j.first = cause
}

// take puts out what came of one input, and tells of its failure.
func (j *job) take(o outcome) error {
	if !j.inputs.many {
		j.display.close() // the result comes below
	}
	failure, err := j.out.take(o)
	if failure == nil {
		return err
	}
	if e, ok := failure.(*runner.Error); ok && j.inputs.none && e.Kind == runner.KindExecution && e.Hint == "" {
		failure = e.WithHint("no input was given, so the pipeline was given null: see gophersnake run --help")
	}
	prefix := ""
	if j.inputs.many {
		prefix = shorten(o.source.name, 100) + ": "
	}
	if key := storyKey(failure); j.told[key] && !j.app.jsonErrors {
		j.app.reportLine(prefix, failure)
	} else {
		j.told[key] = true
		j.app.reportError(prefix, failure)
	}
	if j.first == nil {
		j.first = reportedError{failure}
	}
	return err
}

// storyKey is the same for failures of the same kind at the same place: the story
// of the first is enough.
func storyKey(err error) string {
	e, ok := errors.AsType[*runner.Error](err)
	if !ok {
		return err.Error()
	}
	key := fmt.Sprint(e.Kind, e.Node, e.Operation, e.PythonClass, e.Signal)
	if n := len(e.Traceback); n > 0 {
		key += fmt.Sprint(e.Traceback[n-1])
	}
	return key
}

// workers is how many workers a pipeline may have.
func workers(p *manifest.Pipeline) int {
	total := 0
	for _, n := range p.Nodes {
		total += max(n.Workers.Max, 1)
	}
	return total
}

// whyEnded prefers the reason for a context's end to an error that follows from it.
func whyEnded(ctx context.Context, err error) error {
	if cutOff(ctx, err) {
		return context.Cause(ctx)
	}
	return err
}
