package main

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/gophersnake/gophersnake/runner"
)

// measureThroughput has several callers share one worker, whose node is a plain
// function.
func measureThroughput(ctx context.Context, b *bench) (err error) {
	r, err := b.host.pipeline(ctx, "echo.yaml")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close(context.Background())) }()
	b.say("measuring the throughput: %d rounds", b.rounds)
	return b.inFlight(ctx, table{Section: throughputName, Title: "Small calls in flight at once, one worker"},
		throughputCalls*b.calls, small, []crowd{{"1 in flight", r, 1}, {"8 in flight", r, 8}, {"64 in flight", r, 64}})
}

// measureBatch has a network work on its inputs one by one, and in batches.
func measureBatch(ctx context.Context, b *bench) (err error) {
	alone, err := b.host.pipeline(ctx, "recur.yaml")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, alone.Close(context.Background())) }()
	together, err := b.host.pipeline(ctx, "recur_together.yaml")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, together.Close(context.Background())) }()
	b.say("measuring batches: %d rounds", b.rounds)
	input := tensor(100*16, 1e-5)
	input.Shape = []int{100, 16}
	return b.inFlight(ctx, table{Section: batchName, Title: "A small recurrent network, one worker"}, batchCalls*b.calls, input,
		[]crowd{{"1 in flight", alone, 1}, {"64 in flight", alone, 64}, {"64 in flight, in batches of 32", together, 64}})
}

// throughputCalls and batchCalls are how many times as many calls a turn is, so that it
// does not count how 64 callers begin and end.
const throughputCalls, batchCalls = 100, 10

// crowd is a number of callers at once.
type crowd struct {
	name    string
	runner  *runner.Runner
	callers int
}

// inFlight measures the calls a second of crowds of callers, for a table.
func (b *bench) inFlight(ctx context.Context, t table, calls int, input any, crowds []crowd) error {
	tasks := make([]task, len(crowds))
	for i, c := range crowds {
		tasks[i] = func() ([]time.Duration, error) {
			if err := callTogether(ctx, c, input, max(calls/5, 1)); err != nil { // warm
				return nil, err
			}
			start := time.Now()
			err := callTogether(ctx, c, input, calls)
			return []time.Duration{time.Since(start)}, err
		}
	}
	all, err := turns(b.rounds, tasks...)
	if err != nil {
		return err
	}
	t.Unit, t.Ratio = "calls/s", "÷ "+crowds[0].name
	for i, c := range crowds {
		// What takes half as long has twice the rate.
		t.Figures = append(t.Figures, figure{c.name, all[i].rate() * float64(calls), all[0].ratio(all[i])})
	}
	b.report.Tables = append(b.report.Tables, t)
	return nil
}

// callTogether has a crowd make so many calls in all.
func callTogether(ctx context.Context, c crowd, input any, calls int) error {
	group, ctx := errgroup.WithContext(ctx)
	for i := range c.callers {
		share := (calls + i) / c.callers // they add up to all calls
		group.Go(func() error {
			for range share {
				if _, err := c.runner.Run(ctx, input); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return group.Wait()
}
