package main

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gophersnake/gophersnake/scripts/internal/procs"
)

const (
	// mostGrowth is by how much the supervisor's memory may change after the first minute.
	mostGrowth = 0.10
	// sampling is the time between two looks at it.
	sampling = 15 * time.Second
	// settling is how long a look waits for the calls that are under way.
	settling = 2 * time.Second
)

// memory follows the resident memory of the supervisor. What it holds is measured
// while no call is under way, but for those that hang, and when the garbage has been
// given back: the one is what the callers ask for, and how much of the other lies about
// is the garbage collector's choice. Free segments of shared memory are kept for a
// while, more or fewer of them; so it is the least of each minute that counts, which a
// leak would raise all the same. The ledger of the calls, which grows with each, is no
// memory of the supervisor's.
type memory struct {
	calls  *gate
	ledger func() int64 // the bytes that it takes

	mu     sync.Mutex
	looks  []look
	shared int64 // of the last look, what are segments of shared memory
	peak   int64 // garbage and what is under way included
}

// look is what was held some time after the beginning.
type look struct {
	after time.Duration
	bytes int64
}

// follow looks until the context ends.
func (m *memory) follow(ctx context.Context) {
	begun := time.Now()
	every(ctx, sampling, func() bool {
		m.glance()
		m.calls.lull(settling, func() {
			if ctx.Err() == nil { // else the pipelines are closed
				m.look(time.Since(begun))
			}
		})
		return false
	})
}

func (m *memory) glance() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.peak = max(m.peak, procs.Resident(os.Getpid()))
}

func (m *memory) look(after time.Duration) {
	runtime.GC() // what pools hold outlives one collection
	debug.FreeOSMemory()
	own := os.Getpid()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.looks = append(m.looks, look{after, procs.Resident(own) - m.ledger()})
	m.shared = procs.Segments(own)
}

// minutes is the least that was held in each minute after the first one.
func (m *memory) minutes() []int64 {
	var least []int64
	for _, l := range m.looks {
		switch n := int(l.after/time.Minute) - 1; {
		case n < 0:
		case n < len(least):
			least[n] = min(least[n], l.bytes)
		default:
			least = append(least, l.bytes)
		}
	}
	return least
}

// memoryFigures are what a run's memory comes to, in bytes.
type memoryFigures struct {
	Settled int64   `json:"after_first_minute"` // the least of the second one
	Least   int64   `json:"least"`              // of the leasts of all minutes
	Most    int64   `json:"most"`
	Minutes []int64 `json:"minutes"` // in their order
	Shared  int64   `json:"shared_of_last"`
	Peak    int64   `json:"peak_with_garbage"`
}

func (m *memory) figures() memoryFigures {
	m.mu.Lock()
	defer m.mu.Unlock()
	f := memoryFigures{Minutes: m.minutes(), Shared: m.shared, Peak: m.peak}
	if len(f.Minutes) > 0 {
		f.Settled, f.Least, f.Most = f.Minutes[0], slices.Min(f.Minutes), slices.Max(f.Minutes)
	}
	return f
}

// isLong reports whether there is something to be compared.
func (f memoryFigures) isLong() bool { return len(f.Minutes) > 1 }

// check refuses memory that is not what it was after the first minute.
func (f memoryFigures) check() error {
	if !f.isLong() {
		return nil
	}
	bound := int64(mostGrowth * float64(f.Settled))
	if f.Most-f.Settled > bound || f.Settled-f.Least > bound {
		return fmt.Errorf("the supervisor's memory was %s after the first minute, then %s to %s", mib(f.Settled), mib(f.Least), mib(f.Most))
	}
	return nil
}

func (f memoryFigures) String() string {
	if !f.isLong() {
		return fmt.Sprintf("%s at most with garbage (too short a run to say whether it stays)", mib(f.Peak))
	}
	var minutes []string
	for _, held := range f.Minutes {
		minutes = append(minutes, mib(held))
	}
	return fmt.Sprintf("%s after the first minute, then %s to %s (%+.1f %% to %+.1f %%), %s of it shared at the end; %s at most with garbage",
		mib(f.Settled), mib(f.Least), mib(f.Most), f.change(f.Least), f.change(f.Most), mib(f.Shared), mib(f.Peak)) +
		"\n  minute by minute: " + strings.Join(minutes, ", ")
}

// change is a size beside that after the first minute, in per cent.
func (f memoryFigures) change(now int64) float64 {
	return 100 * (float64(now)/float64(f.Settled) - 1)
}

func mib(n int64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }
