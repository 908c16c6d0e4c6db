package main

import (
	"context"
	"fmt"
	"io"
	"time"
)

// section is a part of the report. Its measure adds rows or a table to it.
type section struct {
	name    string
	measure func(ctx context.Context, b *bench) error
}

// sections are all of them, in the order of the report.
var sections = []section{
	{callsName, measureCalls},
	{roundtripName, measureRoundtrip},
	{handoverName, measureHandover},
	{throughputName, measureThroughput},
	{batchName, measureBatch},
	{countsName, measureCounts},
}

// The names of the sections.
const (
	callsName      = "calls"
	roundtripName  = "roundtrip"
	handoverName   = "handover"
	throughputName = "throughput"
	batchName      = "batch"
	countsName     = "counts"
)

// bench is one run of the benchmark.
type bench struct {
	settings
	host     *host
	report   *report
	messages io.Writer
}

func (b *bench) say(format string, args ...any) {
	_, _ = fmt.Fprintf(b.messages, format+"\n", args...)
}

// skip notes that something cannot be measured here, and why, for the report.
func (b *bench) skip(section, what string, reason error) {
	b.say("skipping %s: %v", what, reason)
	b.report.Skipped = append(b.report.Skipped, skipped{Section: section, What: what, Reason: reason.Error()})
}

// task makes the calls of one round.
type task func() ([]time.Duration, error)

// turns lets tasks take turns: A B C, A B C, and so on. The collector runs as it
// would in a service: to make it run in between has the heap begin anew, and its
// memory come from the kernel again.
func turns(rounds int, tasks ...task) ([]series, error) {
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

// measure runs the sections that were asked for.
func (b *bench) measure(ctx context.Context) error {
	for _, s := range b.sections {
		if err := s.measure(ctx, b); err != nil {
			if ctx.Err() != nil {
				return err
			}
			return fmt.Errorf("section %s: %w", s.name, err)
		}
	}
	return nil
}
