package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/manifest"
)

// startWorkers is the number of workers of one environment that start together.
const startWorkers = 100

// measureStart measures how long Python needs to reach its first line: that of a bare
// interpreter, and that of a node in a new runner. It also measures a whole command, and the
// start of many workers.
func measureStart(ctx context.Context, b *bench) error {
	command, err := b.host.build(ctx)
	if err != nil {
		return err
	}
	b.logf("measuring the start: %d rounds", b.rounds)
	tasks := []task{
		once(func() (time.Duration, error) { return b.host.bareStart(ctx) }),
		once(func() (time.Duration, error) { return b.host.nodeStart(ctx, "stamp.yaml") }),
		once(func() (time.Duration, error) { return b.host.nodeStart(ctx, "stamp_typed.yaml") }),
		once(func() (time.Duration, error) { return b.host.command(ctx, command, "run", "hello") }),
	}
	all, err := takeTurns(b.rounds, tasks...)
	if err != nil {
		return err
	}
	t := table{Section: startName, Title: "From the start to the first line", Unit: "ms", Ratio: "minus the bare interpreter, ms"}
	for i, name := range []string{"a bare interpreter", "Run, a node", "Run, a node with types", "gophersnake run hello, to its end"} {
		t.Figures = append(t.Figures, figure{name, milliseconds(all[i].percentile(0.5)), milliseconds(all[i].minus(all[0]).percentile(0.5))})
	}
	b.report.Tables = append(b.report.Tables, t)
	return b.measureMany(ctx)
}

// measureMany measures the start of many workers of one environment, each of a node of its own.
func (b *bench) measureMany(ctx context.Context) error {
	t := table{Section: startName, Title: fmt.Sprintf("%d nodes of one environment, one worker each", startWorkers), Unit: "s", Ratio: "÷ spawned"}
	rounds := min(b.rounds, 3)
	tasks := make([]task, 2)
	for i, forkServer := range []bool{false, true} {
		tasks[i] = once(func() (time.Duration, error) {
			r, took, err := b.host.startChain(ctx, startWorkers, forkServer)
			if err != nil {
				return 0, err
			}
			return took, r.Close(context.Background())
		})
	}
	all, err := takeTurns(rounds, tasks...)
	if err != nil {
		return err
	}
	for i, name := range []string{"spawned", "forked"} {
		t.Figures = append(t.Figures, figure{name, all[i].percentile(0.5).Seconds(), all[i].ratio(all[0])})
	}
	b.report.Tables = append(b.report.Tables, t)
	return nil
}

// once makes a task of a function that measures one duration.
func once(measure func() (time.Duration, error)) task {
	return func() ([]time.Duration, error) {
		took, err := measure()
		return []time.Duration{took}, err
	}
}

// monotonic returns the reading of the clock that Python's time.monotonic_ns reads on Linux.
func monotonic() (time.Duration, error) {
	var now unix.Timespec
	err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now)
	return time.Duration(now.Nano()), err
}

// bareStart returns how long an interpreter without gophersnake takes to its first line.
func (h *host) bareStart(ctx context.Context) (time.Duration, error) {
	env, err := h.environment(ctx, "numpy")
	if err != nil {
		return 0, err
	}
	before, err := monotonic()
	if err != nil {
		return 0, err
	}
	out, err := exec.CommandContext(ctx, env.Python, "-c", "import time; print(time.monotonic_ns())").Output()
	if err != nil {
		return 0, err
	}
	at, err := strconv.ParseInt(strings.TrimSpace(string(out)), 10, 64)
	return time.Duration(at) - before, err
}

// nodeStart returns how long a new runner takes from Run to the first line of its node.
func (h *host) nodeStart(ctx context.Context, name string) (_ time.Duration, err error) {
	pipeline, err := runner.Load(filepath.Join(h.programs, name))
	if err != nil {
		return 0, err
	}
	r, err := runner.New(pipeline, runner.WithPython(h.python.Path))
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, r.Close(context.Background())) }()
	before, err := monotonic()
	if err != nil {
		return 0, err
	}
	at, err := r.Run(ctx, int64(0))
	if err != nil {
		return 0, err
	}
	stamp, ok := at.(int64)
	if !ok {
		return 0, fmt.Errorf("the node returned %v, not a time", at)
	}
	return time.Duration(stamp) - before, nil
}

// build compiles the command, and returns its path.
func (h *host) build(ctx context.Context) (string, error) {
	path := filepath.Join(h.programs, "gophersnake")
	out, err := exec.CommandContext(ctx, "go", "build", "-o", path, "github.com/gophersnake/gophersnake/cmd/gophersnake").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build the command: %w\n%s", err, out)
	}
	return path, nil
}

// command returns how long a command takes to its end.
func (h *host) command(ctx context.Context, path string, args ...string) (time.Duration, error) {
	command := exec.CommandContext(ctx, path, args...)
	command.Env = append(os.Environ(), "GOPHERSNAKE_PYTHON="+h.python.Path)
	before := time.Now()
	out, err := command.CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("%s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return time.Since(before), nil
}

// startChain starts a runner with a chain of echo nodes, one worker each and no spare, and
// returns how long that took.
func (h *host) startChain(ctx context.Context, length int, forkServer bool) (*runner.Runner, time.Duration, error) {
	return h.startNodes(ctx, length, forkServer, "")
}

// startNodes is startChain for nodes whose connections have further fields, such as ", fuse: true".
func (h *host) startNodes(ctx context.Context, length int, forkServer bool, connection string) (*runner.Runner, time.Duration, error) {
	text := strings.Builder{}
	fmt.Fprint(&text, "version: v1\npython: echo.py\nnodes:\n")
	for i := range length {
		fmt.Fprintf(&text, "  - {id: n%d, node_type: echo, workers: {min: 1, max: 1, spare: 0, fork_server: %t}}\n", i, forkServer)
	}
	if length > 1 {
		fmt.Fprint(&text, "connections:\n")
	}
	for i := 1; i < length; i++ {
		fmt.Fprintf(&text, "  - {from: n%d, to: n%d%s}\n", i-1, i, connection)
	}
	pipeline, err := manifest.Parse("chain.yaml", []byte(text.String()), h.programs)
	if err != nil {
		return nil, 0, err
	}
	r, err := runner.New(pipeline, runner.WithPython(h.python.Path))
	if err != nil {
		return nil, 0, err
	}
	before := time.Now()
	if err := r.Start(ctx); err != nil {
		return nil, 0, errors.Join(err, r.Close(context.Background()))
	}
	return r, time.Since(before), nil
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
