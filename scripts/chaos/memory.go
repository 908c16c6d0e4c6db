package main

import (
	"context"
	"fmt"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gophersnake/gophersnake/scripts/internal/procs"
)

const (
	// settling is after how long the supervisor's memory is to stay as it is.
	settling = time.Minute
	// mostGrowth is by how much it may change from then on.
	mostGrowth = 0.10
	// sampling is the time between two looks at it.
	sampling = time.Second
)

// memory follows the resident memory of the supervisor. What it holds is measured
// when the garbage has been given back: how much of that lies about is the garbage
// collector's choice. Of a minute it is the least that counts: what calls under way
// have made since comes on top, and a leak would raise it all the same. The ledger of
// the calls, which grows with each, is no memory of the supervisor's.
type memory struct {
	ledger func() int64 // the bytes that it takes

	mu      sync.Mutex
	begun   time.Time
	samples []sample
	peak    int64 // garbage included
	shared  int64 // of the last sample, what are segments of shared memory
}

type sample struct {
	after time.Duration
	bytes int64
}

// follow takes samples until the context ends.
func (m *memory) follow(ctx context.Context) {
	m.begun = time.Now()
	every(ctx, sampling, func() bool {
		m.look()
		return false
	})
}

func (m *memory) look() {
	own := os.Getpid()
	before := procs.Resident(own)
	debug.FreeOSMemory()
	resident := procs.Resident(own) - m.ledger()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.peak, m.shared = max(m.peak, before), procs.Segments(own)
	m.samples = append(m.samples, sample{time.Since(m.begun), resident})
}

// memoryFigures are what a run's memory comes to, in bytes.
type memoryFigures struct {
	Settled int64   `json:"after_first_minute"` // what was held in the minute after the first one
	Least   int64   `json:"least"`              // the same of each minute from then on
	Most    int64   `json:"most"`
	Minutes []int64 `json:"minutes"` // in their order
	Last    int64   `json:"last"`
	Shared  int64   `json:"shared_of_last"`
	Peak    int64   `json:"peak_with_garbage"`
	Long    bool    `json:"long_enough"` // there is something to be compared
}

func (m *memory) figures() memoryFigures {
	m.mu.Lock()
	defer m.mu.Unlock()
	f := memoryFigures{Peak: m.peak, Shared: m.shared}
	if n := len(m.samples); n > 0 {
		f.Last = m.samples[n-1].bytes
	}
	for from := settling; ; from += time.Minute {
		now := m.held(from, from+time.Minute)
		if now == 0 {
			break
		}
		f.Minutes = append(f.Minutes, now)
	}
	if len(f.Minutes) > 0 {
		f.Settled, f.Least, f.Most = f.Minutes[0], slices.Min(f.Minutes), slices.Max(f.Minutes)
	}
	f.Long = len(f.Minutes) > 1
	return f
}

// held returns the least of the samples of a time, 0 where there is none.
func (m *memory) held(from, to time.Duration) (least int64) {
	for _, s := range m.samples {
		if s.after >= from && s.after < to && (least == 0 || s.bytes < least) {
			least = s.bytes
		}
	}
	return least
}

// check refuses memory that is not what it was after the first minute.
func (f memoryFigures) check() error {
	if !f.Long {
		return nil
	}
	bound := int64(mostGrowth * float64(f.Settled))
	if f.Most-f.Settled > bound || f.Settled-f.Least > bound {
		return fmt.Errorf("the supervisor's memory was %s after the first minute, then %s to %s", mib(f.Settled), mib(f.Least), mib(f.Most))
	}
	return nil
}

func (f memoryFigures) String() string {
	if !f.Long {
		return fmt.Sprintf("%s at the end, %s of it shared; %s at most with garbage (too short a run to say whether it stays)",
			mib(f.Last), mib(f.Shared), mib(f.Peak))
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
