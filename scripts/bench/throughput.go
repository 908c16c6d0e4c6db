package main

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/gophersnake/gophersnake/runner"
)

// measureThroughput has several callers share one worker, whose node is a plain
// function, or one that takes its calls in batches.
func measureThroughput(ctx context.Context, b *bench) (err error) {
	r, err := b.host.pipeline(ctx, "call.yaml")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close(context.Background())) }()
	together, err := b.host.pipeline(ctx, "together.yaml")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, together.Close(context.Background())) }()
	b.say("measuring the throughput: %d rounds", b.rounds)
	all, err := inFlight(ctx, b, throughputCalls*b.calls, []crowd{
		{"1 in flight", r, 1}, {"8 in flight", r, 8}, {"64 in flight", r, 64}, {"64 in flight, in batches", together, 64},
	})
	if err != nil {
		return err
	}
	all.Section, all.Title = throughputName, "Small calls in flight at once, one worker"
	b.report.Tables = append(b.report.Tables, all)
	return nil
}

// throughputCalls is how many times as many calls a round of throughput is, so
// that 64 callers have something to do.
const throughputCalls = 20

// crowd is a number of callers at once.
type crowd struct {
	name    string
	runner  *runner.Runner
	callers int
}

// inFlight measures the calls a second of crowds of callers.
func inFlight(ctx context.Context, b *bench, calls int, crowds []crowd) (table, error) {
	tasks := make([]task, len(crowds))
	for i, c := range crowds {
		tasks[i] = func() ([]time.Duration, error) {
			if err := callTogether(ctx, c.runner, max(calls/5, 1), c.callers); err != nil { // warm
				return nil, err
			}
			start := time.Now()
			err := callTogether(ctx, c.runner, calls, c.callers)
			return []time.Duration{time.Since(start)}, err
		}
	}
	all, err := turns(b.rounds, tasks...)
	if err != nil {
		return table{}, err
	}
	t := table{Unit: "calls/s", Ratio: "÷ " + crowds[0].name}
	for i, c := range crowds {
		// What takes half as long has twice the rate.
		t.Figures = append(t.Figures, figure{c.name, all[i].rate() * float64(calls), all[0].ratio(all[i])})
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
