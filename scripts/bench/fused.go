package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// fusedName is the row of a chain whose nodes one worker runs.
const fusedName = "25 nodes, fused"

// measureFused compares a call of one echo node with calls of chains of them: with a worker for
// each node, and fused, so that one worker runs all of them.
func measureFused(ctx context.Context, b *bench) (err error) {
	chains := []struct {
		name   string
		length int
		fuse   string
	}{
		{"1 node", 1, ""},
		{"5 nodes", 5, ""},
		{"5 nodes, fused", 5, ", fuse: true"},
		{"25 nodes", 25, ""},
		{fusedName, 25, ", fuse: true"},
		{"100 nodes, fused", 100, ", fuse: true"},
	}
	b.logf("measuring fused chains: %d rounds", b.rounds)
	tasks := make([]task, len(chains))
	for i, c := range chains {
		r, _, startErr := b.host.startNodes(ctx, c.length, false, c.fuse)
		if startErr != nil {
			return startErr
		}
		defer func() { err = errors.Join(err, r.Close(context.Background())) }()
		calls := min(growthCalls, 10*b.calls)
		if c.fuse == "" {
			calls /= c.length
		}
		calls = max(calls, growthWarm)
		tasks[i] = once(func() (time.Duration, error) {
			group := callerGroup{runner: r, count: 1}
			if err := callConcurrently(ctx, group, int64(1), growthWarm); err != nil { // warm
				return 0, err
			}
			before := time.Now()
			err := callConcurrently(ctx, group, int64(1), calls)
			return time.Since(before) / time.Duration(calls), err
		})
	}
	all, err := takeTurns(b.rounds, tasks...)
	if err != nil {
		return err
	}
	t := table{Section: fusionName, Title: fmt.Sprintf("A call of a chain of echo nodes, plain and fused, in %d rounds", b.rounds), Unit: "µs a call", Ratio: "÷ 1 node"}
	for i, c := range chains {
		t.Figures = append(t.Figures, figure{c.name, microseconds(all[i].percentile(0.5)), all[i].ratio(all[0])})
	}
	b.report.Tables = append(b.report.Tables, t)
	return nil
}
