package main

import (
	"context"
	"path/filepath"
	"time"

	"github.com/gophersnake/gophersnake/runner"
)

// runnerPeer is a pipeline of one Python node, run as an embedder runs it:
// scheduler, retry policy, breaker and deadline are all in the way.
type runnerPeer struct{ runner *runner.Runner }

func setUpGophersnake(ctx context.Context, h *host) (peer, error) {
	pipeline, err := runner.Load(filepath.Join(h.programs, "pipeline.yaml"))
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
	return runnerPeer{r}, nil
}

func (p runnerPeer) measure(ctx context.Context, load payload, warmup, calls int) ([]time.Duration, error) {
	return timeCalls(load, warmup, calls, func(v any) (any, error) { return p.runner.Run(ctx, v) })
}

func (p runnerPeer) close() error { return p.runner.Close(context.Background()) }
