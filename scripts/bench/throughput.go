package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/gophersnake/gophersnake/runner"
)

// measureThroughput has several callers share one worker, whose node is a plain
// function.
func measureThroughput(ctx context.Context, b *bench) (err error) {
	r, err := b.host.pipeline(ctx, "call.yaml")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close(context.Background())) }()
	b.say("measuring the throughput: %d rounds", b.rounds)
	all, err := inFlight(ctx, b, r, throughputCalls*b.calls, []int{1, 8, 64})
	if err != nil {
		return err
	}
	all.Section, all.Title = throughputName, "Small calls in flight at once, one worker"
	b.report.Tables = append(b.report.Tables, all)
	return nil
}

// throughputCalls is how many times as many calls a round of throughput is, so
// that 64 callers have something to do.
const throughputCalls = 5

// inFlight measures the calls a second of so many callers at once.
func inFlight(ctx context.Context, b *bench, r *runner.Runner, calls int, callers []int) (table, error) {
	tasks := make([]task, len(callers))
	for i, n := range callers {
		tasks[i] = func() ([]time.Duration, error) {
			if err := callTogether(ctx, r, max(calls/5, 1), n); err != nil { // warm
				return nil, err
			}
			start := time.Now()
			err := callTogether(ctx, r, calls, n)
			return []time.Duration{time.Since(start)}, err
		}
	}
	all, err := turns(b.rounds, tasks...)
	if err != nil {
		return table{}, err
	}
	t := table{Unit: "calls/s", Ratio: fmt.Sprintf("÷ %d in flight", callers[0])}
	for i, n := range callers {
		// What takes half as long has twice the rate.
		t.Figures = append(t.Figures, figure{fmt.Sprintf("%d in flight", n), all[i].rate() * float64(calls), all[0].ratio(all[i])})
	}
	return t, nil
}

// callTogether makes so many small calls, of which n are under way at a time.
func callTogether(ctx context.Context, r *runner.Runner, calls, n int) error {
	group, ctx := errgroup.WithContext(ctx)
	for i := range n {
		share := (calls + i) / n // they add up to all calls
		group.Go(func() error {
			for range share {
				if _, err := r.Run(ctx, small); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return group.Wait()
}
