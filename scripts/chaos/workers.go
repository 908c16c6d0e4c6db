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

// workers are those that live, by lane, and what has become of the others.
type workers struct {
	mu         sync.Mutex
	alive      [][]int // their process ids, by lane
	deaths     int
	seen       map[string]int // events, by what they are
	struck     map[string]int // blows, by their names
	hit        map[int]bool   // the processes that have had one
	groundless int            // how often a node was called unhealthy without a cause
}

func newWorkers(lanes int) *workers {
	return &workers{
		alive: make([][]int, lanes), seen: make(map[string]int), struck: make(map[string]int), hit: make(map[int]bool),
	}
}

// events returns what a lane's runner is to tell its events.
func (w *workers) events(l *lane) func(runner.Event) {
	return func(e runner.Event) {
		switch e.(type) {
		case runner.NodeStarted, runner.NodeFinished, runner.SetupProgress:
			return // there are many, and nobody asks for them
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		w.seen[strings.TrimPrefix(fmt.Sprintf("%T", e), "runner.")]++
		switch e := e.(type) {
		case runner.WorkerStarted:
			w.alive[l.index] = append(w.alive[l.index], e.PID)
		case runner.WorkerDied:
			w.deaths++
			w.remove(l, e.PID)
		case runner.WorkerRetired:
			w.remove(l, e.PID)
		case runner.HealthChanged:
			if e.To == runner.StateUnhealthy && e.Err == nil {
				w.groundless++
			}
		}
	}
}

func (w *workers) remove(l *lane, pid int) {
	w.alive[l.index] = slices.DeleteFunc(w.alive[l.index], func(other int) bool { return other == pid })
}

// blow is what comes from outside: a signal to a worker, and how often it is chosen.
// A stopped worker is left so. Without a signal, a pipeline is reloaded. One for any
// process can hit a worker while it starts, a template that workers are forked from, or
// what a node has started.
type blow struct {
	name   string
	signal syscall.Signal
	any    bool
	odds   int
}

var blows = []blow{
	{name: "SIGKILL", signal: syscall.SIGKILL, odds: 5},
	{name: "SIGKILL for any process", signal: syscall.SIGKILL, any: true, odds: 2},
	{name: "SIGSEGV", signal: syscall.SIGSEGV, odds: 3},
	{name: "SIGABRT", signal: syscall.SIGABRT, odds: 3},
	{name: "SIGTERM", signal: syscall.SIGTERM, odds: 1},
	{name: "SIGSTOP", signal: syscall.SIGSTOP, odds: 2},
	{name: "reload", odds: 1},
}

// aims are the blows that a seed chooses, one after the other, with the lane and
// which of its workers each is for.
type aims struct {
	chance *rand.Rand
	lanes  []*lane
}

func newAims(seed uint64, lanes []*lane) aims {
	return aims{rand.New(rand.NewPCG(seed, 1<<63)), lanes} // no call has that number
}

func (a aims) next() (of *lane, which int, b blow) {
	of, which = a.lanes[a.chance.IntN(len(a.lanes))], a.chance.IntN(1<<20)
	odds := 0
	for _, b := range blows {
		odds += b.odds
	}
	n := a.chance.IntN(odds)
	for _, b := range blows {
		if n -= b.odds; n < 0 {
			return of, which, b
		}
	}
	panic("the odds do not add up")
}

// strikes deals a blow at each tick, until the context ends.
func (w *workers) strikes(ctx context.Context, seed uint64, interval time.Duration, lanes []*lane, reload func(*lane)) {
	aims := newAims(seed, lanes)
	every(ctx, interval, func() bool {
		of, which, b := aims.next()
		if b.signal != 0 {
			w.strike(of, which, b)
			return false
		}
		w.count(b)
		reload(of)
		return false
	})
}

// strike sends one of a lane's workers, or any process below, a signal.
func (w *workers) strike(of *lane, which int, b blow) {
	w.mu.Lock()
	targets := slices.Clone(w.alive[of.index])
	w.mu.Unlock()
	if b.any {
		targets = procs.Descendants(os.Getpid())
	}
	if len(targets) == 0 {
		return
	}
	pid := targets[which%len(targets)]
	process, err := os.FindProcess(pid) // holds on to the process, so that no other one is hit
	if err != nil {
		return
	}
	defer process.Release()
	if !procs.IsBelow(pid) {
		return
	}
	w.mu.Lock()
	w.hit[pid] = true // before it is: the call may be over at once
	w.mu.Unlock()
	if process.Signal(b.signal) == nil {
		w.count(b)
	}
}

// count takes down a blow.
func (w *workers) count(b blow) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.struck[b.name]++
}

// wasHit reports whether a worker has had a signal.
func (w *workers) wasHit(pid int) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.hit[pid]
}
