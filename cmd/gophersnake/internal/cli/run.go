package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

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
	service   service
}

func newRun(a *app) *cobra.Command {
	var flags runFlags
	c := &cobra.Command{
		Use:   "run PIPELINE [INPUT...]",
		Short: "Run a pipeline on one or many inputs",
		Long: `Run a pipeline on one or many inputs. The workers start once and stay warm: several
inputs go through them side by side, and their results come in the inputs' order.
Without an input, the pipeline is given null. An input that fails does not stop the
others; the exit code is that of the first failure.

` + inputHelp + "\n\n" + outputHelp + "\n\n" + serviceHelp + `

With --watch the inputs are run again after each change, until Ctrl-C.`,
		Example: `  gophersnake run hello --input Ada
  gophersnake run speech --input talk.wav --output json
  gophersnake run ./pipeline.yaml --input 'clips/*.wav' --output transcripts.jsonl
  gophersnake run speech clips/*.wav --param transcribe.min_confidence=0.4
  gophersnake run ./pipeline.yaml --input talk.wav --watch
  gophersnake run ./pipeline.yaml 'clips/*.wav' --status localhost:9090
  curl -s example.org/order.json | gophersnake run ./shop --input - --timeout 30s`,
		Args: needs(1, -1, "the PIPELINE"),
		RunE: func(c *cobra.Command, args []string) error {
			flags.inputs = append(flags.inputs, args[1:]...)
			return a.runPipeline(c.Context(), args[0], flags)
		},
	}
	f := c.Flags()
	f.StringArrayVarP(&flags.inputs, "input", "i", nil, "an input; may be given several times")
	f.StringVarP(&flags.output, "output", "o", "", "pretty, json, jsonl or a file")
	f.StringVar(&flags.outputDir, "output-dir", "", "folder of the files made of binary values (default: that of the output file, else .)")
	f.StringArrayVar(&flags.params, "param", nil, "NODE.KEY=VALUE: override a param of a node; VALUE is JSON, or else text")
	f.IntVarP(&flags.jobs, "jobs", "j", 0, "how many inputs are under way at once (default: the number of workers)")
	f.Var((*timeSpan)(&flags.timeout), "timeout", "end the command after this `time`, all included: 90s, 5m, or a number of seconds (exit code 124)")
	f.BoolVar(&flags.failFast, "fail-fast", false, "stop at the first input that fails")
	flags.service.addFlags(c)
	return c
}

// runPipeline is `run`: everything but the parsing of flags.
func (a *app) runPipeline(ctx context.Context, name string, flags runFlags) error {
	a.jsonErrors = isJSONFormat(flags.output)
	if flags.jobs < 0 {
		return usagef("--jobs takes a number from 1, not %d", flags.jobs)
	}
	p, err := a.load(name)
	if err != nil {
		return err
	}
	if err := setParams(p, flags.params); err != nil {
		return err
	}
	inputs, err := readSources(a.in, a.logger.Warn, flags.inputs)
	if err != nil {
		return err
	}
	if flags.service.watch && slices.Contains(flags.inputs, "-") {
		return usagef("--watch runs the inputs again and again, but standard input (-) can be read only once")
	}
	outputs := func() (output, error) {
		return newOutput(outputOptions{
			format: flags.output, dir: flags.outputDir, many: inputs.many, stdout: a.out, style: a.outStyle,
			exporter: func(dir string) *exporter { return newExporter(dir, onlySink(p), a.logger.Warn, inputs.files) },
		})
	}
	out, err := outputs()
	if err != nil {
		return err
	}
	defer out.discard()
	if flags.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, flags.timeout, timedOut(flags.timeout))
		defer cancel()
	}
	job := &job{
		app: a, pipeline: p, inputs: inputs, out: out, jobs: flags.jobs, failFast: flags.failFast, service: flags.service,
	}
	if flags.service.watch {
		return job.doAgain(ctx, outputs)
	}
	return job.do(ctx)
}

// timeSpan is a flag that takes a time as manifests do: 1m30s, or a number of
// seconds.
type timeSpan time.Duration

// Set implements pflag.Value.
func (t *timeSpan) Set(text string) error {
	d, err := time.ParseDuration(text)
	if seconds, failure := strconv.ParseFloat(text, 64); failure == nil {
		d, err = time.Duration(seconds*float64(time.Second)), nil
	}
	if err != nil || d <= 0 {
		return errors.New("a time is needed, such as 500ms, 90s, 5m, or a number of seconds")
	}
	*t = timeSpan(d)
	return nil
}

// String implements pflag.Value.
func (t *timeSpan) String() string {
	if *t == 0 {
		return "" // so that help shows no default
	}
	return time.Duration(*t).String()
}

// Type implements pflag.Value.
func (t *timeSpan) Type() string { return "time" }

// timedOut is why a command ended whose --timeout was over.
func timedOut(after time.Duration) error { return fmt.Errorf("%w (%v)", errTimeout, after) }

// onlySink is the node whose value is the result, empty where there are several.
func onlySink(p *manifest.Pipeline) string {
	if sinks := p.Graph().Sinks(); len(sinks) == 1 {
		return sinks[0]
	}
	return ""
}
