package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/scripts/internal/procs"
)

// workers follows the workers of all targets by their events, and injects signals.
type workers struct {
	mu          sync.Mutex // guards what follows
	alive       [][]int    // process ids, by target
	deaths      int
	events      map[string]int // by type
	injected    map[string]int // by the injection's name
	signaled    map[int]bool   // by process id
	unexplained int            // how often a node became unhealthy without a cause
}

func newWorkers(targets int) *workers {
	return &workers{
		alive: make([][]int, targets), events: make(map[string]int), injected: make(map[string]int), signaled: make(map[int]bool),
	}
}

// observer returns the function that receives the events of a target's runner.
func (w *workers) observer(t *target) func(runner.Event) {
	return func(e runner.Event) {
		switch e.(type) {
		case runner.NodeStarted, runner.NodeFinished, runner.SetupProgress:
			return // frequent, and not in the report
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		w.events[strings.TrimPrefix(fmt.Sprintf("%T", e), "runner.")]++
		switch e := e.(type) {
		case runner.WorkerStarted:
			w.alive[t.index] = append(w.alive[t.index], e.PID)
		case runner.WorkerDied:
			w.deaths++
			w.removeLocked(t, e.PID)
		case runner.WorkerRetired:
			w.removeLocked(t, e.PID)
		case runner.HealthChanged:
			if e.To == runner.StateUnhealthy && e.Err == nil {
				w.unexplained++
			}
		}
	}
}

func (w *workers) removeLocked(t *target, pid int) {
	w.alive[t.index] = slices.DeleteFunc(w.alive[t.index], func(other int) bool { return other == pid })
}

// injection is a disturbance from outside of a call: a signal to a worker or, without a
// signal, a reload of the pipeline. A stopped worker is not continued.
type injection struct {
	name   string
	signal syscall.Signal
	// any sends the signal to any descendant of this process: perhaps a worker that is
	// starting, a template that workers are forked from, or a child of a node.
	any    bool
	weight int // how often it is chosen, relative to the others
}

var injections = []injection{
	{name: "SIGKILL", signal: syscall.SIGKILL, weight: 5},
	{name: "SIGKILL for any process", signal: syscall.SIGKILL, any: true, weight: 2},
	{name: "SIGSEGV", signal: syscall.SIGSEGV, weight: 3},
	{name: "SIGABRT", signal: syscall.SIGABRT, weight: 3},
	{name: "SIGTERM", signal: syscall.SIGTERM, weight: 1},
	{name: "SIGSTOP", signal: syscall.SIGSTOP, weight: 2},
	{name: "reload", weight: 1},
}

// schedule is the sequence of injections that a seed determines.
type schedule struct {
	random  *rand.Rand
	targets []*target
}

func newSchedule(seed uint64, targets []*target) schedule {
	return schedule{rand.New(rand.NewPCG(seed, 1<<63)), targets} // no call has this number
}

// next returns the next injection with its target, and a random number that chooses one
// of the target's workers.
func (s schedule) next() (t *target, choice int, in injection) {
	t, choice = s.targets[s.random.IntN(len(s.targets))], s.random.IntN(1<<20)
	total := 0
	for _, in := range injections {
		total += in.weight
	}
	n := s.random.IntN(total)
	for _, in := range injections {
		if n -= in.weight; n < 0 {
			return t, choice, in
		}
	}
	panic("the weights do not add up")
}

// injectAll makes an injection at each interval, until the context ends.
func (w *workers) injectAll(ctx context.Context, seed uint64, interval time.Duration, targets []*target, reload func(*target)) {
	schedule := newSchedule(seed, targets)
	every(ctx, interval, func() bool {
		t, choice, in := schedule.next()
		if in.signal != 0 {
			w.signal(t, choice, in)
			return false
		}
		w.count(in)
		reload(t)
		return false
	})
}

// signal sends a signal to one of a target's workers, or to any descendant of this
// process. It does nothing if there is no such process.
func (w *workers) signal(t *target, choice int, in injection) {
	w.mu.Lock()
	pids := slices.Clone(w.alive[t.index])
	w.mu.Unlock()
	if in.any {
		pids = procs.Descendants(os.Getpid())
	}
	if len(pids) == 0 {
		return
	}
	pid := pids[choice%len(pids)]
	process, err := os.FindProcess(pid) // a handle, so that a reused process id is not signaled
	if err != nil {
		return
	}
	defer func() { _ = process.Release() }()
	if !procs.IsBelow(pid) {
		return
	}
	w.mu.Lock() // before the signal, since the call may fail at once
	for _, each := range append(procs.Descendants(pid), pid) {
		w.signaled[each] = true // a worker ends with its reaper
	}
	w.mu.Unlock()
	if process.Signal(in.signal) == nil {
		w.count(in)
	}
}

// count adds an injection to the report.
func (w *workers) count(in injection) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.injected[in.name]++
}

// wasSignaled reports whether a signal was sent to a worker.
func (w *workers) wasSignaled(pid int) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.signaled[pid]
}
