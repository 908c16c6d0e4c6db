package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"time"
)

// section is a part of the report. Its measure function adds rows or a table to the report.
type section struct {
	name    string
	measure func(ctx context.Context, b *bench) error
}

// sections are all sections, in the order of the report.
var sections = []section{
	{callsName, measureCalls},
	{roundtripName, measureRoundtrip},
	{handoverName, measureHandover},
	{tablesName, measureTables},
	{throughputName, measureThroughput},
	{batchName, measureBatch},
	{threadsName, measureThreads},
	{onnxName, measureOnnx},
	{startName, measureStart},
	{growthName, measurePlainAndFused},
	{scaleName, measureScale},
	{countsName, measureCounts},
	{remoteMediaName, measureRemoteMedia},
	{serveName, measureServe},
	{clusterName, measureCluster},
}

// The names of the sections.
const (
	callsName      = "calls"
	roundtripName  = "roundtrip"
	handoverName   = "handover"
	tablesName     = "tables"
	throughputName = "throughput"
	batchName      = "batch"
	threadsName    = "threads"
	onnxName       = "onnx"
	startName      = "start"
	growthName     = "growth"
	scaleName      = "scale"
	countsName     = "counts"

	remoteMediaName = "remotemedia"
)

// bench is one run of the benchmark.
type bench struct {
	settings
	host     *host
	report   *report
	messages io.Writer
}

// logf prints a line about the progress.
func (b *bench) logf(format string, args ...any) {
	_, _ = fmt.Fprintf(b.messages, format+"\n", args...)
}

// skip records for the report that something cannot be measured on this machine.
func (b *bench) skip(section, what string, reason error) {
	b.logf("skipping %s: %v", what, reason)
	b.report.Skipped = append(b.report.Skipped, skipped{Section: section, What: what, Reason: reason.Error()})
}

// task makes the calls of one round and returns their durations.
type task func() ([]time.Duration, error)

// takeTurns runs the tasks in turns: A B C, A B C, and so on. It forces no garbage
// collection in between, since that would return memory to the kernel, which the next
// calls would have to get back.
func takeTurns(rounds int, tasks ...task) ([]series, error) {
	all := make([]series, len(tasks))
	for range rounds {
		for i, one := range tasks {
			took, err := one()
			if err != nil {
				return nil, err
			}
			all[i] = append(all[i], took)
		}
	}
	return all, nil
}

// measure runs the chosen sections. One that fails does not keep the others from being
// measured and reported.
func (b *bench) measure(ctx context.Context) error {
	var failed error
	for _, s := range b.sections {
		if err := s.measure(ctx, b); err != nil {
			failed = errors.Join(failed, fmt.Errorf("section %s: %w", s.name, err))
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return failed
}

// series holds the durations of calls, by round.
type series [][]time.Duration

// percentile returns the duration that a fraction q of all calls does not exceed, by
// nearest rank.
func (s series) percentile(q float64) time.Duration {
	return percentile(slices.Concat(s...), q)
}

// rate returns the number of calls per second, one after the other.
func (s series) rate() float64 {
	var total time.Duration
	calls := 0
	for _, round := range s {
		calls += len(round)
		for _, took := range round {
			total += took
		}
	}
	return float64(calls) / total.Seconds()
}

// ratio returns how many times as long as other this takes. It is the median of the ratios
// of the rounds' medians, so that a load that slows down a whole round cancels out.
func (s series) ratio(other series) float64 {
	ratios := make([]float64, len(s))
	for i := range s {
		ratios[i] = float64(percentile(s[i], 0.5)) / float64(percentile(other[i], 0.5))
	}
	return percentile(ratios, 0.5)
}

func percentile[T int64 | float64 | time.Duration](values []T, q float64) T {
	sorted := slices.Sorted(slices.Values(values))
	rank := int(math.Ceil(q * float64(len(sorted))))
	return sorted[max(rank, 1)-1]
}

func microseconds(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// minus returns the difference of the medians for each round.
func (s series) minus(other series) series {
	difference := make(series, len(s))
	for i := range s {
		difference[i] = []time.Duration{percentile(s[i], 0.5) - percentile(other[i], 0.5)}
	}
	return difference
}
