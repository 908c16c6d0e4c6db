package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/failure"
	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/input"
	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/output"
	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/terminal"
	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/manifest"
)

// job runs a pipeline on all inputs of a command, shows the progress, and writes the
// results.
type job struct {
	app      *app
	pipeline *manifest.Pipeline
	inputs   input.Set
	out      output.Writer
	jobs     int // 0 means the number of workers
	failFast bool
	// breakerWait makes inputs wait for the probe of an open circuit breaker.
	breakerWait bool
	service     serviceFlags

	display *terminal.Display
	// detailed holds the failures that were printed with details; see failureKey.
	detailed map[string]bool
	first    error // the first failure
	failed   int   // the number of inputs that failed
	done     int   // the number of inputs that were run
}

// runOnce runs the inputs once. The totals come last, below what the nodes have written to
// the log until their workers ended.
func (j *job) runOnce(ctx context.Context) error {
	j.display = j.app.newDisplay(j.pipeline.Order(), len(j.inputs.Sources))
	defer j.display.Close()
	ran := false
	err := j.app.withRunner(ctx, j.pipeline, j.display, j.service,
		func(ctx context.Context, r *runner.Runner, _ <-chan struct{}) (err error) {
			ran, err = j.runAll(ctx, r.Run)
			return err
		}, j.options()...)
	if ran {
		j.printTotals()
	}
	return err
}

// options returns the options of the runner. A single input does not wait for a breaker,
// since nothing before it can have opened one, except an earlier run with --watch.
func (j *job) options() []runner.Option {
	if j.breakerWait && j.inputs.Many {
		return []runner.Option{runner.WithBreakerWait()}
	}
	return nil
}

// errChanged is the cause of a run that was canceled because the code has changed.
var errChanged = errors.New("the code has changed")

// runRepeatedly runs the inputs, and again after each reload of the code, each time into a
// new output, until the context ends. It shows progress only in the log.
func (j *job) runRepeatedly(ctx context.Context, newOutput func() (output.Writer, error)) error {
	j.display = terminal.NewLogDisplay(j.app.console, j.app.logger)
	return j.app.withRunner(ctx, j.pipeline, j.display, j.service,
		func(ctx context.Context, r *runner.Runner, reloaded <-chan struct{}) error {
			for {
				changed, err := j.runUntilChange(ctx, r, reloaded)
				if ctx.Err() != nil {
					return context.Cause(ctx)
				}
				if err != nil {
					j.app.report(ctx, err)
				}
				if !changed {
					j.app.logger.Info("waiting for the next change of the code; Ctrl-C ends the command")
					select {
					case <-reloaded:
					case <-ctx.Done():
						return context.Cause(ctx)
					}
				}
				if j.out, err = newOutput(); err != nil {
					return err
				}
			}
		}, j.options()...)
}

// runUntilChange runs the inputs. If the code is reloaded meanwhile, it cancels the run.
func (j *job) runUntilChange(ctx context.Context, r *runner.Runner, reloaded <-chan struct{}) (changed bool, err error) {
	defer func() { j.out.Discard() }()
	round, cancel := context.WithCancelCause(ctx)
	watching := make(chan struct{})
	go func() {
		defer close(watching)
		select {
		case <-reloaded:
			changed = true
			cancel(errChanged)
		case <-round.Done():
		}
	}()
	ran, err := j.runAll(round, r.Run)
	if ran {
		j.printTotals()
	}
	cancel(nil)
	<-watching
	if changed {
		return true, nil
	}
	return false, err
}

// runAll runs all inputs and returns the first failure, if any. It reports whether the
// totals can be printed: there are several inputs, and their results were written.
func (j *job) runAll(ctx context.Context, run func(context.Context, any) (any, error)) (ran bool, err error) {
	j.detailed, j.first, j.failed = make(map[string]bool), nil, 0
	b := &batch{jobs: j.jobs, failFast: j.failFast, run: run}
	if b.jobs == 0 {
		b.jobs = workerCount(j.pipeline)
	}
	if j.done, err = b.runAll(ctx, j.inputs.Sources, j.handle); err != nil {
		return false, err
	}
	complete := j.done == len(j.inputs.Sources) && ctx.Err() == nil
	if !complete {
		j.explainIncomplete(ctx, j.done)
	}
	if j.first != nil && !j.inputs.Many {
		return false, j.first
	}
	return j.inputs.Many, errors.Join(j.first, j.out.Finish(complete))
}

// printTotals prints how many of several inputs succeeded, failed and were not run, below
// the progress. If the log is JSON, the numbers are fields of a record. If only errors are
// JSON, it prints nothing, so that each line stays a document.
func (j *job) printTotals() {
	left := len(j.inputs.Sources) - j.done
	if j.app.logJSON {
		j.app.logger.Info("the inputs are done", "ok", j.done-j.failed, "failed", j.failed, "not_run", left)
	}
	if j.app.jsonErrors {
		return
	}
	j.display.Close()
	style := j.app.console.Style
	text := style.Green(fmt.Sprintf("%d ok", j.done-j.failed))
	if j.failed > 0 {
		text += ", " + style.Red(fmt.Sprintf("%d failed", j.failed))
	}
	if left > 0 {
		text += ", " + style.Yellow(fmt.Sprintf("%d not run", left))
	}
	j.app.printError(text + "\n")
}

// explainIncomplete says why some inputs were not run: the context has ended, or else
// --fail-fast applied after a failure, which was reported.
func (j *job) explainIncomplete(ctx context.Context, done int) {
	cause := context.Cause(ctx)
	if cause == nil {
		cause = errFailFast
	}
	if j.inputs.Many {
		cause = fmt.Errorf("%w: %d of %s done", cause, done, terminal.Plural(len(j.inputs.Sources), "input"))
	}
	if ctx.Err() == nil {
		j.app.logger.Warn(cause.Error())
		return
	}
	j.first = cause
}

// handle writes the outcome of one input, or reports its failure.
func (j *job) handle(o output.Outcome) error {
	if !j.inputs.Many {
		j.display.Close() // so that the result appears below the progress
	}
	failed, err := j.out.Write(o)
	if failed == nil {
		return err
	}
	j.failed++
	if e, ok := errors.AsType[*runner.Error](failed); ok && j.inputs.None && refusesInput(e) && e.Hint == "" {
		failed = e.WithHint("no input was given, so the input of the pipeline was null; see gophersnake run --help")
	}
	prefix := ""
	if j.inputs.Many {
		prefix = terminal.Shorten(o.Name, 100) + ": "
	}
	if key := failureKey(failed); j.detailed[key] && !j.app.jsonErrors {
		j.app.reportSummary(prefix, failed)
	} else {
		j.detailed[key] = true
		j.app.reportError(prefix, failed)
	}
	if j.first == nil {
		j.first = failure.Reported{Err: failed}
	}
	return err
}

// refusesInput reports whether the input may be why a node failed.
func refusesInput(e *runner.Error) bool {
	return e.Kind == runner.KindExecution || e.Kind == runner.KindMarshaling && strings.HasPrefix(e.Path, "input")
}

// failureKey returns the same key for failures of the same kind at the same line of code,
// of which only the first is printed with details.
func failureKey(err error) string {
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

// workerCount returns the largest number of workers that a pipeline may have.
func workerCount(p *manifest.Pipeline) int {
	total := 0
	for _, n := range p.Nodes {
		total += max(n.Workers.Max, 1)
	}
	return total
}

// newOutput returns what writes the results of a command. Media files are named after the sink,
// unless it is empty.
func (a *app) newOutput(format, dir, sink string, inputs input.Set) (output.Writer, error) {
	return output.New(output.Options{
		Format: format, Dir: dir, Many: inputs.Many, Stdout: a.out, Style: a.style,
		NewExporter: func(dir string) *output.Exporter { return output.NewExporter(dir, sink, a.logger.Warn, inputs.Files) },
	})
}

// withTimeout applies the flag --timeout to the context of a command; 0 is no limit.
func withTimeout(ctx context.Context, limit time.Duration) (context.Context, context.CancelFunc) {
	if limit <= 0 {
		return ctx, func() {}
	}
	return context.WithTimeoutCause(ctx, limit, failure.Timeout(limit))
}
