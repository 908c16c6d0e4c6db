package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/manifest"
)

// streamJob takes what it reads through a pipeline, and puts out what comes.
type streamJob struct {
	app      *app
	pipeline *manifest.Pipeline
	in       *streamInput
	format   streamFormat
	realtime bool
	out      *streamOutput
	options  []runner.StreamOption
	timeout  time.Duration // 0 for none
	service  service

	display *display
	line    *streamLine
}

func (j *streamJob) do(ctx context.Context) error {
	// A signal ends the input. The stream itself goes on, but not beyond its time.
	whole := context.WithoutCancel(ctx)
	if j.timeout > 0 {
		var cancel, cancelWhole context.CancelFunc
		end, over := time.Now().Add(j.timeout), timedOut(j.timeout)
		ctx, cancel = context.WithDeadlineCause(ctx, end, over)
		defer cancel()
		whole, cancelWhole = context.WithDeadlineCause(whole, end, over)
		defer cancelWhole()
	}
	j.display = j.app.newDisplay(nil, 0)
	defer j.display.close()
	j.line = j.display.addStream()
	j.out.above(j.display)
	work := func(ctx context.Context, r *runner.Runner, _ <-chan struct{}) error {
		s, err := r.Stream(whole, j.options...)
		if err == nil {
			err = j.through(ctx, s)
		}
		return j.ended(whole, err)
	}
	return j.app.withRunner(ctx, j.pipeline, j.display, j.service, work)
}

// through feeds the stream until the context ends, and puts out what comes, to the
// end.
func (j *streamJob) through(ctx context.Context, s *runner.Stream) error {
	feeding, stop := context.WithCancelCause(ctx)
	fed := make(chan error, 1)
	go func() { fed <- j.feed(feeding, s) }()
	err := j.receive(s)
	stop(errStreamOver)
	_ = s.Close() // nothing of it is left, or worth waiting for
	if failure := <-fed; err == nil {
		err = failure
	}
	if err == nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return err
}

// errStreamOver is why a stream is no longer fed that has ended.
var errStreamOver = errors.New("the stream is over")

// receive puts out what comes, to the end.
func (j *streamJob) receive(s *runner.Stream) error {
	for {
		item, err := s.Recv()
		switch {
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		}
		if err := j.out.take(item); err != nil {
			return err
		}
		j.display.update(func() { j.line.delivered++ })
	}
}

// ended adds to why a stream ended early how far it had come.
func (j *streamJob) ended(ctx context.Context, err error) error {
	err = whyEnded(ctx, err)
	if _, ok := err.(*usageError); ok || err == nil {
		return err
	}
	if e, ok := err.(*runner.Error); ok {
		return e.WithMetadata("delivered", fmt.Sprint(j.out.count))
	}
	return fmt.Errorf("%w: %s had gone in, %s had come out", err, plural(j.line.sent, "item"), plural(j.out.count, "result"))
}

// piece is an item as it was read.
type piece struct {
	value any
	place string
	err   error
}

// feed sends what is read, until the input or the context ends. Its error is that of
// the input, or the stream's.
func (j *streamJob) feed(ctx context.Context, s *runner.Stream) error {
	defer s.CloseSend()
	pieces := make(chan piece)
	go j.read(ctx, pieces)
	var pace pacer
	for {
		var p piece
		select {
		case p = <-pieces:
		case <-ctx.Done():
			j.tellStopped(ctx)
			return nil
		}
		switch {
		case p.err == io.EOF:
			return nil
		case p.err != nil:
			return p.err
		}
		if audio, ok := p.value.(*ipc.Audio); ok && j.realtime {
			pace.wait(ctx, audio)
		}
		if err := s.Send(p.value); err != nil {
			return runner.Wrap(err, runner.KindOf(err), p.place)
		}
		j.display.update(func() { j.line.sent++ })
	}
}

// read reads the input to its end, on a goroutine of its own: a pipe that nobody
// writes to is left alone when the context ends. It is never more than an item ahead.
func (j *streamJob) read(ctx context.Context, pieces chan<- piece) {
	hand := func(p piece) bool {
		select {
		case pieces <- p:
			return p.err == nil
		case <-ctx.Done():
			return false
		}
	}
	file, err := j.in.open()
	if err != nil {
		hand(piece{err: err})
		return
	}
	defer func() { _ = file.Close() }() // it was only read
	from, err := j.in.items(file, j.format, j.realtime)
	if err != nil {
		hand(piece{err: err})
		return
	}
	for {
		value, err := from.next()
		if !hand(piece{value: value, place: from.place(), err: err}) {
			return
		}
	}
}

// tellStopped says what happens now that a signal has ended the input.
func (j *streamJob) tellStopped(ctx context.Context) {
	if stop, ok := interruption(ctx); ok {
		j.app.logger.Info(stop.Error() + ": what is under way is finished; the second time, the command ends at once")
	}
}
