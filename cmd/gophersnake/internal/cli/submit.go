package cli

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/failure"
	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/input"
	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/output"
	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/program"
	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/terminal"
	"github.com/gophersnake/gophersnake/runner/cluster/jobs"
)

type submitFlags struct {
	client   program.JobsClient
	inputs   []string
	id       string
	batch    string
	priority string
	delay    time.Duration
	attempts int
	webhook  string
	wait     waitFlags
	await    bool
}

func newSubmit(a *app) *cobra.Command {
	var flags submitFlags
	c := &cobra.Command{
		Use:   "submit PIPELINE [INPUT...]",
		Short: "Queue jobs, which outlive this command",
		Long: `Queue a job for each input. A machine with gophersnake serve --jobs runs it, also if that is
started later; a job is lost neither if this command dies nor if the machine does. The
command prints the names of the jobs, PIPELINE/ID, or with --wait their results, as
gophersnake run does.

PIPELINE is the name under which the pipeline is served.

With --batch, the id of each job consists of the NAME and a digest of the input's name. So the
same command queues what is missing if it is run again, and with --wait it waits for the rest.
With --id, the only job has that id. A job with an id that is known is not queued again, until
the record of that job ends, 7 days after the job.

With --webhook, a machine that has --webhook-secret posts the document of each job to the URL when
the job has ended.

` + program.JobsHelp + "\n\n" + input.Help + "\n\n" + input.ObjectsHelp,
		Example: `  gophersnake submit speech --input talk.wav --wait
  gophersnake submit speech --input 'clips/*.wav' --batch monday
  gophersnake submit speech --input 'clips/*.wav' --batch monday --wait --output transcripts.jsonl
  gophersnake submit report --input '{"month": 5}' --id report-2026-05 --delay 2h --priority low`,
		Args: program.ArgumentCount(1, -1, "PIPELINE"),
		RunE: func(c *cobra.Command, args []string) error {
			flags.inputs = append(flags.inputs, args[1:]...)
			return a.submit(c.Context(), args[0], &flags)
		},
	}
	f := c.Flags()
	f.StringArrayVarP(&flags.inputs, "input", "i", nil, "an input; can be repeated")
	f.StringVar(&flags.id, "id", "", "the `ID` of the only job")
	f.StringVar(&flags.batch, "batch", "", "a `NAME` for all jobs of the command, which makes it resumable")
	f.StringVar(&flags.priority, "priority", string(jobs.Normal), "high, normal or low")
	f.Var((*program.TimeSpan)(&flags.delay), "delay", "begin the jobs after this `time`")
	f.IntVar(&flags.attempts, "attempts", 1, "how often a run is made that fails with a retryable error")
	f.StringVar(&flags.webhook, "webhook", "", "a `URL` to which a machine posts each job when it has ended")
	f.BoolVar(&flags.await, "wait", false, "wait until the jobs have ended, and write their results")
	flags.wait.add(c)
	flags.client.Add(c)
	return c
}

// submit is the command submit without the parsing of flags.
func (a *app) submit(ctx context.Context, pipeline string, flags *submitFlags) error {
	a.JSONErrors = a.JSONErrors || output.IsJSON(flags.wait.output) && !terminal.Is(a.Err)
	opts, err := flags.options()
	if err != nil {
		return err
	}
	ctx, cancel := program.WithTimeout(ctx, flags.wait.timeout)
	defer cancel()
	link := &jobsLink{app: a, client: &flags.client}
	defer link.close()
	inputs, err := input.Resolve(a.In, a.Logger.Warn, flags.inputs, input.WithObjects(func(bucket string) (input.Bucket, error) { return link.bucket(ctx, bucket) }))
	if err != nil {
		return failure.Cause(ctx, err)
	}
	if flags.id != "" && len(inputs.Sources) > 1 {
		return failure.Usagef("--id is the id of one job, but there are %s; use --batch", terminal.Plural(len(inputs.Sources), "input"))
	}
	if pipeline, err = a.servedAs(pipeline); err != nil {
		return err
	}
	if inputs.Many && flags.batch == "" {
		flags.batch = strings.ToLower(rand.Text()[:8])
	}
	store, err := link.open(ctx)
	if err != nil {
		return err
	}
	s := &submission{app: a, store: store, pipeline: pipeline, inputs: inputs, options: opts, ids: flags.ids(inputs.Sources)}
	if err := s.submitAll(ctx, flags.batch); err != nil {
		return failure.Cause(ctx, err)
	}
	if flags.await {
		return a.writeResults(ctx, store, s.refs, inputs, &flags.wait)
	}
	return s.print(flags.wait.output)
}

// servedAs returns the name under which a pipeline is served: that in its manifest, if the
// argument is a file or folder.
func (a *app) servedAs(argument string) (string, error) {
	if _, err := os.Stat(argument); errors.Is(err, fs.ErrNotExist) {
		return argument, nil
	}
	p, err := a.Load(argument)
	if err != nil {
		return "", err
	}
	return program.NameOf(p), nil
}

// checkPriority returns a usage error unless the flag --priority has a priority.
func checkPriority(flag string) error {
	return failure.CheckChoice("priority", flag, string(jobs.High), string(jobs.Normal), string(jobs.Low))
}

// options returns what all jobs of the command have.
func (f *submitFlags) options() ([]jobs.SubmitOption, error) {
	if err := checkPriority(f.priority); err != nil {
		return nil, err
	}
	if f.id != "" && f.batch != "" {
		return nil, failure.Usagef("--id and --batch exclude each other")
	}
	if f.attempts < 1 {
		return nil, failure.Usagef("--attempts takes a number from 1, not %d", f.attempts)
	}
	opts := []jobs.SubmitOption{jobs.WithPriority(jobs.Priority(f.priority)), jobs.WithAttempts(f.attempts, time.Second)}
	if f.webhook != "" {
		opts = append(opts, jobs.WithWebhook(f.webhook))
	}
	if f.delay > 0 {
		opts = append(opts, jobs.WithStart(time.Now().Add(f.delay)))
	}
	return opts, nil
}

// ids returns the ids of the jobs; those that are empty are chosen when the job is queued.
func (f *submitFlags) ids(sources []input.Source) []string {
	ids := make([]string, len(sources))
	seen := make(map[string]int)
	for i, source := range sources {
		if f.batch == "" {
			ids[i] = f.id
			continue
		}
		sum := sha256.Sum256([]byte(source.Name))
		id := f.batch + "-" + hex.EncodeToString(sum[:6])
		if seen[id]++; seen[id] > 1 { // the same input once more
			id += fmt.Sprintf("-%d", seen[id])
		}
		ids[i] = id
	}
	return ids
}

// submission is the jobs of one command.
type submission struct {
	app      *app
	store    *jobs.Store
	pipeline string
	inputs   input.Set
	options  []jobs.SubmitOption
	ids      []string
	refs     []jobs.Ref // in the order of the inputs

	mu    sync.Mutex
	done  int
	known map[string]bool // ids of the jobs that were queued before
}

// submitters is how many jobs are queued at the same time. Each waits for the disks of the
// servers.
const submitters = 64

// submitAll queues the jobs and shows the progress. It stops at the first error.
func (s *submission) submitAll(ctx context.Context, batch string) error {
	s.refs, s.known = make([]jobs.Ref, len(s.ids)), make(map[string]bool)
	display := terminal.NewCountDisplay(s.app.Console, s.app.Logger, "queued", len(s.ids))
	defer display.Close()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var work sync.WaitGroup
	next := make(chan int)
	for range min(submitters, len(s.ids)) {
		work.Go(func() {
			for i := range next {
				if err := s.submitOne(ctx, i); err != nil {
					cancel(err)
					return
				}
				s.mu.Lock()
				s.done++
				display.Count(s.done, 0)
				s.mu.Unlock()
			}
		})
	}
	for i := range s.ids {
		if !program.Send(ctx, next, i) {
			break
		}
	}
	close(next)
	work.Wait()
	if err := context.Cause(ctx); err != nil {
		if s.inputs.Many {
			s.app.Logger.Warn(fmt.Sprintf("%d of %d jobs are queued; the same command with --batch %s queues the rest", s.done, len(s.ids), batch))
		}
		return err
	}
	return nil
}

func (s *submission) submitOne(ctx context.Context, i int) error {
	value, err := s.inputs.Sources[i].Load(ctx)
	if err != nil {
		return input.Named(s.inputs.Sources[i].Name, err)
	}
	opts := s.options
	if s.ids[i] != "" {
		opts = append(opts[:len(opts):len(opts)], jobs.WithID(s.ids[i]))
	}
	ref, known, err := s.store.Submit(ctx, s.pipeline, value, opts...)
	if err != nil {
		return err
	}
	s.refs[i] = ref
	if known {
		s.mu.Lock()
		s.known[ref.ID] = true
		s.mu.Unlock()
	}
	return nil
}

// submitted is what the command prints of a job as JSON.
type submitted struct {
	Job   string `json:"job"`
	Input string `json:"input"`
	Known bool   `json:"known"`
}

// print prints the names of the jobs: as JSON one in each line.
func (s *submission) print(format string) error {
	for i, ref := range s.refs {
		line := ref.String()
		if output.IsJSON(format) {
			doc, err := json.Marshal(submitted{Job: line, Input: s.inputs.Sources[i].Name, Known: s.known[ref.ID]})
			if err != nil {
				return err
			}
			line = string(doc)
		}
		if _, err := fmt.Fprintln(s.app.Out, line); err != nil {
			return err
		}
	}
	if s.inputs.Many && !s.app.JSONErrors {
		s.app.PrintError(fmt.Sprintf("%d queued, %d known before\n", len(s.refs)-len(s.known), len(s.known)))
	}
	return nil
}
