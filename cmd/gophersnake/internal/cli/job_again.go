package cli

import (
	"context"
	"errors"

	"github.com/gophersnake/gophersnake/runner"
)

// errChanged is why inputs were given up: the code that they ran through is no
// longer what it was.
var errChanged = errors.New("the code has changed")

// doAgain runs the inputs, and again whenever the code has been reloaded, each time
// into a new output, until the context ends. It shows no progress but the log.
func (j *job) doAgain(ctx context.Context, outputs func() (output, error)) error {
	j.display = j.app.newLog()
	return j.app.withRunner(ctx, j.pipeline, j.display, j.service,
		func(ctx context.Context, r *runner.Runner, reloaded <-chan struct{}) error {
			for {
				changed, err := j.round(ctx, r, reloaded)
				if ctx.Err() != nil {
					return context.Cause(ctx)
				}
				if err != nil {
					j.app.report(ctx, err)
				}
				if !changed {
					j.app.logger.Info("the next change of the code is waited for; Ctrl-C ends")
					select {
					case <-reloaded:
					case <-ctx.Done():
						return context.Cause(ctx)
					}
				}
				if j.out, err = outputs(); err != nil {
					return err
				}
			}
		})
}

// round runs all inputs once. It is given up when the code has changed.
func (j *job) round(ctx context.Context, r *runner.Runner, reloaded <-chan struct{}) (changed bool, err error) {
	defer func() { j.out.discard() }()
	j.told, j.first = make(map[string]bool), nil
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
	err = j.runAll(round, r)
	cancel(nil)
	<-watching
	if changed {
		return true, nil
	}
	return false, err
}
