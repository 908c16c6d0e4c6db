package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"github.com/gophersnake/gophersnake/runner"
)

// mostIdle is how much of a core the supervisor of idle workers may take.
const mostIdle = 0.01

// idle is how the cost of workers that do nothing is looked at.
type idle struct {
	workers        int
	settle, length time.Duration
}

// idleFigures is what they cost. Processor time is in parts of one core, memory in
// bytes.
type idleFigures struct {
	Forked     bool    `json:"fork_server"`
	Workers    int     `json:"workers"`
	Seconds    float64 `json:"seconds"`
	Supervisor float64 `json:"supervisor_core"`
	Others     float64 `json:"workers_core"` // all workers together
	Resident   int64   `json:"supervisor_rss"`
	Private    int64   `json:"workers_private"` // all of them together, without what they share
	Goroutines int     `json:"goroutines"`
	Threads    int     `json:"threads"`
	OK         bool    `json:"ok"`
}

func (f idleFigures) String() string {
	kind := "started"
	if f.Forked {
		kind = "forked"
	}
	return fmt.Sprintf("%d idle workers, %s, for %.0f s: the supervisor took %.3f %% of a core, %.1f MiB resident, %d goroutines, %d threads; "+
		"the workers took %.3f %% together, and %.1f MiB of memory of their own",
		f.Workers, kind, f.Seconds, 100*f.Supervisor, mib(f.Resident), f.Goroutines, f.Threads, 100*f.Others, mib(f.Private))
}

// check refuses a supervisor that is busy although there is nothing to do.
func (f idleFigures) check() error {
	if !f.OK {
		return fmt.Errorf("the supervisor took %.3f %% of a core, %w of %.0f %%", 100*f.Supervisor, errBeyond, 100*mostIdle)
	}
	return nil
}

// watched are limits that have the supervisor look at workers that do nothing, too.
const watched = "{resident: 8GiB, resident_soft: 4GiB, open_files: 1024, cpu_time: 1h}"

// soakIdle starts workers, lets them be, and tells what that costs: once with an
// interpreter started for each, and once with a fork server.
func soakIdle(ctx context.Context, how idle, out io.Writer) error {
	var rows []idleFigures
	var faults []error
	for _, forked := range []bool{false, true} {
		figures, err := how.run(ctx, forked)
		if err != nil {
			return err
		}
		fmt.Fprintln(out, figures)
		rows = append(rows, figures)
		faults = append(faults, figures.check())
	}
	if err := json.NewEncoder(out).Encode(rows); err != nil {
		return err
	}
	return errors.Join(faults...)
}

func (how idle) run(ctx context.Context, forked bool) (idleFigures, error) {
	up := make(chan struct{}, 2*how.workers)
	manifest := fmt.Sprintf("version: v1\npython: tiny.py\nnodes:\n"+
		"  - {id: tiny, node_type: Tiny, limits: %s, workers: {min: %d, max: %d, max_age: 24h, max_calls: 1000000, fork_server: %t}}\n",
		watched, how.workers, how.workers, forked)
	_, end, err := startText(ctx, manifest, runner.WithEvents(func(e runner.Event) {
		if _, ok := e.(runner.WorkerStarted); ok {
			up <- struct{}{}
		}
	}))
	if err != nil {
		return idleFigures{}, err
	}
	figures, err := how.measure(ctx, up)
	figures.Forked = forked
	return figures, errors.Join(err, end())
}

// measure looks at the workers that come up, once all of them have and have settled.
func (how idle) measure(ctx context.Context, up <-chan struct{}) (f idleFigures, err error) {
	for range how.workers {
		select {
		case <-up:
		case <-ctx.Done():
			return f, context.Cause(ctx)
		}
	}
	if err := pause(ctx, how.settle); err != nil {
		return f, err
	}
	// Looking takes time too, so this process is looked at inside of that.
	before, own, begun := spentBelow(), spent(), time.Now()
	if err := pause(ctx, how.length); err != nil {
		return f, err
	}
	own, took := spent()-own, time.Since(begun)
	after := spentBelow()
	threads, _ := filepath.Glob("/proc/self/task/*")
	f = idleFigures{
		Workers:    len(after),
		Seconds:    took.Seconds(),
		Supervisor: float64(own) / float64(took),
		Resident:   fieldOf("/proc/self/statm", 1) * int64(os.Getpagesize()),
		Goroutines: runtime.NumGoroutine(),
		Threads:    len(threads),
	}
	for pid, used := range after {
		if was, there := before[pid]; there {
			f.Others += float64(used-was) / float64(took)
		}
		f.Private += privateOf(pid)
	}
	if f.Workers < how.workers {
		return f, fmt.Errorf("of %d workers %d are left", how.workers, f.Workers)
	}
	f.OK = f.Supervisor < mostIdle
	return f, nil
}

// pause waits for the time to pass: that is what is measured here.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// percentile returns the time that this part of the times does not exceed.
func percentile(times []time.Duration, part float64) time.Duration {
	sorted := slices.Sorted(slices.Values(times))
	return sorted[max(int(math.Ceil(part*float64(len(sorted))))-1, 0)]
}
