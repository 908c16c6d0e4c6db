package main

import (
	"context"
	"errors"
	"path/filepath"
	"time"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner"
)

// peer is one way to send a value to Python and receive it back. It is ready for calls
// as soon as it is set up.
type peer interface {
	// measure makes calls one after the other, and returns the duration of each. The
	// warmup calls before them are not timed. It fails if a result is wrong.
	measure(ctx context.Context, p payload, warmup, calls int) ([]time.Duration, error)
	// close ends the peer, and returns when its processes are gone.
	close() error
}

// peerSpec describes a peer and sets it up.
type peerSpec struct {
	name  string
	about string
	setUp func(ctx context.Context, host *host) (peer, error)
	// arrays is set if the peer supports only arrays.
	arrays bool
}

// Names of peers that other code refers to.
const (
	gophersnakeName = "gophersnake"
	pipeName        = "pipe"
	grpcName        = "grpc"
)

// allPeers are all peers, in the order of their turns.
var allPeers = []peerSpec{
	{name: gophersnakeName, about: "gophersnake, the whole Runner", setUp: setUpGophersnake},
	{name: "gophersnake-shared", about: "gophersnake, `RunShared`", setUp: setUpShared, arrays: true},
	{name: pipeName, about: "`multiprocessing.Pipe`, bare", setUp: pythonProgram("standard_library.py", "numpy", "pipe")},
	{name: "blocks", about: "`shared_memory`, by hand", setUp: pythonProgram("standard_library.py", "numpy", "blocks")},
	{name: "executor", about: "`ProcessPoolExecutor`, one worker", setUp: pythonProgram("standard_library.py", "numpy", "executor")},
	{name: grpcName, about: "gRPC plugin of go-plugin, grpcio", setUp: setUpGRPC},
	{name: "ray", about: "Ray, one actor", setUp: pythonProgram("ray_actor.py", "ray")},
	{name: "mosec", about: "mosec, one worker, over HTTP", setUp: pythonProgram("mosec_peer.py", "mosec")},
	{name: "dora", about: "dora-rs, two nodes", setUp: pythonProgram("dora_peer.py", "dora")},
}

// caller makes one call from Go. It passes the result to check while it is valid.
type caller func(value any, check func(result any) error) error

// timeCalls implements measure for the peers that are called from Go.
func timeCalls(p payload, warmup, calls int, call caller) ([]time.Duration, error) {
	value := p.value()
	if err := call(value, p.verify); err != nil {
		return nil, err
	}
	for range warmup - 1 {
		if err := call(value, checkEnds); err != nil {
			return nil, err
		}
	}
	took := make([]time.Duration, calls)
	for i := range took {
		start := time.Now()
		err := call(value, checkEnds)
		took[i] = time.Since(start)
		if err != nil {
			return nil, err
		}
	}
	return took, nil
}

// checkEnds reads the first and the last element of an array, as the least that a caller
// does with a result. It is part of the time of a call.
func checkEnds(result any) error {
	t, ok := result.(*ipc.Tensor)
	if ok && (t.Data[0] != 0 || t.Data[len(t.Data)-1] == 0) { // the elements count up from 0
		return errors.New("an array came back with other elements")
	}
	return nil
}

// runnerPeer is a pipeline of one Python node, run as an embedder runs it, with scheduler,
// retry policy, breaker and deadline.
type runnerPeer struct {
	*runner.Runner
	// shared leaves the result in shared memory until it was checked.
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

// pipeline starts one of the embedded pipelines.
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
	return func(value any, check func(any) error) error {
		result, err := p.Run(ctx, value)
		if err != nil {
			return err
		}
		return check(result)
	}
}

func (p runnerPeer) callShared(ctx context.Context) caller {
	return func(value any, check func(any) error) error {
		result, err := p.RunShared(ctx, value)
		if err != nil {
			return err
		}
		defer result.Release()
		return check(result.Value)
	}
}

func (p runnerPeer) close() error { return p.Close(context.Background()) }
