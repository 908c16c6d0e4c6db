package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner"
)

// measureRoundtrip measures by how much a call with 4 MiB exceeds a small call, in units of
// one copy of 4 MiB. It includes the copies into shared memory and out of it. One node
// returns the array unchanged. For the other one, the time of its work is included.
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
	loads, err := choosePayloads("small,4MiB")
	if err != nil {
		return err
	}
	small, large := loads[0], loads[1]
	returned := large
	returned.result = large.value
	calls := max(b.calls/large.fewer, 1)
	b.logf("measuring the round trip of 4 MiB: %d rounds of %d calls", b.rounds, calls)
	with := func(p peer, load payload) task {
		return func() ([]time.Duration, error) { return p.measure(ctx, load, max(calls/5, 1), calls) }
	}
	from := large.value().(*ipc.Tensor).Data
	to := make([]byte, len(from))
	copies := func() ([]time.Duration, error) { return timeCopies(to, from, calls), nil }
	// Run has to copy at least twice: into memory that the worker sees, which is used again, and
	// out of it into memory that becomes the caller's, which is not.
	needed := func() ([]time.Duration, error) { return timeNeeded(to, from, calls), nil }
	all, err := takeTurns(b.rounds, with(p, small), with(same, returned), with(p, large), with(shared, large), needed, copies)
	if err != nil {
		return err
	}
	t := table{Section: roundtripName, Title: "4 MiB from Go to Python and back", Unit: "p50 µs",
		Ratio: "(time − small call) ÷ copy"}
	last := len(all) - 1
	for i, name := range []string{"small call", roundtripReturned, "4 MiB, worked on, `Run`", "4 MiB, worked on, `RunShared`", roundtripNeeded, "copy of 4 MiB"} {
		f := figure{Name: name, Value: microseconds(all[i].percentile(0.5))}
		switch i {
		case 0, last:
		case last - 1:
			f.Ratio = all[i].ratio(all[last])
		default:
			f.Ratio = all[i].minus(all[0]).ratio(all[last])
		}
		t.Figures = append(t.Figures, f)
	}
	b.report.Tables = append(b.report.Tables, t)
	return nil
}

const (
	roundtripReturned = "4 MiB, returned, `Run`"
	roundtripNeeded   = "the two copies of `Run` alone"
)

// timeCopies times copies between two buffers, after a first one that is not timed.
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

// timeNeeded times a copy between two buffers and from there into new memory.
func timeNeeded(to, from []byte, calls int) []time.Duration {
	took := make([]time.Duration, calls)
	for i := range took {
		start := time.Now()
		copy(to, from)
		result := bytes.Clone(to)
		took[i] = time.Since(start)
		runtime.KeepAlive(result)
	}
	return took
}

// measureHandover passes arrays of several sizes from one Python process to another. The
// nodes neither fill nor read the arrays, so that only the transfer is measured.
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
	b.logf("measuring the transfer between processes: %d rounds of %d calls for each size", b.rounds, b.calls)
	tasks := make([]task, len(sizes))
	for i, size := range sizes {
		tasks[i] = func() ([]time.Duration, error) { return passArrays(ctx, r, size.bytes, b.calls) }
	}
	all, err := takeTurns(b.rounds, tasks...)
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

// passArrays makes calls that pass an array of a size, and returns their durations.
func passArrays(ctx context.Context, r *runner.Runner, size int64, calls int) ([]time.Duration, error) {
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

// measureTables passes a table of a million rows and ten columns from one Python process to
// another: as a table, and as the bytes of an Arrow stream that the nodes write and read.
func measureTables(ctx context.Context, b *bench) (err error) {
	r, err := b.host.pipeline(ctx, "tables.yaml")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close(context.Background())) }()
	ways := []string{"arrow by hand", "arrow", "pandas by hand", "pandas"}
	calls := max(b.calls/20, 1)
	b.logf("measuring tables of %d rows: %d rounds of %d calls for each way", tableRows, b.rounds, calls)
	tasks := make([]task, len(ways))
	for i, way := range ways {
		tasks[i] = func() ([]time.Duration, error) { return passTables(ctx, r, way, calls) }
	}
	all, err := takeTurns(b.rounds, tasks...)
	if err != nil {
		return err
	}
	t := table{Section: tablesName, Title: "A table from one Python process to the next", Unit: "p50 µs", Ratio: "÷ by hand"}
	for i, way := range ways {
		t.Figures = append(t.Figures, figure{way, microseconds(all[i].percentile(0.5)), all[i].ratio(all[i/2*2])})
	}
	b.report.Tables = append(b.report.Tables, t)
	return nil
}

// tableRows is the number of rows in python/tables.py.
const tableRows = 1_000_000

// passTables makes calls that pass the table in one of the ways, and returns their durations.
func passTables(ctx context.Context, r *runner.Runner, way string, calls int) ([]time.Duration, error) {
	took := make([]time.Duration, 0, calls)
	for i := range 1 + calls {
		start := time.Now()
		rows, err := r.Run(ctx, way)
		elapsed := time.Since(start)
		if err != nil {
			return nil, err
		}
		if rows != int64(tableRows) {
			return nil, fmt.Errorf("a table of %d rows arrived with %v", tableRows, rows)
		}
		if i > 0 {
			took = append(took, elapsed)
		}
	}
	return took, nil
}
