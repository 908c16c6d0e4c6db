package main

import (
	"context"
	"errors"
	"time"

	"github.com/gophersnake/gophersnake/ipc"
)

// measureRoundtrip says what 4 MiB add to a small call, in copies of 4 MiB, with the
// copies into shared memory and out. One node returns them as they came, the other
// one works on them, which is in it, too.
func measureRoundtrip(ctx context.Context, b *bench) (err error) {
	p, err := startRunner(ctx, b.host, false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	shared := runnerPeer{p.(runnerPeer).Runner, true}
	r, err := b.host.pipeline(ctx, "same.yaml")
	if err != nil {
		return err
	}
	same := runnerPeer{r, false}
	defer func() { err = errors.Join(err, same.close()) }()
	loads, err := choose("payload", payloads, func(p payload) string { return p.name }, "small,4MiB")
	if err != nil {
		return err
	}
	small, large := loads[0], loads[1]
	returned := large
	returned.result = large.value
	calls := max(b.calls/large.fewer, 1)
	b.say("measuring the round trip of 4 MiB: %d rounds of %d calls", b.rounds, calls)
	with := func(p peer, load payload) task {
		return func() ([]time.Duration, error) { return p.measure(ctx, load, max(calls/5, 1), calls) }
	}
	from := large.value().(*ipc.Tensor).Data
	to := make([]byte, len(from))
	copies := func() ([]time.Duration, error) { return timeCopies(to, from, calls), nil }
	all, err := turns(b.rounds, with(p, small), with(same, returned), with(p, large), with(shared, large), copies)
	if err != nil {
		return err
	}
	t := table{Section: roundtripName, Title: "4 MiB from Go to Python and back", Unit: "p50 µs",
		Ratio: "(time − small call) ÷ copy"}
	for i, name := range []string{"small call", roundtripReturned, "4 MiB, worked on, `Run`", "4 MiB, worked on, `RunShared`", "copy of 4 MiB"} {
		f := figure{Name: name, Value: microseconds(all[i].percentile(0.5))}
		if i > 0 && i < len(all)-1 {
			f.Ratio = all[i].less(all[0]).ratio(all[len(all)-1])
		}
		t.Figures = append(t.Figures, f)
	}
	b.report.Tables = append(b.report.Tables, t)
	return nil
}

const roundtripReturned = "4 MiB, returned, `Run`"

// timeCopies copies between two buffers that are warm.
func timeCopies(to, from []byte, calls int) []time.Duration {
	copy(to, from)
	took := make([]time.Duration, calls)
	for i := range took {
		start := time.Now()
		copy(to, from)
		took[i] = time.Since(start)
	}
	return took
}
