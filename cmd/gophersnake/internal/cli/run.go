package cli

import (
	"context"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/failure"
	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/input"
	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/output"
	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/program"
	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/terminal"
	"github.com/gophersnake/gophersnake/runner/manifest"
)

type runFlags struct {
	inputs    []string
	output    string
	outputDir string
	params    []string
	jobs      int
	timeout   time.Duration
	failFast  bool
	noWait    bool
	service   program.ServiceFlags
}

func newRun(a *app) *cobra.Command {
	var flags runFlags
	c := &cobra.Command{
		Use:   "run PIPELINE [INPUT...]",
		Short: "Run a pipeline on one or more inputs",
		Long: `Run a pipeline on one or more inputs. The workers start once and process the inputs in
parallel; the results are written in the order of the inputs. Without an input, the
pipeline gets null. An input that fails does not stop the others; the exit code is that
of the first failure. If so many inputs in a row fail that the circuit breaker of a node
opens, the rest wait until a probe shows that the node works again; when as many probes
have failed as well, the rest fail. With several inputs, the last line on standard error
says how many succeeded: "7 ok, 1 failed". If the output is JSON, errors are JSON, too,
and there is no such line, unless standard error is a terminal.

` + input.Help + "\n\n" + output.Help + "\n\n" + program.ServiceHelp + `

With --watch, the inputs are run again after each change, until Ctrl-C.`,
		Example: `  gophersnake run hello --input Ada
  gophersnake run speech --input talk.wav --output json
  gophersnake run ./pipeline.yaml --input 'clips/*.wav' --output transcripts.jsonl
  gophersnake run speech clips/*.wav --param transcribe.min_confidence=0.4
  gophersnake run ./sales --input sales.csv --output totals.parquet
  cat sales.txt | gophersnake run ./sales --input table:- --output pretty
  gophersnake run ./pipeline.yaml --input talk.wav --watch
  gophersnake run ./pipeline.yaml 'clips/*.wav' --status localhost:9090
  curl -s example.org/order.json | gophersnake run ./shop --input - --timeout 30s`,
		Args: program.ArgumentCount(1, -1, "PIPELINE"),
		RunE: func(c *cobra.Command, args []string) error {
			flags.inputs = append(flags.inputs, args[1:]...)
			return a.runPipeline(c.Context(), args[0], flags)
		},
	}
	f := c.Flags()
	f.StringArrayVarP(&flags.inputs, "input", "i", nil, "an input; can be repeated")
	f.StringVarP(&flags.output, "output", "o", "", "pretty, json, jsonl or a file")
	f.StringVar(&flags.outputDir, "output-dir", "", "folder for media files (default: that of the output file, or else the current folder)")
	f.StringArrayVar(&flags.params, "param", nil, "NODE.KEY=VALUE: override a param of a node; VALUE is JSON or else text; can be repeated")
	f.IntVarP(&flags.jobs, "jobs", "j", 0, "number of inputs to process at the same time (default: the number of workers)")
	f.Var((*program.TimeSpan)(&flags.timeout), "timeout", "end the command after this `time`, startup included: 90s, 5m, or a number of seconds; the exit code is 124")
	f.BoolVar(&flags.failFast, "fail-fast", false, "stop at the first input that fails")
	f.BoolVar(&flags.noWait, "no-breaker-wait", false, "while the circuit breaker of a node is open, fail inputs at once instead of waiting")
	flags.service.Add(c)
	return c
}

// runPipeline is the command run without the parsing of flags.
func (a *app) runPipeline(ctx context.Context, name string, flags runFlags) error {
	a.JSONErrors = a.JSONErrors || output.IsJSON(flags.output) && !terminal.Is(a.Err)
	if flags.jobs < 0 {
		return failure.Usagef("--jobs takes a number from 1, not %d", flags.jobs)
	}
	p, err := a.Load(name)
	if err != nil {
		return err
	}
	if err := program.SetParams(p, flags.params, a.Logger.Warn); err != nil {
		return err
	}
	inputs, err := input.Resolve(a.In, a.Logger.Warn, flags.inputs)
	if err != nil {
		return err
	}
	if flags.service.Watch && slices.Contains(flags.inputs, "-") {
		return failure.Usagef("--watch runs the inputs repeatedly, but standard input (-) can be read only once")
	}
	newOutput := func() (output.Writer, error) {
		return a.NewOutput(flags.output, flags.outputDir, onlySink(p), inputs)
	}
	out, err := newOutput()
	if err != nil {
		return err
	}
	defer out.Discard()
	ctx, cancel := program.WithTimeout(ctx, flags.timeout)
	defer cancel()
	job := &program.Job{
		App: a.App, Pipeline: p, Inputs: inputs, Out: out, Jobs: flags.jobs, FailFast: flags.failFast,
		BreakerWait: !flags.noWait, Service: flags.service,
	}
	if flags.service.Watch {
		return job.RunRepeatedly(ctx, newOutput)
	}
	return job.RunOnce(ctx)
}

// onlySink returns the pipeline's sink, or nothing if there are several.
func onlySink(p *manifest.Pipeline) string {
	if sinks := p.Graph().Sinks(); len(sinks) == 1 {
		return sinks[0]
	}
	return ""
}
