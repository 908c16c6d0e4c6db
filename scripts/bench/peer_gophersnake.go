package main

import (
	"context"
	"path/filepath"
	"time"

	"github.com/gophersnake/gophersnake/runner"
)

// runnerPeer is a pipeline of one Python node, run as an embedder runs it:
// scheduler, retry policy, breaker and deadline are all in the way.
type runnerPeer struct {
	*runner.Runner
	// shared leaves the result in shared memory until it has been looked at.
	shared bool
}

func setUpGophersnake(ctx context.Context, h *host) (peer, error) { return startRunner(ctx, h, false) }

func setUpShared(ctx context.Context, h *host) (peer, error) { return startRunner(ctx, h, true) }

func startRunner(ctx context.Context, h *host, shared bool) (peer, error) {
	r, err := h.pipeline(ctx, "call.yaml")
	if err != nil {
		return nil, err
	}
	return runnerPeer{r, shared}, nil
}

// pipeline starts one of the pipelines among the programs.
func (h *host) pipeline(ctx context.Context, name string) (*runner.Runner, error) {
	pipeline, err := runner.Load(filepath.Join(h.programs, name))
	if err != nil {
		return nil, err
	}
	r, err := runner.New(pipeline, runner.WithPython(h.python.Path))
	if err != nil {
		return nil, err
	}
	if err := r.Start(ctx); err != nil {
		return nil, err
	}
	return r, nil
}

func (p runnerPeer) measure(ctx context.Context, load payload, warmup, calls int) ([]time.Duration, error) {
	if p.shared {
		return timeCalls(load, warmup, calls, p.callShared(ctx))
	}
	return timeCalls(load, warmup, calls, p.call(ctx))
}

func (p runnerPeer) call(ctx context.Context) caller {
	return func(value any, look func(any) error) error {
		result, err := p.Run(ctx, value)
		if err != nil {
			return err
		}
		return look(result)
	}
}

func (p runnerPeer) callShared(ctx context.Context) caller {
	return func(value any, look func(any) error) error {
		result, err := p.RunShared(ctx, value)
		if err != nil {
			return err
		}
		defer result.Release()
		return look(result.Value)
	}
}

func (p runnerPeer) close() error { return p.Close(context.Background()) }
