package main

import (
	"context"
	"errors"
	"time"

	"github.com/gophersnake/gophersnake/ipc"
)

// peer is one way to take a value to Python and back. It is ready for calls from
// the moment it has been set up.
type peer interface {
	// measure makes calls one after the other, the first warmup of them without
	// the clock, and returns what each of the others took. It fails where what
	// comes back is not what it should be.
	measure(ctx context.Context, p payload, warmup, calls int) ([]time.Duration, error)
	// close ends the peer and returns when its processes are gone.
	close() error
}

// contender is a peer before it is set up.
type contender struct {
	name  string
	about string
	setUp func(ctx context.Context, host *host) (peer, error)
	// arrays says that it takes part with arrays alone.
	arrays bool
}

// The names of the peers that others are compared with.
const (
	gophersnakeName = "gophersnake"
	pipeName        = "pipe"
	grpcName        = "grpc"
)

// contenders are all peers, in the order in which they take their turns.
var contenders = []contender{
	{name: gophersnakeName, about: "gophersnake, the whole Runner", setUp: setUpGophersnake},
	{name: "gophersnake-shared", about: "gophersnake, `RunShared`", setUp: setUpShared, arrays: true},
	{name: pipeName, about: "`multiprocessing.Pipe`, bare", setUp: pythonProgram("pipe.py", "numpy")},
	{name: "blocks", about: "`shared_memory`, by hand", setUp: pythonProgram("blocks.py", "numpy")},
	{name: "executor", about: "`ProcessPoolExecutor`, one worker", setUp: pythonProgram("executor.py", "numpy")},
	{name: grpcName, about: "gRPC plugin of go-plugin, grpcio", setUp: setUpGRPC},
	{name: "ray", about: "Ray, one actor", setUp: pythonProgram("ray_actor.py", "ray")},
	{name: "mosec", about: "mosec, one worker, over HTTP", setUp: pythonProgram("mosec_client.py", "mosec")},
	{name: "dora", about: "dora-rs, two nodes", setUp: pythonProgram("dora_run.py", "dora")},
}

// caller makes one call from Go. It shows the result to look while it is valid,
// and returns when the call is over.
type caller func(value any, look func(result any) error) error

// timeCalls is measure for the peers that are called from Go.
func timeCalls(p payload, warmup, calls int, call caller) ([]time.Duration, error) {
	value := p.value()
	if err := call(value, p.verify); err != nil {
		return nil, err
	}
	for range warmup - 1 {
		if err := call(value, glance); err != nil {
			return nil, err
		}
	}
	took := make([]time.Duration, calls)
	for i := range took {
		start := time.Now()
		err := call(value, glance)
		took[i] = time.Since(start)
		if err != nil {
			return nil, err
		}
	}
	return took, nil
}

// glance looks at the ends of an array, as the least that anyone does with a result.
func glance(result any) error {
	t, ok := result.(*ipc.Tensor)
	if ok && (t.Data[0] != 0 || t.Data[len(t.Data)-1] == 0) { // it counts up from 0
		return errors.New("an array came back with other elements")
	}
	return nil
}
