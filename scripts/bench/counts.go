package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"
)

// countedCalls is how many small calls are counted, and then twice as many.
const countedCalls = 2000

// measureCounts counts the instructions of one small call to a warm worker, on
// either side, with valgrind's cachegrind. Twice as many calls are made in a second
// run; what that one takes more is the calls, and what both take the same, the
// start and the end of the interpreters, drops out. Instructions of the kernel are
// not among them.
func measureCounts(ctx context.Context, b *bench) error {
	t := table{Section: countsName, Title: "Instructions of a small call, outside the kernel", Unit: "instructions", Ratio: "÷ Pipe"}
	pipe, ours, err := b.countBoth(ctx)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil:
		b.skip(countsName, "instructions", err)
	default:
		t.Figures = []figure{
			{"gophersnake, in Go", ours.caller, ours.caller / pipe.caller},
			{"gophersnake, the worker", ours.worker, ours.worker / pipe.worker},
			{"Pipe, the caller in Python", pipe.caller, 1},
			{"Pipe, the worker", pipe.worker, 1},
		}
	}
	b.report.Tables = append(b.report.Tables, t)
	return nil
}

func (b *bench) countBoth(ctx context.Context) (pipe, ours sides, err error) {
	valgrind, err := exec.LookPath("valgrind")
	if err != nil {
		return pipe, ours, errors.New("it takes valgrind, which is not on this machine; Debian's package has its name")
	}
	if _, err := b.host.environment(ctx, "numpy"); err != nil { // not to be made under valgrind
		return pipe, ours, err
	}
	if pipe, err = b.count(ctx, valgrind, pipeName); err != nil {
		return pipe, ours, err
	}
	ours, err = b.count(ctx, valgrind, gophersnakeName)
	return pipe, ours, err
}

// sides are instructions of the two processes of a peer.
type sides struct{ caller, worker float64 }

// count counts the instructions that one call takes more.
func (b *bench) count(ctx context.Context, valgrind, peer string) (sides, error) {
	b.say("counting the instructions of %s", peer)
	once, err := b.countAll(ctx, valgrind, peer, countedCalls)
	if err != nil {
		return sides{}, err
	}
	twice, err := b.countAll(ctx, valgrind, peer, 2*countedCalls)
	if err != nil {
		return sides{}, err
	}
	return sides{(twice.caller - once.caller) / countedCalls, (twice.worker - once.worker) / countedCalls}, nil
}

// countAll runs this program with the subcommand drive under cachegrind, its
// children too, and returns what each side took from beginning to end.
func (b *bench) countAll(ctx context.Context, valgrind, peer string, calls int) (sides, error) {
	self, err := os.Executable()
	if err != nil {
		return sides{}, err
	}
	folder, err := os.MkdirTemp(b.host.programs, "counts-")
	if err != nil {
		return sides{}, err
	}
	prepare := func(command *exec.Cmd) error {
		// What it leaves goes with the programs, and all starts are alike.
		command.Env = append(os.Environ(), "TMPDIR="+b.host.programs, "PYTHONHASHSEED=0", "OPENBLAS_NUM_THREADS=1",
			"GOMAXPROCS=1") // with more, a caller looks for its answer, and that is counted
		return nil
	}
	p, err := startProcess(ctx, prepare, valgrind,
		"--tool=cachegrind", "--cache-sim=no", "--trace-children=yes", "--cachegrind-out-file="+filepath.Join(folder, "%p"),
		self, driveCommand, b.host.python.Path, peer, strconv.Itoa(calls))
	if err != nil {
		return sides{}, err
	}
	if err := p.wait(countingTime); err != nil {
		return sides{}, fmt.Errorf("%s does not run under valgrind: %w\n%s", peer, err, p.stderr.String())
	}
	profiles, err := readProfiles(folder)
	if err != nil {
		return sides{}, err
	}
	return sidesOf(peer, profiles)
}

// countingTime is how long a run under cachegrind may take.
const countingTime = 5 * time.Minute

// driveCommand makes calls and measures nothing, for a tool that watches:
//
//	bench drive PYTHON PEER CALLS
const driveCommand = "drive"

func drive(ctx context.Context, args []string) (err error) {
	if len(args) != 3 {
		return errors.New("drive takes an interpreter, a peer and a number of calls")
	}
	calls, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	chosen, err := choose("peer", contenders, func(c contender) string { return c.name }, args[1])
	if err != nil {
		return err
	}
	h, err := newHost(ctx, args[0])
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.close()) }()
	p, err := chosen[0].setUp(ctx, h)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	_, err = p.measure(ctx, payloads[0], 1, calls)
	return err
}
