package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gophersnake/gophersnake/runner"
)

// measureHandover takes arrays from one Python process to another. Nobody fills
// them, and nobody reads them but for their length: it is the handover that counts.
func measureHandover(ctx context.Context, b *bench) (err error) {
	r, err := b.host.pipeline(ctx, "handover.yaml")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close(context.Background())) }()
	sizes := []struct {
		name  string
		bytes int64
	}{{"64 B", 64}, {"1 MiB", 1 << 20}, {"64 MiB", 64 << 20}}
	b.say("measuring the handover: %d rounds of %d calls a size", b.rounds, b.calls)
	tasks := make([]task, len(sizes))
	for i, size := range sizes {
		tasks[i] = func() ([]time.Duration, error) { return handOver(ctx, r, size.bytes, b.calls) }
	}
	all, err := turns(b.rounds, tasks...)
	if err != nil {
		return err
	}
	t := table{Section: handoverName, Title: "An array from one Python process to the next", Unit: "p50 µs", Ratio: "÷ 64 B"}
	for i, size := range sizes {
		t.Figures = append(t.Figures, figure{size.name, microseconds(all[i].percentile(0.5)), all[i].ratio(all[0])})
	}
	b.report.Tables = append(b.report.Tables, t)
	return nil
}

func handOver(ctx context.Context, r *runner.Runner, size int64, calls int) ([]time.Duration, error) {
	warmup := max(calls/5, 1)
	took := make([]time.Duration, 0, calls)
	for i := range warmup + calls {
		start := time.Now()
		length, err := r.Run(ctx, size)
		elapsed := time.Since(start)
		if err != nil {
			return nil, err
		}
		if length != size {
			return nil, fmt.Errorf("an array of %d bytes arrived as one of %v", size, length)
		}
		if i >= warmup {
			took = append(took, elapsed)
		}
	}
	return took, nil
}
