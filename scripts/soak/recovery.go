package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/gophersnake/gophersnake/retry"
	"github.com/gophersnake/gophersnake/runner"
)

// maxRecovery is how long the next success may take after 99 of 100 kills, if there is a
// spare.
const maxRecovery = 20 * time.Millisecond

// standbys are the ways to replace a worker quickly, as the manifest configures them.
var standbys = []struct{ name, workers string }{
	{"none", "{min: 1, max: 1, spare: 0}"},
	{"spare", "{min: 1, max: 1, spare: 1}"},
	{"fork server", "{min: 1, max: 1, spare: 0, fork_server: true}"},
	{"both", "{min: 1, max: 1, spare: 1, fork_server: true}"},
}

// recovery holds the settings of one row: a worker is killed repeatedly.
type recovery struct {
	setup            time.Duration
	standby, workers string
	spare            bool
	deaths           int
}

// recoveryFigures are the times from a kill to the next success.
type recoveryFigures struct {
	Setup   string  `json:"setup"`
	Standby string  `json:"standby"`
	Killed  string  `json:"killed"`
	Deaths  int     `json:"deaths"`
	P50     float64 `json:"p50_ms"`
	P99     float64 `json:"p99_ms"`
	Max     float64 `json:"max_ms"`
	OK      bool    `json:"ok"`
}

// shorten reduces the number of kills if setup() is long, since each kill has to wait for
// the replacement's setup. Without a spare it reduces more, because each recovery takes as
// long as the setup anyway.
func (how *recovery) shorten() {
	length := 30 * time.Second
	if how.spare {
		length = 2 * time.Minute
	}
	if how.setup > 0 {
		how.deaths = max(1, min(how.deaths, int(length/how.setup)))
	}
}

// soakRecovery kills workers with and without standbys, and measures how long the callers
// wait.
func soakRecovery(ctx context.Context, setups string, deaths int, out io.Writer) error {
	var rows []recoveryFigures
	for text := range strings.SplitSeq(setups, ",") {
		setup, err := time.ParseDuration(text)
		if err != nil {
			return err
		}
		for _, s := range standbys {
			row := recovery{setup: setup, standby: s.name, workers: s.workers, spare: strings.Contains(s.workers, "spare: 1"), deaths: deaths}
			row.shorten()
			found, err := row.measure(ctx)
			if err != nil {
				return fmt.Errorf("setup() of %v, standby %s: %w", setup, s.name, err)
			}
			rows = append(rows, found...)
		}
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "setup()\tstandby\tkilled\tdeaths\tp50 ms\tp99 ms\tmax ms")
	var failures []error
	for _, r := range rows {
		fmt.Fprintf(table, "%s\t%s\t%s\t%d\t%.2f\t%.2f\t%.2f\n", r.Setup, r.Standby, r.Killed, r.Deaths, r.P50, r.P99, r.Max)
		if !r.OK {
			failures = append(failures, fmt.Errorf("setup() of %s, standby %s, killed %s: p99 is %.2f ms, %w of %v",
				r.Setup, r.Standby, r.Killed, r.P99, errBound, maxRecovery))
		}
	}
	if err := errors.Join(table.Flush(), json.NewEncoder(out).Encode(rows)); err != nil {
		return err
	}
	return errors.Join(failures...)
}

// measure kills the serving worker, alternately while it is idle and in the middle of a call.
func (how recovery) measure(ctx context.Context) ([]recoveryFigures, error) {
	manifest := fmt.Sprintf("version: v1\npython: tiny.py\nnodes: [{id: tiny, node_type: Tiny, params: {setup_seconds: %g}, workers: %s}]\n",
		how.setup.Seconds(), how.workers)
	up := make(chan struct{}, 1<<10) // more than workers are started
	r, end, err := startText(ctx, manifest, runner.WithPolicy(retry.Fixed(3, 0)), runner.WithEvents(func(e runner.Event) {
		if _, ok := e.(runner.WorkerStarted); ok {
			up <- struct{}{}
		}
	}))
	if err != nil {
		return nil, err
	}
	idle, busy, err := how.kill(ctx, r, up)
	if err = errors.Join(err, end()); err != nil {
		return nil, err
	}
	return []recoveryFigures{how.figures("idle", idle), how.figures("in a call", busy)}, nil
}

func (how recovery) figures(killed string, times []time.Duration) recoveryFigures {
	ms := func(q float64) float64 { return float64(percentile(times, q)) / float64(time.Millisecond) }
	p99 := percentile(times, 0.99)
	return recoveryFigures{
		Setup: how.setup.String(), Standby: how.standby, Killed: killed, Deaths: len(times),
		P50: ms(0.5), P99: ms(0.99), Max: ms(1), OK: !how.spare || p99 < maxRecovery,
	}
}

// kill makes the kills and returns the recovery times.
func (how recovery) kill(ctx context.Context, r *runner.Runner, up <-chan struct{}) (idle, busy []time.Duration, err error) {
	processes := 1
	if how.spare {
		processes = 2
	}
	// Each kill waits until all workers are started again.
	for i := range processes {
		if err := awaitUp(ctx, up); err != nil {
			return nil, nil, fmt.Errorf("worker %d of %d: %w", i+1, processes, err)
		}
	}
	folder, err := os.MkdirTemp("", "soak-gate-")
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = os.RemoveAll(folder) }()
	for n := range 2 * how.deaths {
		var took time.Duration
		if n%2 == 0 {
			took, err = killIdle(ctx, r)
			idle = append(idle, took)
		} else {
			took, err = killBusy(ctx, r, filepath.Join(folder, fmt.Sprint(n)))
			busy = append(busy, took)
		}
		if err == nil {
			err = awaitUp(ctx, up)
		}
		if err != nil {
			return nil, nil, fmt.Errorf("death %d: %w", n+1, err)
		}
	}
	return idle, busy, nil
}

// awaitUp waits until a worker is started.
func awaitUp(ctx context.Context, up <-chan struct{}) error {
	ctx, stop := context.WithTimeoutCause(ctx, time.Minute, errors.New("no worker was started within a minute"))
	defer stop()
	select {
	case <-up:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// killIdle kills the serving worker while it is idle, and then makes a call.
func killIdle(ctx context.Context, r *runner.Runner) (time.Duration, error) {
	serving, err := r.Run(ctx, "")
	if err != nil {
		return 0, err
	}
	pid := int(serving.(int64))
	killedAt := time.Now()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		return 0, err
	}
	next, err := r.Run(ctx, "")
	return answered(killedAt, pid, next, err)
}

// killBusy kills a worker in the middle of a call, which the runner then retries.
func killBusy(ctx context.Context, r *runner.Runner, gate string) (time.Duration, error) {
	if err := syscall.Mkfifo(gate, 0o600); err != nil {
		return 0, err
	}
	// Opened for both directions, so that neither end blocks until the other one is open.
	pipe, err := os.OpenFile(gate, os.O_RDWR|syscall.O_NONBLOCK, 0)
	if err != nil {
		return 0, err
	}
	defer func() { _ = pipe.Close() }()
	type answer struct {
		value any
		err   error
	}
	answers := make(chan answer, 1)
	go func() {
		value, err := r.Run(ctx, gate)
		_ = pipe.Close() // unblocks the read below if no attempt wrote to it
		answers <- answer{value, err}
	}()
	pid := 0
	line, err := bufio.NewReader(pipe).ReadString('\n')
	if err == nil {
		_, err = fmt.Sscan(line, &pid)
	}
	if err != nil {
		return 0, errors.Join(fmt.Errorf("no call began: %w", err), (<-answers).err)
	}
	if err := os.Remove(gate); err != nil { // the next attempt does not block
		return 0, err
	}
	killedAt := time.Now()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		return 0, err
	}
	next := <-answers
	return answered(killedAt, pid, next.value, next.err)
}

// answered returns the time since the kill. It fails if the killed process gave the answer.
func answered(killedAt time.Time, killed int, answer any, err error) (time.Duration, error) {
	took := time.Since(killedAt)
	if err == nil && answer == int64(killed) {
		err = fmt.Errorf("process %d answered after it was killed", killed)
	}
	return took, err
}
