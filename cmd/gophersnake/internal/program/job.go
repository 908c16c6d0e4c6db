package program

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

// Job runs a pipeline on all inputs of a command, shows the progress, and writes the
// results.
type Job struct {
	App      *App
	Pipeline *manifest.Pipeline
	Inputs   input.Set
	Out      output.Writer
	Jobs     int // 0 means the number of workers
	FailFast bool
	// BreakerWait makes inputs wait for the probe of an open circuit breaker.
	BreakerWait bool
	Service     ServiceFlags

	Display *terminal.Display
	// Detailed holds the failures that were printed with details; see failureKey.
	Detailed map[string]bool
	First    error // the first failure
	failed   int   // the number of inputs that failed
	Done     int   // the number of inputs that were run
}

// RunOnce runs the inputs once. The totals come last, below what the nodes have written to
// the log until their workers ended.
func (j *Job) RunOnce(ctx context.Context) error {
	j.Display = j.App.NewDisplay(j.Pipeline.Order(), len(j.Inputs.Sources))
	defer j.Display.Close()
	ran := false
	err := j.App.WithRunner(ctx, j.Pipeline, j.Display, j.Service,
		func(ctx context.Context, r *runner.Runner, _ <-chan struct{}) (err error) {
			ran, err = j.RunAll(ctx, r.Run)
			return err
		}, j.options()...)
	if ran {
		j.PrintTotals()
	}
	return err
}

// options returns the options of the runner. A single input does not wait for a breaker,
// since nothing before it can have opened one, except an earlier run with --watch.
func (j *Job) options() []runner.Option {
	if j.BreakerWait && j.Inputs.Many {
		return []runner.Option{runner.WithBreakerWait()}
	}
	return nil
}

// errChanged is the cause of a run that was canceled because the code has changed.
var errChanged = errors.New("the code has changed")

// RunRepeatedly runs the inputs, and again after each reload of the code, each time into a
// new output, until the context ends. It shows progress only in the log.
func (j *Job) RunRepeatedly(ctx context.Context, newOutput func() (output.Writer, error)) error {
	j.Display = terminal.NewLogDisplay(j.App.Console, j.App.Logger)
	return j.App.WithRunner(ctx, j.Pipeline, j.Display, j.Service,
		func(ctx context.Context, r *runner.Runner, reloaded <-chan struct{}) error {
			for {
				changed, err := j.runUntilChange(ctx, r, reloaded)
				if ctx.Err() != nil {
					return context.Cause(ctx)
				}
				if err != nil {
					j.App.report(ctx, err)
				}
				if !changed {
					j.App.Logger.Info("waiting for the next change of the code; Ctrl-C ends the command")
					select {
					case <-reloaded:
					case <-ctx.Done():
						return context.Cause(ctx)
					}
				}
				if j.Out, err = newOutput(); err != nil {
					return err
				}
			}
		}, j.options()...)
}

// runUntilChange runs the inputs. If the code is reloaded meanwhile, it cancels the run.
func (j *Job) runUntilChange(ctx context.Context, r *runner.Runner, reloaded <-chan struct{}) (changed bool, err error) {
	defer func() { j.Out.Discard() }()
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
	ran, err := j.RunAll(round, r.Run)
	if ran {
		j.PrintTotals()
	}
	cancel(nil)
	<-watching
	if changed {
		return true, nil
	}
	return false, err
}

// RunAll runs all inputs and returns the first failure, if any. It reports whether the
// totals can be printed: there are several inputs, and their results were written.
func (j *Job) RunAll(ctx context.Context, run func(context.Context, any) (any, error)) (ran bool, err error) {
	j.Detailed, j.First, j.failed = make(map[string]bool), nil, 0
	ctx, stop := runner.WithProgress(ctx, j.Display.Progress)
	defer stop()
	b := &batch{jobs: j.Jobs, failFast: j.FailFast, run: run}
	if b.jobs == 0 {
		b.jobs = workerCount(j.Pipeline)
	}
	if j.Done, err = b.runAll(ctx, j.Inputs.Sources, j.Handle); err != nil {
		return false, err
	}
	complete := j.Done == len(j.Inputs.Sources) && ctx.Err() == nil
	if !complete {
		j.explainIncomplete(ctx, j.Done)
	}
	if j.First != nil && !j.Inputs.Many {
		return false, j.First
	}
	return j.Inputs.Many, errors.Join(j.First, j.Out.Finish(complete))
}

// PrintTotals prints how many of several inputs succeeded, failed and were not run, below
// the progress. If the log is JSON, the numbers are fields of a record. If only errors are
// JSON, it prints nothing, so that each line stays a document.
func (j *Job) PrintTotals() {
	left := len(j.Inputs.Sources) - j.Done
	if j.App.logJSON {
		j.App.Logger.Info("the inputs are done", "ok", j.Done-j.failed, "failed", j.failed, "not_run", left)
	}
	if j.App.JSONErrors {
		return
	}
	j.Display.Close()
	style := j.App.Console.Style
	text := style.Green(fmt.Sprintf("%d ok", j.Done-j.failed))
	if j.failed > 0 {
		text += ", " + style.Red(fmt.Sprintf("%d failed", j.failed))
	}
	if left > 0 {
		text += ", " + style.Yellow(fmt.Sprintf("%d not run", left))
	}
	j.App.PrintError(text + "\n")
}

// explainIncomplete says why some inputs were not run: the context has ended, or else
// --fail-fast applied after a failure, which was reported.
func (j *Job) explainIncomplete(ctx context.Context, done int) {
	cause := context.Cause(ctx)
	if cause == nil {
		cause = errFailFast
	}
	if j.Inputs.Many {
		cause = fmt.Errorf("%w: %d of %s done", cause, done, terminal.Plural(len(j.Inputs.Sources), "input"))
	}
	if ctx.Err() == nil {
		j.App.Logger.Warn(cause.Error())
		return
	}
	j.First = cause
}

// Handle writes the outcome of one input, or reports its failure.
func (j *Job) Handle(o output.Outcome) error {
	if !j.Inputs.Many {
		j.Display.Close() // so that the result appears below the progress
	}
	failed, err := j.Out.Write(o)
	if failed == nil {
		return err
	}
	j.failed++
	if e, ok := errors.AsType[*runner.Error](failed); ok && j.Inputs.None && refusesInput(e) && e.Hint == "" {
		failed = e.WithHint("no input was given, so the input of the pipeline was null; see gophersnake run --help")
	}
	prefix := ""
	if j.Inputs.Many {
		prefix = terminal.Shorten(o.Name, 100) + ": "
	}
	if key := failureKey(failed); j.Detailed[key] && !j.App.JSONErrors {
		j.App.reportSummary(prefix, failed)
	} else {
		j.Detailed[key] = true
		j.App.ReportError(prefix, failed)
	}
	if j.First == nil {
		j.First = failure.Reported{Err: failed}
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

// NewOutput returns what writes the results of a command. Media files are named after the sink,
// unless it is empty.
func (a *App) NewOutput(format, dir, sink string, inputs input.Set) (output.Writer, error) {
	return output.New(output.Options{
		Format: format, Dir: dir, Many: inputs.Many, Stdout: a.Out, Style: a.Style,
		NewExporter: func(dir string) *output.Exporter { return output.NewExporter(dir, sink, a.Logger.Warn, inputs.Files) },
	})
}

// WithTimeout applies the flag --timeout to the context of a command; 0 is no limit.
func WithTimeout(ctx context.Context, limit time.Duration) (context.Context, context.CancelFunc) {
	if limit <= 0 {
		return ctx, func() {}
	}
	return context.WithTimeoutCause(ctx, limit, failure.Timeout(limit))
}
