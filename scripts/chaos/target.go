package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/gophersnake/gophersnake/runner"
)

// target is a pipeline under load, with the callers that call it.
type target struct {
	index         int
	name          string
	callers       int
	weight        int      // its share of the calls, if their number is given
	faultWeight   int      // how many times as often its calls have a fault; 0 counts as 1
	nodes         []string // those that a fault can occur in, if there are several
	serial        bool     // its workers have one call at a time
	nonIdempotent bool     // its calls must not be executed twice
	breaker       bool
	streams       bool
	hostile       bool // one of its nodes attacks the others
	faults        []*fault

	// do makes a call. It returns how many items were received from a stream, what is
	// wrong with the answer, and the error of the call.
	do func(ctx context.Context, r *runner.Runner, p plan) (items int, wrong, err error)
}

// newTargets returns all targets.
func newTargets() []*target {
	message := callRun(plan.message, plan.checkMessage)
	targets := []*target{
		{name: "sync", serial: true, callers: 6, weight: 10, do: message},
		{name: "ahead", callers: 16, weight: 25, do: message},
		{name: "async", callers: 24, weight: 15, do: message},
		{name: "batch", callers: 24, weight: 10, do: message},
		{name: "alone", callers: 24, weight: 10, do: message},
		{name: "once", serial: true, callers: 4, weight: 8, nonIdempotent: true, do: message},
		{name: "once_together", callers: 12, weight: 8, nonIdempotent: true, do: message},
		{name: "breaker", callers: 4, weight: 4, breaker: true, do: message},
		{name: "graph", callers: 4, weight: 3, nodes: []string{"spread", "left", "join"}, do: callRun(plan.message, plan.checkGraph)},
		{name: "many", serial: true, callers: 4, weight: 3, nodes: []string{"burst"}, do: callRun(plan.oneBurst, plan.checkMany)},
		{name: "shared", serial: true, callers: 3, weight: 2, faultWeight: 2, do: callRunShared},
		{name: "chain", callers: 3, weight: 2, faultWeight: 2, nodes: []string{"grow", "pass_on", "shrink"}, do: callRun(plan.chainMessage, plan.checkChain)},
		{name: "stream", streams: true, callers: 2, weight: 1, faultWeight: 20, nodes: []string{"burst", "step", "tally"}, do: callStream},
	}
	// A second answer makes the worker's next call fail. Only targets whose calls may fail
	// by the fault of another one get such faults.
	forging := []string{"ahead", "async", "batch", "alone", "once_together", "breaker"}
	for i, t := range targets {
		t.index, t.faults = i, faultsFor(slices.Contains(forging, t.name))
	}
	return targets
}

// callRun returns a do function that calls Runner.Run.
func callRun(input func(plan) any, check func(plan, any) error) func(context.Context, *runner.Runner, plan) (int, error, error) {
	return func(ctx context.Context, r *runner.Runner, p plan) (items int, wrong, err error) {
		got, err := r.Run(ctx, input(p))
		if err != nil {
			return 0, nil, err
		}
		return 0, check(p, got), nil
	}
}

// callRunShared calls Runner.RunShared.
func callRunShared(ctx context.Context, r *runner.Runner, p plan) (items int, wrong, err error) {
	got, err := r.RunShared(ctx, p.arrayMessage())
	if err != nil {
		return 0, nil, err
	}
	defer got.Release()
	return 0, p.checkArray(got.Value), nil
}

// callStream sends the items of a plan through a stream. All items that are received
// before a failure must be right.
func callStream(ctx context.Context, r *runner.Runner, p plan) (items int, wrong, err error) {
	s, err := r.Stream(ctx)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = s.Close() }()
	go func() {
		for item := range p.items {
			if s.Send(p.burstMessage(item)) != nil {
				return // Recv returns the cause
			}
		}
		s.CloseSend()
	}()
	want := p.expectedItems()
	for i := 0; ; i++ {
		item, err := s.Recv()
		switch {
		case errors.Is(err, io.EOF) && i != len(want):
			return i, fmt.Errorf("received %d of %d items", i, len(want)), nil
		case errors.Is(err, io.EOF):
			return i, nil, nil
		case err != nil:
			var failure *runner.Error
			if !errors.As(err, &failure) || failure.Metadata["delivered"] != strconv.Itoa(i) {
				return i, fmt.Errorf("received %d items, but the error gives another number: %+w", i, err), nil
			}
			return i, nil, err
		case i == len(want):
			return i, fmt.Errorf("received more than %d items: %v", i, item.Value), nil
		}
		if got, ok := item.Value.(map[string]any); !ok || !maps.Equal(got, want[i]) {
			return i, fmt.Errorf("item %d is %v instead of %v", i, item.Value, want[i]), nil
		}
		if i+1 == p.stopAfter {
			return i + 1, nil, nil // the deferred Close ends the stream early
		}
	}
}

// sharedMemory limits the shared memory of each worker and each pipeline. It is small, so
// that there is not always space for an array.
const sharedMemory = 8 << 20

// sharedMemory returns the limit of a target. Each call of a hostile target holds the data
// of three nodes.
func (t *target) sharedMemory() int64 {
	if t.hostile {
		return 8 * sharedMemory
	}
	return sharedMemory
}

// open starts the runner of a target. The folder holds the pipelines.
func (t *target) open(ctx context.Context, folder string, opts ...runner.Option) (*runner.Runner, error) {
	pipeline, err := runner.Load(filepath.Join(folder, t.name+".yaml"))
	if err != nil {
		return nil, err
	}
	opts = append(opts, runner.WithNode("sum_in_go", sumInGo), runner.WithSharedMemory(t.sharedMemory()))
	for _, name := range append([]string{attacker}, neighbors...) {
		opts = append(opts, runner.WithNode("part_of_"+name, partOf(name)))
	}
	r, err := runner.New(pipeline, opts...)
	if err != nil {
		return nil, err
	}
	if err := r.Start(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", t.name, err), r.Close(ctx))
	}
	return r, nil
}
