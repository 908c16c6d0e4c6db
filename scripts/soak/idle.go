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

// maxIdle is the fraction of a core that the supervisor of idle workers may use.
const maxIdle = 0.01

// idle holds the settings of the measurement of idle workers.
type idle struct {
	workers int
	settle  time.Duration // before the measurement
	length  time.Duration // of the measurement
}

// idleFigures are the cost of idle workers. CPU time is a fraction of one core, memory is in
// bytes.
type idleFigures struct {
	Forked     bool    `json:"fork_server"`
	Workers    int     `json:"workers"`
	Seconds    float64 `json:"seconds"`
	Supervisor float64 `json:"supervisor_core"`
	Others     float64 `json:"workers_core"` // all workers together
	Resident   int64   `json:"supervisor_rss"`
	Private    int64   `json:"workers_private"` // of all workers together, without shared memory
	Goroutines int     `json:"goroutines"`
	Threads    int     `json:"threads"`
	OK         bool    `json:"ok"`
}

func (f idleFigures) String() string {
	kind := "started"
	if f.Forked {
		kind = "forked"
	}
	return fmt.Sprintf("%d idle workers, %s, for %.0f s: the supervisor used %.3f %% of a core, %.1f MiB resident, %d goroutines, %d threads; "+
		"the workers together used %.3f %%, and %.1f MiB of private memory",
		f.Workers, kind, f.Seconds, 100*f.Supervisor, mib(f.Resident), f.Goroutines, f.Threads, 100*f.Others, mib(f.Private))
}

// check returns an error if the supervisor used too much CPU time.
func (f idleFigures) check() error {
	if !f.OK {
		return fmt.Errorf("the supervisor used %.3f %% of a core, %w of %.0f %%", 100*f.Supervisor, errBound, 100*maxIdle)
	}
	return nil
}

// watchedLimits make the supervisor check workers periodically, even idle ones.
const watchedLimits = "{resident: 8GiB, resident_soft: 4GiB, open_files: 1024, cpu_time: 1h}"

// soakIdle measures what idle workers cost, once with an interpreter started for each of
// them and once with a fork server.
func soakIdle(ctx context.Context, how idle, out io.Writer) error {
	var rows []idleFigures
	var failures []error
	for _, forked := range []bool{false, true} {
		figures, err := how.run(ctx, forked)
		if err != nil {
			return err
		}
		fmt.Fprintln(out, figures)
		rows = append(rows, figures)
		failures = append(failures, figures.check())
	}
	if err := json.NewEncoder(out).Encode(rows); err != nil {
		return err
	}
	return errors.Join(failures...)
}

func (how idle) run(ctx context.Context, forked bool) (idleFigures, error) {
	up := make(chan struct{}, 2*how.workers)
	manifest := fmt.Sprintf("version: v1\npython: tiny.py\nnodes:\n"+
		"  - {id: tiny, node_type: Tiny, limits: %s, workers: {min: %d, max: %d, max_age: 24h, max_calls: 1000000, fork_server: %t}}\n",
		watchedLimits, how.workers, how.workers, forked)
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

// measure waits until all workers are started and have settled, and then measures.
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
	// Reading the times of the workers costs CPU time too, so it is outside of the interval.
	before, own, started := descendantsCPUTime(), cpuTime(), time.Now()
	if err := pause(ctx, how.length); err != nil {
		return f, err
	}
	own, took := cpuTime()-own, time.Since(started)
	after := descendantsCPUTime()
	threads, _ := filepath.Glob("/proc/self/task/*")
	f = idleFigures{
		Workers:    len(after),
		Seconds:    took.Seconds(),
		Supervisor: float64(own) / float64(took),
		Resident:   procField("/proc/self/statm", 1) * int64(os.Getpagesize()),
		Goroutines: runtime.NumGoroutine(),
		Threads:    len(threads),
	}
	for pid, used := range after {
		if was, ok := before[pid]; ok {
			f.Others += float64(used-was) / float64(took)
		}
		f.Private += privateMemory(pid)
	}
	if f.Workers < how.workers {
		return f, fmt.Errorf("of %d workers only %d are running", how.workers, f.Workers)
	}
	f.OK = f.Supervisor < maxIdle
	return f, nil
}

// pause sleeps, and returns an error if the context ends.
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

// percentile returns the time that a fraction q of the times does not exceed.
func percentile(times []time.Duration, q float64) time.Duration {
	sorted := slices.Sorted(slices.Values(times))
	return sorted[max(int(math.Ceil(q*float64(len(sorted))))-1, 0)]
}
