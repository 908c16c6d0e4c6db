package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/gophersnake/gophersnake/runner"
)

// chainLengths are the lengths of the chains of the section growth.
var chainLengths = []int{1, 5, 25, 100}

const (
	// growthCalls is the number of calls of nodes in a round, at most.
	growthCalls = 2000
	// growthWarm is the least number of calls before the measured ones in a round. A caller polls
	// for the answers of a connection only after 64 calls alone.
	growthWarm = 80
	// growthCallers is how many callers call a chain at once.
	growthCallers = 16
)

// chainGroup is how the chains of a table are started and called.
type chainGroup struct {
	about      string
	callers    int
	forkServer bool
}

// measureGrowth measures what a node costs in chains of echo nodes with one worker each: called
// by one caller, and by several; and if the workers share memory, since one template forks them.
func measureGrowth(ctx context.Context, b *bench) (err error) {
	b.logf("measuring chains of %v nodes: %d rounds", chainLengths, b.rounds)
	groups := []chainGroup{{"1 caller", 1, false}, {fmt.Sprintf("%d callers", growthCallers), growthCallers, false}, {"1 caller, forked workers", 1, true}}
	runners := map[bool][]*runner.Runner{}
	for _, forkServer := range []bool{false, true} {
		for _, length := range chainLengths {
			r, _, startErr := b.host.startChain(ctx, length, forkServer)
			if startErr != nil {
				return startErr
			}
			defer func() { err = errors.Join(err, r.Close(context.Background())) }()
			runners[forkServer] = append(runners[forkServer], r)
		}
	}
	var tasks []task
	for _, g := range groups {
		for i, length := range chainLengths {
			tasks = append(tasks, b.chain(ctx, callerGroup{runner: runners[g.forkServer][i], count: g.callers}, length))
		}
	}
	all, err := takeTurns(b.rounds, tasks...)
	if err != nil {
		return err
	}
	for i, g := range groups {
		costs := make([]float64, len(chainLengths))
		for k := range chainLengths {
			costs[k] = microseconds(all[i*len(chainLengths)+k].percentile(0.5))
		}
		b.addCurve(growthName, "A chain of echo nodes, "+g.about, "µs a node", "nodes", chainLengths, costs)
	}
	return nil
}

// chain returns a task that measures what a node of a chain costs.
func (b *bench) chain(ctx context.Context, group callerGroup, length int) task {
	calls := max(min(growthCalls, 10*b.calls)/length, group.count)
	return once(func() (time.Duration, error) {
		if err := callConcurrently(ctx, group, int64(1), max(calls/10, growthWarm)); err != nil { // warm
			return 0, err
		}
		before := time.Now()
		err := callConcurrently(ctx, group, int64(1), calls)
		return time.Since(before) / time.Duration(calls*length), err
	})
}

// exponent returns the exponent e of the curve cost = a * length^e that fits best: the slope
// of the line through the logarithms, by least squares.
func exponent(lengths []int, costs []float64) float64 {
	var sumX, sumY, sumXX, sumXY float64
	for i, length := range lengths {
		x, y := math.Log(float64(length)), math.Log(costs[i])
		sumX, sumY, sumXX, sumXY = sumX+x, sumY+y, sumXX+x*x, sumXY+x*y
	}
	n := float64(len(lengths))
	return (n*sumXY - sumX*sumY) / (n*sumXX - sumX*sumX)
}

// fusedName is the row of a chain whose nodes one worker runs.
const fusedName = "25 nodes, fused"

// measurePlainAndFused measures chains of plain nodes, and compares them with fused ones.
func measurePlainAndFused(ctx context.Context, b *bench) error {
	return errors.Join(measureGrowth(ctx, b), measureFused(ctx, b))
}

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
	t := table{Section: growthName, Title: fmt.Sprintf("A call of a chain of echo nodes, plain and fused, in %d rounds", b.rounds), Unit: "µs a call", Ratio: "÷ 1 node"}
	for i, c := range chains {
		t.Figures = append(t.Figures, figure{c.name, microseconds(all[i].percentile(0.5)), all[i].ratio(all[0])})
	}
	b.report.Tables = append(b.report.Tables, t)
	return nil
}
