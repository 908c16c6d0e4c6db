package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"
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

// measureGrowth measures what a node costs in chains of echo nodes with one worker each:
// called by one caller, and by several.
func measureGrowth(ctx context.Context, b *bench) (err error) {
	b.logf("measuring chains of %v nodes: %d rounds", chainLengths, b.rounds)
	tasks := make([]task, 0, 2*len(chainLengths))
	for _, length := range chainLengths {
		r, _, startErr := b.host.startChain(ctx, length, false)
		if startErr != nil {
			return startErr
		}
		defer func() { err = errors.Join(err, r.Close(context.Background())) }()
		for _, callers := range []int{1, growthCallers} {
			calls := max(min(growthCalls, 10*b.calls)/length, callers)
			tasks = append(tasks, once(func() (time.Duration, error) {
				group := callerGroup{runner: r, count: callers}
				if err := callConcurrently(ctx, group, int64(1), max(calls/10, growthWarm)); err != nil { // warm
					return 0, err
				}
				before := time.Now()
				err := callConcurrently(ctx, group, int64(1), calls)
				return time.Since(before) / time.Duration(calls*length), err
			}))
		}
	}
	all, err := takeTurns(b.rounds, tasks...)
	if err != nil {
		return err
	}
	for i, callers := range []int{1, growthCallers} {
		t := table{Section: growthName, Unit: "µs a node", Ratio: "÷ 1 node"}
		costs := make([]float64, len(chainLengths))
		for k, length := range chainLengths {
			took := all[2*k+i]
			costs[k] = microseconds(took.percentile(0.5))
			t.Figures = append(t.Figures, figure{nodes(length), costs[k], took.ratio(all[i])})
		}
		t.Title = fmt.Sprintf("A chain of echo nodes, callers: %d; the cost of a node grows with length^%.2f", callers, exponent(chainLengths, costs))
		b.report.Tables = append(b.report.Tables, t)
	}
	return nil
}

// nodes names a chain by its length.
func nodes(length int) string {
	if length == 1 {
		return "1 node"
	}
	return strconv.Itoa(length) + " nodes"
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
