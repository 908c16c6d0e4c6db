package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/failure"
	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/input"
	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/output"
	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/program"
	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/terminal"
	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/cluster/jobs"
)

func newJobs(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "jobs",
		Short: "List, show, cancel, retry and await jobs",
		Long:  "List, show, cancel, retry and await the jobs that gophersnake submit has queued.\n\n" + program.JobsHelp,
		Example: `  gophersnake jobs ls speech --state failed
  gophersnake jobs show speech/monday-18b7cb099a9e
  gophersnake jobs retry speech/monday-18b7cb099a9e
  gophersnake jobs drain speech`,
		Args: cobra.NoArgs,
	}
	c.AddCommand(newJobsList(a), newJobsShow(a), newJobsWait(a), newJobsSchedule(a),
		newJobsChange(a, "cancel JOB...", "Cancel jobs, queued or running", "JOB", func(ctx context.Context, s *jobs.Store, name string) error {
			return onJob(name, func(ref jobs.Ref) error { return s.Cancel(ctx, ref) })
		}),
		newJobsChange(a, "retry JOB...", "Queue failed jobs again, with the inputs of their dead letters", "JOB", func(ctx context.Context, s *jobs.Store, name string) error {
			return onJob(name, func(ref jobs.Ref) error { return s.Retry(ctx, ref) })
		}),
		newJobsChange(a, "pause PIPELINE...", "Let machines begin no further jobs of pipelines", "PIPELINE",
			func(ctx context.Context, s *jobs.Store, name string) error { return s.Pause(ctx, name) }),
		newJobsChange(a, "drain PIPELINE...", "Take no further jobs of pipelines, and wait until those that are queued have ended", "PIPELINE",
			func(ctx context.Context, s *jobs.Store, name string) error { return s.Drain(ctx, name) }),
		newJobsChange(a, "resume PIPELINE...", "End a pause or a drain of pipelines", "PIPELINE",
			func(ctx context.Context, s *jobs.Store, name string) error { return s.Resume(ctx, name) }),
	)
	return c
}

func onJob(name string, do func(jobs.Ref) error) error {
	ref, err := jobs.ParseRef(name)
	if err != nil {
		return failure.Usagef("%w", err)
	}
	return do(ref)
}

// newJobsChange returns a command that changes each of its arguments.
func newJobsChange(a *app, use, short, argument string, change func(ctx context.Context, s *jobs.Store, name string) error) *cobra.Command {
	var client program.JobsClient
	c := &cobra.Command{
		Use: use, Short: short, Long: short + ".\n\n" + program.JobsHelp,
		Args: program.ArgumentCount(1, -1, argument),
		RunE: func(c *cobra.Command, args []string) error {
			store, conn, err := client.Open(c.Context(), a.App)
			if err != nil {
				return err
			}
			defer conn.Close()
			for _, name := range args {
				err = errors.Join(err, change(c.Context(), store, name))
			}
			return err
		},
	}
	client.Add(c)
	return c
}

// jobDocument is a job as JSON.
type jobDocument struct {
	Job        string         `json:"job"`
	State      jobs.State     `json:"state"`
	Priority   jobs.Priority  `json:"priority"`
	Submitted  time.Time      `json:"submitted"`
	NotBefore  time.Time      `json:"not_before,omitzero"`
	Begun      time.Time      `json:"begun,omitzero"`
	Ended      time.Time      `json:"ended,omitzero"`
	Machine    string         `json:"machine,omitempty"`
	Begins     int            `json:"begins"`
	Failures   int            `json:"failures"`
	Progress   *jobs.Progress `json:"progress,omitempty"`
	MayHaveRun bool           `json:"may_have_run,omitempty"`
	Error      *runner.Error  `json:"error,omitempty"`
	Webhook    *jobs.Webhook  `json:"webhook,omitempty"`
}

func documentOf(j *jobs.Job) jobDocument {
	return jobDocument{
		Job: j.String(), State: j.State, Priority: j.Priority, Submitted: j.Submitted, NotBefore: j.NotBefore, Begun: j.Begun, Ended: j.Ended,
		Machine: j.Machine, Begins: j.Begins, Failures: j.Failures, Progress: j.Progress, MayHaveRun: j.MayHaveRun, Error: j.Err, Webhook: j.Webhook,
	}
}

// note says in a line what else there is to know about a job.
func note(j *jobs.Job) string {
	switch {
	case j.MayHaveRun:
		return "may have run"
	case j.Err != nil:
		return terminal.Shorten(runner.PrintableLine(j.Err.Error()), 80)
	case j.State == jobs.Queued && time.Until(j.NotBefore) > 0:
		return "not before " + j.NotBefore.Local().Format(time.DateTime)
	case j.Progress != nil && j.State == jobs.Running:
		return terminal.Shorten(j.Progress.String(), 80)
	}
	return ""
}

func newJobsList(a *app) *cobra.Command {
	var client program.JobsClient
	var format, state, batch string
	c := &cobra.Command{
		Use: "ls [PIPELINE...]", Short: "List jobs",
		Long: "List the jobs of pipelines, or of all pipelines: first those that have begun, and then those that are queued.\n\n" + program.JobsHelp,
		RunE: func(c *cobra.Command, args []string) error {
			if err := failure.CheckChoice("output", format, "text", "json"); err != nil {
				return err
			}
			store, conn, err := client.Open(c.Context(), a.App)
			if err != nil {
				return err
			}
			defer conn.Close()
			return a.listJobs(c.Context(), store, args, format, func(j *jobs.Job) bool {
				return (state == "" || string(j.State) == state) && (batch == "" || strings.HasPrefix(j.ID, batch+"-"))
			})
		},
	}
	c.Flags().StringVar(&state, "state", "", "only the jobs in this `STATE`: queued, running, done, failed or canceled")
	c.Flags().StringVar(&batch, "batch", "", "only the jobs of the batch with this `NAME`")
	program.AddOutputFlag(c, &format)
	client.Add(c)
	return c
}

// listJobs prints the jobs that a condition selects: in JSON, one in each line.
func (a *app) listJobs(ctx context.Context, store *jobs.Store, pipelines []string, format string, selects func(*jobs.Job) bool) error {
	if len(pipelines) == 0 {
		var err error
		if pipelines, err = store.Pipelines(ctx); err != nil {
			return err
		}
	}
	table := tabwriter.NewWriter(a.Out, 0, 0, 2, ' ', 0)
	encoder := json.NewEncoder(a.Out)
	if format == "text" {
		_, _ = fmt.Fprintln(table, "JOB\tSTATE\tMACHINE\tBEGINS\tNOTE")
	}
	for _, pipeline := range pipelines {
		var failed error
		err := store.List(ctx, pipeline, func(j *jobs.Job) bool {
			switch {
			case !selects(j):
			case format == "json":
				failed = encoder.Encode(documentOf(j))
			default:
				_, failed = fmt.Fprintf(table, "%s\t%s\t%s\t%d\t%s\n", runner.PrintableLine(j.String()), j.State, runner.PrintableLine(j.Machine), j.Begins, note(j))
			}
			return failed == nil
		})
		if err = errors.Join(err, failed); err != nil {
			return err
		}
	}
	return table.Flush()
}

func newJobsShow(a *app) *cobra.Command {
	var client program.JobsClient
	var format string
	c := &cobra.Command{
		Use: "show JOB", Short: "Show the state of a job, and its error if it has failed",
		Long: "Show the state of a job, and its whole error if it has failed. gophersnake jobs wait prints its result.\n\n" + program.JobsHelp,
		Args: program.ArgumentCount(1, 1, "JOB"),
		RunE: func(c *cobra.Command, args []string) error {
			if err := failure.CheckChoice("output", format, "text", "json"); err != nil {
				return err
			}
			store, conn, err := client.Open(c.Context(), a.App)
			if err != nil {
				return err
			}
			defer conn.Close()
			return onJob(args[0], func(ref jobs.Ref) error {
				j, err := store.Get(c.Context(), ref)
				if err != nil {
					return err
				}
				return a.showJob(j, format)
			})
		},
	}
	program.AddOutputFlag(c, &format)
	client.Add(c)
	return c
}

func (a *app) showJob(j *jobs.Job, format string) error {
	if format == "json" {
		return json.NewEncoder(a.Out).Encode(documentOf(j))
	}
	table := tabwriter.NewWriter(a.Out, 0, 0, 2, ' ', 0)
	row := func(name, text string) {
		if text != "" {
			_, _ = fmt.Fprintf(table, "%s\t%s\n", name, runner.PrintableLine(text))
		}
	}
	moment := func(name string, t time.Time) {
		if !t.IsZero() {
			row(name, t.Local().Format(time.DateTime))
		}
	}
	row("job", j.String())
	row("state", string(j.State))
	row("priority", string(j.Priority))
	moment("submitted", j.Submitted)
	moment("not before", j.NotBefore)
	moment("begun", j.Begun)
	moment("ended", j.Ended)
	row("machine", j.Machine)
	row("begins", fmt.Sprint(j.Begins))
	row("note", note(j))
	if j.Webhook != nil {
		row("webhook", j.Webhook.String())
	}
	if err := table.Flush(); err != nil || j.Err == nil {
		return err
	}
	_, err := fmt.Fprintln(a.Out, runner.Printable(fmt.Sprintf("%+v", j.Err)))
	return err
}

// waitFlags are the flags of commands that wait for jobs.
type waitFlags struct {
	output    string
	outputDir string
	timeout   time.Duration
}

func (w *waitFlags) add(c *cobra.Command) {
	f := c.Flags()
	f.StringVarP(&w.output, "output", "o", "", "pretty, json, jsonl or a file")
	f.StringVar(&w.outputDir, "output-dir", "", "folder for media files (default: that of the output file, or else the current folder)")
	f.Var((*program.TimeSpan)(&w.timeout), "timeout", "end the command after this `time`; the jobs go on, and the exit code is 124")
}

func newJobsWait(a *app) *cobra.Command {
	var client program.JobsClient
	var flags waitFlags
	c := &cobra.Command{
		Use: "wait JOB...", Short: "Wait for jobs, and write their results",
		Long: "Wait until jobs have ended, and write their results in the order of the arguments, as gophersnake run does.\n\n" + output.Help + "\n\n" + program.JobsHelp,
		Args: program.ArgumentCount(1, -1, "JOB"),
		RunE: func(c *cobra.Command, args []string) error {
			a.JSONErrors = a.JSONErrors || output.IsJSON(flags.output) && !terminal.Is(a.Err)
			inputs := input.Set{Many: len(args) > 1}
			var refs []jobs.Ref
			for _, name := range args {
				if err := onJob(name, func(ref jobs.Ref) error { refs = append(refs, ref); return nil }); err != nil {
					return err
				}
				inputs.Sources = append(inputs.Sources, input.Source{Name: name, Stem: refs[len(refs)-1].ID})
			}
			ctx, cancel := program.WithTimeout(c.Context(), flags.timeout)
			defer cancel()
			store, conn, err := client.Open(ctx, a.App)
			if err != nil {
				return err
			}
			defer conn.Close()
			for _, ref := range refs { // so that a job that does not exist is an error at once
				if _, err := store.Get(ctx, ref); err != nil {
					return failure.Cause(ctx, err)
				}
			}
			return a.writeResults(ctx, store, refs, inputs, &flags)
		},
	}
	flags.add(c)
	client.Add(c)
	return c
}

// writeResults waits for jobs, each of which has an input, and writes their results in order.
func (a *app) writeResults(ctx context.Context, store *jobs.Store, refs []jobs.Ref, inputs input.Set, flags *waitFlags) error {
	out, err := a.NewOutput(flags.output, flags.outputDir, "", inputs)
	if err != nil {
		return err
	}
	defer out.Discard()
	display := terminal.NewCountDisplay(a.Console, a.Logger, "ended", len(refs))
	defer display.Close()
	j := &program.Job{App: a.App, Inputs: inputs, Out: out, Display: display, Detailed: make(map[string]bool)}
	ends := newEnds(refs)
	ctx, stop := context.WithCancelCause(ctx)
	defer ends.watching.Wait()
	defer stop(nil)
	ends.watch(ctx, store, stop, display)
	for i, ref := range refs {
		if err = ends.await(ctx, store, ref, display); err != nil {
			break
		}
		v, failed := store.Result(ctx, ref)
		j.Done++
		if err = j.Handle(output.Outcome{Name: inputs.Sources[i].Name, Stem: inputs.Sources[i].Stem, Value: v, Err: failed}); err != nil {
			break
		}
	}
	switch {
	case err != nil:
		return failure.Cause(ctx, err)
	case j.First != nil && !inputs.Many:
		return j.First
	}
	err = errors.Join(j.First, out.Finish(true))
	if inputs.Many {
		j.PrintTotals()
	}
	return err
}

// ends are the jobs that a command waits for, and which of them have ended.
type ends struct {
	watching sync.WaitGroup

	mu      sync.Mutex
	ended   map[jobs.Ref]bool
	done    int
	failed  int
	changed chan struct{} // closed and replaced when a job has ended
}

func newEnds(refs []jobs.Ref) *ends {
	e := &ends{ended: make(map[jobs.Ref]bool, len(refs)), changed: make(chan struct{})}
	for _, ref := range refs {
		e.ended[ref] = false
	}
	return e
}

// watch notes the ends of the jobs, with one watch for each pipeline, until the context ends.
func (e *ends) watch(ctx context.Context, store *jobs.Store, failed func(error), display *terminal.Display) {
	pipelines := make(map[string]bool)
	for ref := range e.ended {
		pipelines[ref.Pipeline] = true
	}
	for pipeline := range pipelines {
		e.watching.Go(func() {
			if err := store.Watch(ctx, pipeline, func(j *jobs.Job) bool { e.note(j, display); return true }); err != nil {
				failed(err)
			}
		})
	}
}

func (e *ends) note(j *jobs.Job, display *terminal.Display) {
	e.mu.Lock()
	defer e.mu.Unlock()
	isEnded, isOurs := e.ended[j.Ref]
	if isOurs && len(e.ended) == 1 && j.Progress != nil {
		display.Report(j.Progress.String())
	}
	if !isOurs || isEnded || !j.State.Ended() {
		return
	}
	e.ended[j.Ref] = true
	e.done++
	if j.State != jobs.Done {
		e.failed++
	}
	display.Count(e.done, e.failed)
	close(e.changed)
	e.changed = make(chan struct{})
}

// awaitInterval is how often await looks itself, in case the watch has missed a change.
const awaitInterval = 5 * time.Second

// await waits until a job has ended.
func (e *ends) await(ctx context.Context, store *jobs.Store, ref jobs.Ref, display *terminal.Display) error {
	ticker := time.NewTicker(awaitInterval)
	defer ticker.Stop()
	for {
		e.mu.Lock()
		isEnded, changed := e.ended[ref], e.changed
		e.mu.Unlock()
		if isEnded {
			return nil
		}
		select {
		case <-changed:
		case <-ticker.C:
			if j, err := store.Get(ctx, ref); err == nil {
				e.note(j, display)
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
