package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/manifest"
)

// curve says what the figures of a table are drawn over.
type curve struct {
	X        string  `json:"x"` // what the numbers in At are
	At       []int   `json:"at"`
	Exponent float64 `json:"exponent"` // of the fitted power of At
}

// addCurve adds a table whose values depend on a number, and says in its title with which power.
// It is to be flat, with the exponent 0, or linear, with 1.
func (b *bench) addCurve(section, title, unit, x string, at []int, values []float64) {
	t := table{Section: section, Unit: unit, Ratio: fmt.Sprintf("÷ %d %s", at[0], x)}
	for i, n := range at {
		t.Figures = append(t.Figures, figure{fmt.Sprintf("%d %s", n, x), values[i], values[i] / values[0]})
	}
	t.Title = title
	if len(at) > 1 {
		t.Curve = &curve{x, at, exponent(at, values)}
		t.Title += fmt.Sprintf(": %s^%.2f", x, t.Curve.Exponent)
	}
	b.report.Tables = append(b.report.Tables, t)
}

// fullScale is the number of calls with which the section scale measures its largest sizes. With
// fewer calls they are smaller.
const fullScale = 200

// sizes returns the sizes to measure with: the first one, and the others as far as the number of
// calls allows.
func (b *bench) sizes(first int, others ...int) []int {
	sizes := []int{first}
	for _, n := range others {
		if n = n * min(b.calls, fullScale) / fullScale; n > sizes[len(sizes)-1] {
			sizes = append(sizes, n)
		}
	}
	return sizes
}

// measureScale measures how the costs grow with the numbers of workers, nodes, callers and items.
func measureScale(ctx context.Context, b *bench) error {
	return errors.Join(
		b.scaleWorkers(ctx), b.scaleGraphs(ctx), b.scaleCallers(ctx), b.scaleItems(ctx), b.scaleIdle(ctx))
}

// perUnit measures tasks in turns, each of which returns the time for one unit of its work, and
// adds the curve of the medians in microseconds.
func (b *bench) perUnit(title, unit, x string, at []int, tasks []task) error {
	all, err := takeTurns(min(b.rounds, 5), tasks...)
	if err != nil {
		return err
	}
	values := make([]float64, len(at))
	for i := range at {
		values[i] = microseconds(all[i].percentile(0.5))
	}
	b.addCurve(scaleName, title, unit, x, at, values)
	return nil
}

// perPart returns a task that measures a function once, and divides its duration by the parts
// that its work has.
func perPart(parts int, work func() error) task {
	return once(func() (time.Duration, error) {
		before := time.Now()
		err := work()
		return time.Since(before) / time.Duration(parts), err
	})
}

// pool starts a runner with one echo node, and waits until so many workers are ready.
func (h *host) pool(ctx context.Context, workers int) (*runner.Runner, error) {
	text := fmt.Sprintf("version: v1\npython: echo.py\nnodes: [{id: echo, node_type: echo, workers: {min: %d, max: %[1]d, spare: 0, fork_server: true}}]\n", workers)
	r, err := h.start(ctx, text)
	if err != nil {
		return nil, err
	}
	// The start waits for the first worker only.
	for len(r.Health().Nodes[0].Pool.Workers) < workers {
		select {
		case <-ctx.Done():
			return nil, errors.Join(context.Cause(ctx), r.Close(context.Background()))
		case <-time.After(time.Millisecond):
		}
	}
	return r, nil
}

// start starts a runner with a manifest.
func (h *host) start(ctx context.Context, text string, options ...runner.Option) (*runner.Runner, error) {
	pipeline, err := manifest.Parse("scale.yaml", []byte(text), h.programs)
	if err != nil {
		return nil, err
	}
	r, err := runner.New(pipeline, append(options, runner.WithPython(h.python.Path))...)
	if err != nil {
		return nil, err
	}
	if err := r.Start(ctx); err != nil {
		return nil, errors.Join(err, r.Close(context.Background()))
	}
	return r, nil
}

// scaleWorkers measures the time of a small call with 1 worker, and with more of them up to the
// number of processors and beyond it, each with two callers.
func (b *bench) scaleWorkers(ctx context.Context) (err error) {
	at := []int{1}
	for n := 2; n <= runtime.NumCPU(); n *= 2 {
		at = append(at, n)
	}
	at = append(at, b.sizes(at[len(at)-1], 50, 200)[1:]...)
	b.logf("measuring pools of %v workers", at)
	var tasks []task
	for _, n := range at {
		r, startErr := b.host.pool(ctx, n)
		if startErr != nil {
			return startErr
		}
		defer func() { err = errors.Join(err, r.Close(context.Background())) }()
		calls := max(20*b.calls, 10*n)
		tasks = append(tasks, perPart(calls, func() error {
			return callConcurrently(ctx, callerGroup{runner: r, count: 2 * n}, small, calls)
		}))
	}
	return b.perUnit("The time between two answers of a pool, two callers for each worker", "µs a call", "workers", at, tasks)
}

// scaleGraphs measures what a node costs in long pipelines, and in wide ones. The nodes are Go
// functions, so that only the runner is measured.
func (b *bench) scaleGraphs(ctx context.Context) (err error) {
	for _, shape := range []struct {
		title    string
		at       []int
		manifest func(nodes int) string
	}{
		{"A pipeline of nodes in Go, one after the other", b.sizes(1, 10, 100, 1000), pipelineOf},
		{"Fan-out from one node to others in Go", b.sizes(1, 10, 100, 500), fanOut},
	} {
		b.logf("measuring pipelines of %v nodes", shape.at)
		var tasks []task
		for _, n := range shape.at {
			r, startErr := b.host.start(ctx, shape.manifest(n), runner.WithNode("same", same))
			if startErr != nil {
				return startErr
			}
			defer func() { err = errors.Join(err, r.Close(context.Background())) }()
			runs := max(200*b.calls/n, 3)
			tasks = append(tasks, perPart(runs*n, func() error {
				return callConcurrently(ctx, callerGroup{runner: r, count: 1}, int64(1), runs)
			}))
		}
		if err := b.perUnit(shape.title, "µs a node", "nodes", shape.at, tasks); err != nil {
			return err
		}
	}
	return nil
}

// same is a node that returns its input.
func same(_ context.Context, in runner.Input) (any, error) { return in.Value, nil }

// pipelineOf returns the manifest of a pipeline of so many nodes.
func pipelineOf(nodes int) string {
	return graphOf(nodes, func(n int) int { return n - 1 })
}

// fanOut returns the manifest of a node whose value goes to so many others.
func fanOut(nodes int) string {
	return graphOf(nodes+1, func(int) int { return 0 })
}

// graphOf returns a manifest in which each node but the first gets the value of another one.
func graphOf(nodes int, from func(n int) int) string {
	text := strings.Builder{}
	fmt.Fprint(&text, "version: v1\nnodes:\n")
	for n := range nodes {
		fmt.Fprintf(&text, "  - {id: n%d, node_type: same}\n", n)
	}
	if nodes > 1 {
		fmt.Fprint(&text, "connections:\n")
	}
	for n := 1; n < nodes; n++ {
		fmt.Fprintf(&text, "  - {from: n%d, to: n%d}\n", from(n), n)
	}
	return text.String()
}

// scaleCallers measures the time of a call through one worker for which others wait in line.
func (b *bench) scaleCallers(ctx context.Context) (err error) {
	at := b.sizes(1, 10, 100, 1000, 10_000)
	b.logf("measuring %v callers in line", at)
	r, err := b.host.pool(ctx, 1)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close(context.Background())) }()
	var tasks []task
	for _, n := range at {
		calls := max(100*b.calls, 2*n)
		tasks = append(tasks, perPart(calls, func() error {
			return callConcurrently(ctx, callerGroup{runner: r, count: n}, small, calls)
		}))
	}
	return b.perUnit("The time between two answers of one worker, callers in line", "µs a call", "callers", at, tasks)
}

// scaleItems measures the time of an item of a stream with the largest window, through a node
// in Go.
func (b *bench) scaleItems(ctx context.Context) (err error) {
	at := b.sizes(1000, 10_000, 100_000, 1_000_000)
	b.logf("measuring streams of %v items", at)
	r, err := b.host.start(ctx, pipelineOf(1), runner.WithNode("same", same))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close(context.Background())) }()
	var tasks []task
	for _, n := range at {
		tasks = append(tasks, perPart(n, func() error { return passItems(ctx, r, n) }))
	}
	return b.perUnit(fmt.Sprintf("A stream with a window of %d items through a node in Go", runner.LargestWindow), "µs an item", "items", at, tasks)
}

// passItems sends items through a stream, and checks that all come out in their order.
func passItems(ctx context.Context, r *runner.Runner, items int) (err error) {
	s, err := r.Stream(ctx, runner.WithWindow(runner.LargestWindow))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	go func() {
		for i := range items {
			if s.Send(int64(i)) != nil { // the stream has ended; Recv returns why
				return
			}
		}
		s.CloseSend()
	}()
	next := 0
	for item, err := range s.All() {
		switch {
		case err != nil:
			return err
		case item.Value != int64(next):
			return fmt.Errorf("item %d is %v", next, item.Value)
		}
		next++
	}
	if next != items {
		return fmt.Errorf("%d of %d items came out", next, items)
	}
	return nil
}

// idleTime is how long workers are idle before they are watched, and how long they are watched.
const idleTime = time.Second

// scaleIdle measures what idle workers cost: memory, CPU time of both sides, and descriptors of
// the program.
func (b *bench) scaleIdle(ctx context.Context) error {
	at := b.sizes(1, 10, 50)
	b.logf("measuring %v idle workers", at)
	var memory, cpu, descriptors []float64
	for _, n := range at {
		cost, err := b.host.idle(ctx, n)
		if err != nil {
			return err
		}
		memory = append(memory, cost.memory)
		cpu = append(cpu, max(cost.cpu, 1)) // 0 has no logarithm
		descriptors = append(descriptors, cost.descriptors)
	}
	b.addCurve(scaleName, "The memory of idle workers, forked", "MiB", "workers", at, memory)
	b.addCurve(scaleName, "The CPU time of idle workers and of the program", "µs a second", "workers", at, cpu)
	b.addCurve(scaleName, "The descriptors of the program for idle workers", "descriptors", "workers", at, descriptors)
	return nil
}

// idleCost is what idle workers cost together.
type idleCost struct{ memory, cpu, descriptors float64 }

func (h *host) idle(ctx context.Context, workers int) (cost idleCost, err error) {
	before, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return cost, err
	}
	r, err := h.pool(ctx, workers)
	if err != nil {
		return cost, err
	}
	defer func() { err = errors.Join(err, r.Close(context.Background())) }()
	if err := callConcurrently(ctx, callerGroup{runner: r, count: workers}, int64(1), 10*workers); err != nil {
		return cost, err
	}
	after, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return cost, err
	}
	cost.descriptors = float64(len(after) - len(before))
	if cost.memory, err = proportional(r); err != nil {
		return cost, err
	}
	var used [2]time.Duration
	for i := range used {
		select {
		case <-ctx.Done():
			return cost, context.Cause(ctx)
		case <-time.After(idleTime):
		}
		if used[i], err = cpuTime(r); err != nil {
			return cost, err
		}
	}
	cost.cpu = microseconds(used[1]-used[0]) / idleTime.Seconds()
	return cost, nil
}

// cpuTime returns the CPU time that the workers of a runner and this process have used.
func cpuTime(r *runner.Runner) (time.Duration, error) {
	processes := []int{os.Getpid()}
	for _, node := range r.Health().Nodes {
		for _, worker := range node.Pool.Workers {
			processes = append(processes, worker.PID)
		}
	}
	var total time.Duration
	for _, pid := range processes {
		tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
		if err != nil {
			return 0, err
		}
		for _, one := range tasks {
			text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/schedstat", pid, one.Name()))
			if errors.Is(err, os.ErrNotExist) {
				continue // the thread has ended
			}
			if err != nil {
				return 0, err
			}
			ran, _, _ := strings.Cut(string(text), " ")
			ns, err := strconv.ParseInt(ran, 10, 64)
			if err != nil {
				return 0, err
			}
			total += time.Duration(ns)
		}
	}
	return total, nil
}
