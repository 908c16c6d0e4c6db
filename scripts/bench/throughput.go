package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/gophersnake/gophersnake/runner"
)

// measureThroughput measures concurrent callers of one worker, whose node is a plain
// function.
func measureThroughput(ctx context.Context, b *bench) (err error) {
	r, err := b.host.pipeline(ctx, "echo.yaml")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close(context.Background())) }()
	b.logf("measuring the throughput: %d rounds", b.rounds)
	return b.inFlight(ctx, table{Section: throughputName, Title: "Small calls in flight at once, one worker"},
		throughputCalls*b.calls, small, []callerGroup{{"1 in flight", r, 1}, {"8 in flight", r, 8}, {"64 in flight", r, 64}})
}

// measureBatch measures a network that gets its inputs one by one, and in batches.
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
	b.logf("measuring batches: %d rounds", b.rounds)
	input := tensor(100*16, 1e-5)
	input.Shape = []int{100, 16}
	return b.inFlight(ctx, table{Section: batchName, Title: "A small recurrent network, one worker"}, batchCalls*b.calls, input,
		[]callerGroup{{"1 in flight", alone, 1}, {"64 in flight", alone, 64}, {"64 in flight, in batches of 32", together, 64}})
}

// throughputCalls and batchCalls multiply the number of calls in a round, so that the start
// and the end of 64 callers have little weight.
const throughputCalls, batchCalls = 100, 10

// measureThreads measures threads with a network in NumPy.
func measureThreads(ctx context.Context, b *bench) error {
	return b.threads(ctx, threadsName, "numpy", "NumPy")
}

// measureOnnx measures threads with a network in ONNX Runtime, if that can be installed.
func measureOnnx(ctx context.Context, b *bench) error {
	err := b.threads(ctx, onnxName, "onnx", "ONNX Runtime")
	if err != nil && ctx.Err() == nil && errors.Is(err, runner.KindIO) {
		b.skip(onnxName, "a network in ONNX Runtime", err)
		return nil
	}
	return err
}

// threads compares two processes with eight threads of one process, and with one: the calls
// per second of 8 callers, and the memory.
func (b *bench) threads(ctx context.Context, section, prefix, name string) (err error) {
	groups := []callerGroup{{name: "two processes", count: 8}, {name: "one process, 8 threads", count: 8}, {name: "one process", count: 8}}
	for i, kind := range []string{"processes", "threads", "process"} {
		if groups[i].runner, err = b.host.pipeline(ctx, prefix+"_"+kind+".yaml"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, groups[i].runner.Close(context.Background())) }()
	}
	b.logf("measuring threads with a network in %s: %d rounds", name, b.rounds)
	input := tensor(8*1024, 1e-3)
	input.Shape = []int{8, 1024}
	t := table{Section: section, Title: "A network in " + name + ", 8 calls in flight"}
	if err := b.inFlight(ctx, t, b.calls, input, groups); err != nil {
		return err
	}
	t = table{Section: section, Title: "The memory of their workers, with " + name, Unit: "MiB", Ratio: "÷ " + groups[0].name}
	var first float64
	for _, group := range groups {
		size, err := proportional(group.runner)
		if err != nil {
			return err
		}
		first = cmp.Or(first, size)
		t.Figures = append(t.Figures, figure{group.name, size, size / first})
	}
	b.report.Tables = append(b.report.Tables, t)
	return nil
}

// proportional returns the memory of a runner's workers in MiB, each page divided by the
// number of processes that share it.
func proportional(r *runner.Runner) (float64, error) {
	total := 0
	for _, node := range r.Health().Nodes {
		for _, worker := range node.Pool.Workers {
			text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", worker.PID))
			if err != nil {
				return 0, err
			}
			_, rest, _ := strings.Cut(string(text), "\nPss:")
			fields := strings.Fields(rest)
			if len(fields) == 0 {
				return 0, fmt.Errorf("no Pss in the memory of worker %d", worker.PID)
			}
			size, err := strconv.Atoi(fields[0])
			if err != nil {
				return 0, err
			}
			total += size
		}
	}
	return float64(total) / 1024, nil
}

// callerGroup is a number of concurrent callers of a runner.
type callerGroup struct {
	name   string
	runner *runner.Runner
	count  int
}

// inFlight measures the calls per second of each group, and adds a table of them.
func (b *bench) inFlight(ctx context.Context, t table, calls int, input any, groups []callerGroup) error {
	tasks := make([]task, len(groups))
	for i, group := range groups {
		tasks[i] = func() ([]time.Duration, error) {
			if err := callConcurrently(ctx, group, input, max(calls/5, 1)); err != nil { // warm
				return nil, err
			}
			start := time.Now()
			err := callConcurrently(ctx, group, input, calls)
			return []time.Duration{time.Since(start)}, err
		}
	}
	all, err := takeTurns(b.rounds, tasks...)
	if err != nil {
		return err
	}
	t.Unit, t.Ratio = "calls/s", "÷ "+groups[0].name
	for i, group := range groups {
		// The ratio of the rates is the inverse of that of the times.
		t.Figures = append(t.Figures, figure{group.name, all[i].rate() * float64(calls), all[0].ratio(all[i])})
	}
	b.report.Tables = append(b.report.Tables, t)
	return nil
}

// callConcurrently makes a number of calls, shared among the callers of a group.
func callConcurrently(ctx context.Context, callers callerGroup, input any, calls int) error {
	group, ctx := errgroup.WithContext(ctx)
	for i := range callers.count {
		share := (calls + i) / callers.count // the shares add up to calls
		group.Go(func() error {
			for range share {
				if _, err := callers.runner.Run(ctx, input); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return group.Wait()
}
