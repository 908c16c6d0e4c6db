package main

import (
	"context"
	"fmt"
	"reflect"
	"time"
)

// peer is one way to take a value through Python and back. It is ready for
// calls from the moment it has been set up.
type peer interface {
	// measure makes calls one after the other, the first warmup of them without
	// the clock, and returns what each of the others took. It fails where what
	// comes back is not what was sent.
	measure(ctx context.Context, p payload, warmup, calls int) ([]time.Duration, error)
	// close ends the peer and returns when its processes are gone.
	close() error
}

// contender is a peer before it is set up.
type contender struct {
	name  string
	about string
	setUp func(ctx context.Context, host *host) (peer, error)
}

// The names of the peers.
const (
	gophersnakeName = "gophersnake"
	pipeName        = "pipe"
	executorName    = "executor"
	grpcName        = "grpc"
)

// contenders are all peers, in the order in which they take their turns.
var contenders = []contender{
	{gophersnakeName, "gophersnake, the whole Runner", setUpGophersnake},
	{pipeName, "multiprocessing.Pipe, bare", setUpPipe},
	{executorName, "ProcessPoolExecutor, one worker", setUpExecutor},
	{grpcName, "gRPC plugin of go-plugin, grpcio", setUpGRPC},
}

// timeCalls is measure for the peers that are called from Go.
func timeCalls(p payload, warmup, calls int, echo func(any) (any, error)) ([]time.Duration, error) {
	took := make([]time.Duration, 0, calls)
	var result any
	for i := range warmup + calls {
		start := time.Now()
		v, err := echo(p.value)
		elapsed := time.Since(start)
		if err != nil {
			return nil, err
		}
		if i >= warmup {
			took = append(took, elapsed)
		}
		result = v
	}
	// Python writes a positive integer as an unsigned one, which is the same number.
	if !reflect.DeepEqual(result, p.value) && fmt.Sprint(result) != fmt.Sprint(p.value) {
		return nil, fmt.Errorf("the echo of %.80s is %.80s", fmt.Sprint(p.value), fmt.Sprint(result))
	}
	return took, nil
}
