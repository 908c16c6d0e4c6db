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
	// maxGrowth is the fraction by which memory may change after the first minute.
	maxGrowth = 0.10
	// minGrowth is a change in bytes that is not a violation, however small the supervisor is.
	minGrowth = 8 << 20
	// sampleInterval is the time between two samples.
	sampleInterval = 15 * time.Second
	// drainTimeout is how long a sample waits for the calls in progress.
	drainTimeout = 2 * time.Second
)

// memory samples the resident memory of the supervisor. A sample is taken while no call is
// in progress, except for calls that hang, and after a garbage collection, so that neither
// the callers nor the collector's timing affect it. Free segments of shared memory are
// kept for a while, so that samples differ. The least of each minute is therefore what
// counts; a leak would raise it too. The ledger, which grows with each call, is
// subtracted.
type memory struct {
	calls  *gate
	ledger func() int64 // returns its size in bytes

	mu      sync.Mutex // guards what follows
	samples []sample
	shared  int64 // shared memory in the last sample
	peak    int64 // including garbage and calls in progress
}

// sample is the resident memory some time after the start.
type sample struct {
	after time.Duration
	bytes int64
}

// run takes samples until the context ends.
func (m *memory) run(ctx context.Context) {
	started := time.Now()
	every(ctx, sampleInterval, func() bool {
		m.updatePeak()
		m.calls.pause(drainTimeout, func() {
			if ctx.Err() == nil { // otherwise the pipelines are closed
				m.sample(time.Since(started))
			}
		})
		return false
	})
}

func (m *memory) updatePeak() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.peak = max(m.peak, procs.Resident(os.Getpid()))
}

func (m *memory) sample(after time.Duration) {
	runtime.GC() // objects in a sync.Pool survive one collection
	debug.FreeOSMemory()
	own := os.Getpid()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.samples = append(m.samples, sample{after, procs.Resident(own) - m.ledger()})
	m.shared = procs.Segments(own)
}

// minutes returns the least sample of each minute after the first one.
func (m *memory) minutes() []int64 {
	var least []int64
	for _, s := range m.samples {
		switch n := int(s.after/time.Minute) - 1; {
		case n < 0:
		case n < len(least):
			least[n] = min(least[n], s.bytes)
		default:
			least = append(least, s.bytes)
		}
	}
	return least
}

// memoryFigures summarize the memory of a run, in bytes.
type memoryFigures struct {
	Settled int64   `json:"after_first_minute"` // the least of the second minute
	Least   int64   `json:"least"`              // the least of all minutes
	Most    int64   `json:"most"`               // the most of the minutes' leasts
	Minutes []int64 `json:"minutes"`            // the least of each
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

// isLong reports whether there are several minutes to compare.
func (f memoryFigures) isLong() bool { return len(f.Minutes) > 1 }

// check returns an error if the memory changed by more than maxGrowth and minGrowth.
func (f memoryFigures) check() error {
	if !f.isLong() {
		return nil
	}
	bound := max(int64(maxGrowth*float64(f.Settled)), minGrowth)
	if f.Most-f.Settled > bound || f.Settled-f.Least > bound {
		return fmt.Errorf("the supervisor's memory was %s after the first minute, then %s to %s", mib(f.Settled), mib(f.Least), mib(f.Most))
	}
	return nil
}

func (f memoryFigures) String() string {
	if !f.isLong() {
		return fmt.Sprintf("%s at most with garbage (the run is too short to detect growth)", mib(f.Peak))
	}
	var minutes []string
	for _, held := range f.Minutes {
		minutes = append(minutes, mib(held))
	}
	return fmt.Sprintf("%s after the first minute, then %s to %s (%+.1f %% to %+.1f %%), %s of it shared at the end; %s at most with garbage",
		mib(f.Settled), mib(f.Least), mib(f.Most), f.change(f.Least), f.change(f.Most), mib(f.Shared), mib(f.Peak)) +
		"\n  minute by minute: " + strings.Join(minutes, ", ")
}

// change returns by how many percent a size differs from that after the first minute.
func (f memoryFigures) change(now int64) float64 {
	return 100 * (float64(now)/float64(f.Settled) - 1)
}

func mib(n int64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }
