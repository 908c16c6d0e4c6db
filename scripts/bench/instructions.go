package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// countedCalls is the number of calls in the first run; the second one makes twice as many.
const countedCalls = 2000

// measureCounts counts the instructions of one small call to a warm worker, in the caller's
// and in the worker's process, with valgrind's cachegrind. A second run makes twice as many
// calls. The difference of the runs is the cost of the calls; the start and the end of the
// interpreters cancel out. Instructions in the kernel are not counted.
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

func (b *bench) countBoth(ctx context.Context) (pipe, ours instructions, err error) {
	valgrind, err := exec.LookPath("valgrind")
	if err != nil {
		return pipe, ours, errors.New("valgrind is not installed; the Debian package is valgrind")
	}
	if _, err := b.host.environment(ctx, "numpy"); err != nil { // before valgrind, under which it would take very long
		return pipe, ours, err
	}
	if pipe, err = b.count(ctx, valgrind, pipeName); err != nil {
		return pipe, ours, err
	}
	ours, err = b.count(ctx, valgrind, gophersnakeName)
	return pipe, ours, err
}

// instructions are counts for the two processes of a peer.
type instructions struct{ caller, worker float64 }

// count returns the instructions of one call of a peer.
func (b *bench) count(ctx context.Context, valgrind, peer string) (instructions, error) {
	b.logf("counting the instructions of %s", peer)
	once, err := b.countAll(ctx, valgrind, peer, countedCalls)
	if err != nil {
		return instructions{}, err
	}
	twice, err := b.countAll(ctx, valgrind, peer, 2*countedCalls)
	if err != nil {
		return instructions{}, err
	}
	return instructions{(twice.caller - once.caller) / countedCalls, (twice.worker - once.worker) / countedCalls}, nil
}

// countAll runs this program with the subcommand drive under cachegrind, including child
// processes, and returns the instructions of a whole run.
func (b *bench) countAll(ctx context.Context, valgrind, peer string, calls int) (instructions, error) {
	self, err := os.Executable()
	if err != nil {
		return instructions{}, err
	}
	folder, err := os.MkdirTemp(b.host.programs, "counts-")
	if err != nil {
		return instructions{}, err
	}
	prepare := func(command *exec.Cmd) error {
		// Temporary files are removed with the programs; the rest makes all runs equal.
		command.Env = append(os.Environ(), "TMPDIR="+b.host.programs, "PYTHONHASHSEED=0", "OPENBLAS_NUM_THREADS=1",
			"GOMAXPROCS=1") // with more, a caller polls for its answer, which would be counted
		return nil
	}
	p, err := startProcess(ctx, prepare, valgrind,
		"--tool=cachegrind", "--cache-sim=no", "--trace-children=yes", "--cachegrind-out-file="+filepath.Join(folder, "%p"),
		self, driveCommand, b.host.python.Path, peer, strconv.Itoa(calls))
	if err != nil {
		return instructions{}, err
	}
	if err := p.wait(countTimeout); err != nil {
		if withoutPidfd.MatchString(p.stderr.String()) {
			return instructions{}, errOldValgrind
		}
		return instructions{}, fmt.Errorf("%s does not run under valgrind: %w\n%s", peer, err, p.stderr.String())
	}
	profiles, err := readProfiles(folder)
	if err != nil {
		return instructions{}, err
	}
	return splitBySide(peer, profiles)
}

// withoutPidfd matches what a valgrind says that does not know pidfd_open, whose number is
// the same on every architecture.
var withoutPidfd = regexp.MustCompile(`unhandled \S+ syscall: 434\b`)

// errOldValgrind explains why no worker starts under such a valgrind.
var errOldValgrind = errors.New("this valgrind lacks the system call pidfd_open, without which no worker starts; that of Debian 13 (3.24) has it")

// countTimeout limits a run under cachegrind.
const countTimeout = 5 * time.Minute

// driveCommand is the subcommand that makes calls without measuring them, for tools such as
// cachegrind:
//
//	bench drive PYTHON PEER CALLS
const driveCommand = "drive"

// drive implements driveCommand.
func drive(ctx context.Context, args []string) (err error) {
	if len(args) != 3 {
		return errors.New("drive takes three arguments: an interpreter, a peer and a number of calls")
	}
	calls, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	chosen, err := choosePeers(args[1])
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

// profile is the output of cachegrind for one process.
type profile struct {
	pid     int
	command string
	total   float64 // instructions
}

// readProfiles reads all profiles in a folder, ordered by process id, which is the order
// in which the processes were started.
func readProfiles(folder string) ([]profile, error) {
	paths, err := filepath.Glob(filepath.Join(folder, "*"))
	if err != nil {
		return nil, err
	}
	var all []profile
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		one, err := parseProfile(string(text))
		one.pid, _ = strconv.Atoi(filepath.Base(path))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		all = append(all, one)
	}
	slices.SortFunc(all, func(a, b profile) int { return cmp.Compare(a.pid, b.pid) })
	return all, nil
}

func parseProfile(text string) (profile, error) {
	var one profile
	var err error
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		switch key {
		case "cmd":
			one.command = value
		case "summary":
			one.total, err = strconv.ParseFloat(value, 64)
		}
		if err != nil {
			return one, err
		}
	}
	if one.total == 0 {
		return one, errors.New("the profile has no summary")
	}
	return one, nil
}

// splitBySide assigns the processes of a peer to the side of the caller and that of the
// worker.
func splitBySide(peer string, all []profile) (instructions, error) {
	var driver, python []profile
	for _, p := range all {
		if strings.Contains(p.command, " "+driveCommand+" ") {
			driver = append(driver, p)
		} else {
			python = append(python, p)
		}
	}
	switch {
	case peer == gophersnakeName && len(driver) == 1 && len(python) == 2: // the reaper, which sleeps during calls, and the worker
		return instructions{caller: driver[0].total, worker: python[0].total + python[1].total}, nil
	case peer == pipeName && len(python) == 2: // the second one is a child of the first one
		return instructions{caller: python[0].total, worker: python[1].total}, nil
	}
	return instructions{}, fmt.Errorf("%s ran as %d processes, which is unexpected", peer, len(all))
}
