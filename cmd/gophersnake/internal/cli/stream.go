package cli

import (
	"context"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/gophersnake/gophersnake/runner"
)

type streamFlags struct {
	input     string
	format    streamFormat
	realtime  bool
	output    string
	outputDir string
	params    []string
	window    int
	timeout   time.Duration
	service   service
}

const streamHelp = `The input is, by its first bytes or by --input-format:
  jsonl  each line is an item, a JSON value; blank lines are skipped
  text   each line is an item, a text
  wav    a recording, which comes as Audio in chunks of the length of --chunk; its
         header need not know how long it is
  pcm    the same without a header: --rate is needed, --channels and --sample-format
         say the rest

The output is one of:
  pretty  for people: text as it is, anything else like YAML; default on a terminal
  jsonl   each result a line, {"node": …, "result": …} where there are several sinks;
          default elsewhere
  FILE    by its ending: .jsonl, or .txt (as pretty); it grows result by result

Audio, images, tensors and bytes inside a result become files, as with run.`

func newStream(a *app) *cobra.Command {
	var flags streamFlags
	c := &cobra.Command{
		Use:   "stream PIPELINE",
		Short: "Stream items through a pipeline, results as they come",
		Long: `Read items as they come, send each through the pipeline, and write each result the
moment it is there, in order. Where the pipeline or the reader of the results cannot
keep up, no more is read, so memory stays as it is however long the stream is.

` + streamHelp + `

The first item that fails ends the stream, after the results before it. Ctrl-C ends
the input, and what is under way is finished; a second Ctrl-C ends the command at once.

` + serviceHelp,
		Example: `  arecord -f S16_LE -r 16000 | gophersnake stream speech
  gophersnake stream speech --input talk.wav --realtime
  ffmpeg -i talk.mp3 -ac 1 -ar 16000 -f s16le - | gophersnake stream speech --input-format pcm --rate 16000
  tail -f orders.jsonl | gophersnake stream ./shop | jq .total
  tail -f orders.jsonl | gophersnake stream ./shop --status localhost:9090 --watch
  gophersnake stream hello --input names.txt --input-format text --output greetings.jsonl`,
		Args: needs(1, 1, "the PIPELINE"),
		RunE: func(c *cobra.Command, args []string) error {
			for _, name := range []string{"rate", "channels", "sample-format"} {
				if c.Flags().Changed(name) && flags.format.name != "pcm" {
					return usagef("--%s goes with --input-format pcm; other formats have it in their header", name)
				}
			}
			return a.streamPipeline(c.Context(), args[0], flags)
		},
	}
	f := c.Flags()
	f.StringVarP(&flags.input, "input", "i", "-", "a file, or - for standard input")
	f.StringVar(&flags.format.name, "input-format", "auto", "auto, jsonl, text, wav or pcm")
	f.IntVar(&flags.format.rate, "rate", 0, "of pcm: samples a second, of each channel")
	f.IntVar(&flags.format.channels, "channels", 1, "of pcm: how many channels are interleaved")
	f.StringVar(&flags.format.samples, "sample-format", "s16le", "of pcm: s16le or f32le")
	flags.format.chunk = 20 * time.Millisecond
	f.Var((*timeSpan)(&flags.format.chunk), "chunk", "how long each piece of a recording is, a `time`")
	f.BoolVar(&flags.realtime, "realtime", false, "send a recording no faster than it was spoken")
	f.StringVarP(&flags.output, "output", "o", "", "pretty, jsonl or a file")
	f.StringVar(&flags.outputDir, "output-dir", "", "folder of the files made of binary values (default: that of the output file, else .)")
	f.StringArrayVar(&flags.params, "param", nil, "NODE.KEY=VALUE: override a param of a node; VALUE is JSON, or else text")
	f.IntVar(&flags.window, "window", 0, "how many items each node may have under way or waiting (default 16, or the size of the largest batch)")
	f.Var((*timeSpan)(&flags.timeout), "timeout", "end the command after this `time`, all included (exit code 124)")
	flags.service.addFlags(c)
	return c
}

// streamPipeline is `stream`: everything but the parsing of flags.
func (a *app) streamPipeline(ctx context.Context, name string, flags streamFlags) error {
	a.jsonErrors = isJSONFormat(flags.output)
	if err := flags.format.check(); err != nil {
		return err
	}
	if flags.window < 0 || flags.window > runner.LargestWindow {
		return usagef("--window takes a number from 1 to %d, not %d", runner.LargestWindow, flags.window)
	}
	p, err := a.load(name)
	if err != nil {
		return err
	}
	if err := setParams(p, flags.params); err != nil {
		return err
	}
	in, err := a.newStreamInput(flags.input)
	if err != nil {
		return err
	}
	out, err := a.newStreamOutput(flags.output, in)
	if err != nil {
		return err
	}
	defer out.close()
	dir := flags.outputDir
	if dir == "" && out.file != nil {
		dir = filepath.Dir(flags.output)
	}
	out.exporter = func(node string) *exporter { return newExporter(dir, node, out.warnOnce(a.logger.Warn), in.files()) }
	out.nodes = len(p.Graph().Sinks()) > 1
	job := &streamJob{app: a, pipeline: p, in: in, format: flags.format, realtime: flags.realtime, out: out, timeout: flags.timeout, service: flags.service}
	if flags.window > 0 {
		job.options = append(job.options, runner.WithWindow(flags.window))
	}
	return job.do(ctx)
}
