package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/failure"
	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/input"
	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/output"
	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/program"
	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/terminal"
	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/manifest"
)

type streamFlags struct {
	input     string
	format    input.Format
	output    string
	outputDir string
	params    []string
	window    int
	timeout   time.Duration
	service   program.ServiceFlags
}

func newStream(a *app) *cobra.Command {
	var flags streamFlags
	c := &cobra.Command{
		Use:   "stream PIPELINE",
		Short: "Stream items through a pipeline and write results as they arrive",
		Long: `Read items as they arrive, send each through the pipeline, and write each result as
soon as it is available, in order. If the pipeline or the reader of the results is slow,
reading pauses, so memory use does not depend on the length of the stream.

` + input.StreamHelp + "\n\n" + output.StreamHelp + `

The first item that fails ends the stream, after the results before it. Ctrl-C ends the
input, and items in progress are finished; a second Ctrl-C ends the command at once.

` + program.ServiceHelp,
		Example: `  arecord -f S16_LE -r 16000 | gophersnake stream speech
  gophersnake stream speech --input talk.wav --realtime
  ffmpeg -i talk.mp3 -ac 1 -ar 16000 -f s16le - | gophersnake stream speech --input-format pcm --rate 16000
  tail -f orders.jsonl | gophersnake stream ./shop | jq .total
  tail -f orders.jsonl | gophersnake stream ./shop --status localhost:9090 --watch
  gophersnake stream hello --input names.txt --input-format text --output greetings.jsonl`,
		Args: program.ArgumentCount(1, 1, "PIPELINE"),
		RunE: func(c *cobra.Command, args []string) error {
			for _, name := range []string{"rate", "channels", "sample-format"} {
				if c.Flags().Changed(name) && flags.format.Name != "pcm" {
					return failure.Usagef("--%s needs --input-format pcm; other formats have it in their header", name)
				}
			}
			return a.streamPipeline(c.Context(), args[0], flags)
		},
	}
	f := c.Flags()
	f.StringVarP(&flags.input, "input", "i", "-", "a file, or - for standard input")
	f.StringVar(&flags.format.Name, "input-format", "auto", "auto, jsonl, text, wav or pcm")
	f.IntVar(&flags.format.Rate, "rate", 0, "for pcm: samples per second of each channel")
	f.IntVar(&flags.format.Channels, "channels", 1, "for pcm: number of interleaved channels")
	f.StringVar(&flags.format.Samples, "sample-format", "s16le", "for pcm: s16le or f32le")
	flags.format.Chunk = 20 * time.Millisecond
	f.Var((*program.TimeSpan)(&flags.format.Chunk), "chunk", "length of each chunk of a recording, a `time`")
	f.BoolVar(&flags.format.Realtime, "realtime", false, "send a recording at the speed at which it was recorded")
	f.StringVarP(&flags.output, "output", "o", "", "pretty, jsonl or a file")
	f.StringVar(&flags.outputDir, "output-dir", "", "folder for media files (default: that of the output file, or else the current folder)")
	f.StringArrayVar(&flags.params, "param", nil, "NODE.KEY=VALUE: override a param of a node; VALUE is JSON or else text; can be repeated")
	f.IntVar(&flags.window, "window", 0, "number of items that each node may have in progress or queued (default 16, or the size of the largest batch)")
	f.Var((*program.TimeSpan)(&flags.timeout), "timeout", "end the command after this `time`, startup included; the exit code is 124")
	flags.service.Add(c)
	return c
}

// streamPipeline is the command stream without the parsing of flags.
func (a *app) streamPipeline(ctx context.Context, name string, flags streamFlags) error {
	a.JSONErrors = output.IsJSON(flags.output) && !terminal.Is(a.Err)
	if err := flags.format.Check(); err != nil {
		return err
	}
	if flags.window < 0 || flags.window > runner.LargestWindow {
		return failure.Usagef("--window takes a number from 1 to %d, not %d", runner.LargestWindow, flags.window)
	}
	p, err := a.Load(name)
	if err != nil {
		return err
	}
	if err := program.SetParams(p, flags.params, a.Logger.Warn); err != nil {
		return err
	}
	if flags.input == "-" && terminal.Is(a.In) {
		a.Logger.Info("reading from the keyboard; Ctrl-D at the beginning of a line ends the input")
	}
	in, err := input.NewStream(a.In, flags.input, a.Logger.Warn)
	if err != nil {
		return err
	}
	out, err := output.NewStream(output.StreamOptions{
		Format: flags.output, Dir: flags.outputDir, Stem: in.Stem, Input: in.Info, InputFiles: in.Files(),
		ShowNodes: len(p.Graph().Sinks()) > 1, Warn: a.Logger.Warn, Stdout: a.Out, Style: a.Style,
	})
	if err != nil {
		return err
	}
	defer out.Close()
	job := &streamJob{app: a, pipeline: p, in: in, format: flags.format, out: out, timeout: flags.timeout, service: flags.service}
	if flags.window > 0 {
		job.options = append(job.options, runner.WithWindow(flags.window))
	}
	return job.run(ctx)
}

// streamJob sends the items of an input through a pipeline, shows the progress, and writes
// the results.
type streamJob struct {
	app      *app
	pipeline *manifest.Pipeline
	in       *input.Stream
	format   input.Format
	out      *output.Stream
	options  []runner.StreamOption
	timeout  time.Duration // 0 for none
	service  program.ServiceFlags

	display *terminal.Display
	sent    int // items; valid after send has returned
}

func (j *streamJob) run(ctx context.Context) error {
	// A signal ends ctx and thereby the input. The stream has a context of its own, which
	// only the timeout ends, so that items in progress are finished.
	streamCtx := context.WithoutCancel(ctx)
	if j.timeout > 0 {
		var cancel, cancelStream context.CancelFunc
		deadline, cause := time.Now().Add(j.timeout), failure.Timeout(j.timeout)
		ctx, cancel = context.WithDeadlineCause(ctx, deadline, cause)
		defer cancel()
		streamCtx, cancelStream = context.WithDeadlineCause(streamCtx, deadline, cause)
		defer cancelStream()
	}
	j.display = terminal.NewStreamDisplay(j.app.Console, j.app.Logger)
	defer j.display.Close()
	streamCtx, stop := runner.WithProgress(streamCtx, j.display.Progress)
	defer stop()
	if j.display.ShowsLines() {
		j.out.Redirect(j.app.Console) // so that results appear above the progress
	}
	work := func(ctx context.Context, r *runner.Runner, _ <-chan struct{}) error {
		s, err := r.Stream(streamCtx, j.options...)
		if err == nil {
			err = j.transfer(ctx, s)
		}
		return j.addProgress(failure.Cause(streamCtx, err))
	}
	return j.app.WithRunner(ctx, j.pipeline, j.display, j.service, work)
}

// errStreamEnded ends the reading of the input of a stream that has ended.
var errStreamEnded = errors.New("the stream has ended")

// transfer sends items until the input or the context ends, and writes all results.
func (j *streamJob) transfer(ctx context.Context, s *runner.Stream) error {
	inputCtx, stop := context.WithCancelCause(ctx)
	sending := make(chan error, 1)
	go func() { sending <- j.send(inputCtx, s) }()
	err := j.receive(s)
	stop(errStreamEnded)
	_ = s.Close() // all results were received, or are not wanted any more
	if sendErr := <-sending; err == nil {
		err = sendErr
	}
	if err == nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return err
}

// receive writes the results until the stream ends.
func (j *streamJob) receive(s *runner.Stream) error {
	for {
		item, err := s.Recv()
		if err == io.EOF { //nolint:errorlint // an error that wraps io.EOF is a failure of the stream
			return nil
		}
		if err != nil {
			return err
		}
		if err := j.out.Write(item); err != nil {
			return err
		}
		j.display.ItemReceived()
	}
}

// send sends the items of the input until the input or the context ends. Its error is that
// of the input or of the stream.
func (j *streamJob) send(ctx context.Context, s *runner.Stream) error {
	defer s.CloseSend()
	items := j.in.Items(ctx, j.format)
	var pacer input.Pacer
	for {
		var item input.Item
		var more bool
		select {
		case item, more = <-items:
		case <-ctx.Done():
			if stop, ok := failure.Interruption(ctx); ok {
				j.app.Logger.Info(stop.Error() + ": finishing the items in progress; a second signal ends the command at once")
			}
			return nil
		}
		if !more || item.Err != nil {
			return item.Err
		}
		if audio, ok := item.Value.(*ipc.Audio); ok && j.format.Realtime {
			pacer.Wait(ctx, audio)
		}
		if err := s.Send(item.Value); err != nil {
			return runner.Wrap(err, runner.KindOf(err), item.Place)
		}
		j.sent++
		j.display.ItemSent()
	}
}

// addProgress adds to an error how many items the stream has processed.
func (j *streamJob) addProgress(err error) error {
	if _, ok := errors.AsType[*failure.UsageError](err); ok || err == nil {
		return err
	}
	if e, ok := errors.AsType[*runner.Error](err); ok {
		return e.WithMetadata("delivered", fmt.Sprint(j.out.Count()))
	}
	return fmt.Errorf("%w: %s sent, %s received", err, terminal.Plural(j.sent, "item"), terminal.Plural(j.out.Count(), "result"))
}
