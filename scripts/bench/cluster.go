package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/gophersnake/gophersnake/scripts/bench/distributed"
)

// clusterName is the name of the section that measures calls and jobs over NATS.
const clusterName = "cluster"

// measureCluster measures calls and jobs over NATS, part by part.
func measureCluster(ctx context.Context, b *bench) error {
	for _, part := range b.parts {
		b.logf("setting up the part %s of the cluster", part.Name)
		tables, closing, err := part.SetUp(ctx, clusterHost{b}, b.calls)
		if err == nil {
			b.logf("measuring it: %d rounds", b.rounds)
			for i := range tables {
				err = errors.Join(err, b.compare(&tables[i]))
			}
			err = errors.Join(err, closing())
		}
		if err != nil {
			return fmt.Errorf("%s: %w", part.Name, err)
		}
	}
	return nil
}

// compare runs the tasks of a table in turns, and adds the table to the report.
func (b *bench) compare(from *distributed.Table) error {
	tasks := make([]task, len(from.Tasks))
	for i := range from.Tasks {
		tasks[i] = once(func() (time.Duration, error) {
			took, err := from.Tasks[i].Run()
			return time.Duration(float64(took) / from.Tasks[i].Units), err
		})
	}
	all, err := takeTurns(b.rounds, tasks...)
	if err != nil {
		return err
	}
	t := table{Section: clusterName, Title: from.Title, Unit: "a second", Ratio: "÷ " + from.Tasks[0].Name}
	if !from.Rate {
		t.Unit = "ms"
	}
	for i, one := range from.Tasks {
		value, ratio := 1/all[i].percentile(0.5).Seconds(), all[0].ratio(all[i])
		if !from.Rate {
			value, ratio = 1e3*all[i].percentile(0.5).Seconds(), all[i].ratio(all[0])
		}
		t.Figures = append(t.Figures, figure{one.Name, value, ratio})
	}
	b.report.Tables = append(b.report.Tables, t)
	return nil
}

// clusterHost starts the processes of the section.
type clusterHost struct{ *bench }

// clusterProcess is a program, as package distributed uses it.
type clusterProcess struct{ *program }

// Request implements [distributed.Process].
func (p clusterProcess) Request(request, answer any) error { return p.request(request, answer) }

// Close implements [distributed.Process].
func (p clusterProcess) Close() error { return p.close() }

// Self implements [distributed.Host].
func (h clusterHost) Self(ctx context.Context, args ...string) (distributed.Process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p, err := startProgramIn(ctx, h.host, args[len(args)-1], self, nil, args...)
	return clusterProcess{p}, err
}

// Python implements [distributed.Host].
func (h clusterHost) Python(ctx context.Context, name, requirements string, args ...string) (distributed.Process, error) {
	p, err := startProgram(ctx, h.host, name, requirements, args...)
	return clusterProcess{p}, err
}

// Interpreter implements [distributed.Host].
func (h clusterHost) Interpreter() string { return h.host.python.Path }

// Programs implements [distributed.Host].
func (h clusterHost) Programs() string { return h.host.programs }

// Folder implements [distributed.Host].
func (h clusterHost) Folder() (string, error) { return os.MkdirTemp(h.host.programs, "nats-") }

// Queues implements [distributed.Host].
func (h clusterHost) Queues() []distributed.Queue { return h.queues }

// Skip implements [distributed.Host].
func (h clusterHost) Skip(what string, reason error) { h.skip(clusterName, what, reason) }
