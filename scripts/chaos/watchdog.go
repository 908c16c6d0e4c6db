package main

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// watchdog detects operations that take longer than a limit.
type watchdog struct {
	limit time.Duration

	mu      sync.Mutex // guards what follows
	nextID  uint64
	pending map[uint64]operation
}

// operation is one call, reload or close in progress.
type operation struct {
	description any // formatted only if the operation is reported
	since       time.Time
}

func newWatchdog(limit time.Duration) *watchdog {
	return &watchdog{limit: limit, pending: make(map[uint64]operation)}
}

// track registers an operation, which ends when the returned function is called.
func (w *watchdog) track(description any) (done func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	id := w.nextID
	w.nextID++
	w.pending[id] = operation{description, time.Now()}
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.pending, id)
	}
}

// overdue describes the operations that exceed the limit.
func (w *watchdog) overdue() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var found []string
	for _, op := range w.pending {
		if took := time.Since(op.since); took > w.limit {
			found = append(found, fmt.Sprintf("%v, for %v", op.description, took.Round(time.Millisecond)))
		}
	}
	return found
}

// run checks for overdue operations until the context ends. At the first ones it calls
// onStuck and returns.
func (w *watchdog) run(ctx context.Context, onStuck func(overdue []string)) {
	every(ctx, min(time.Second, w.limit), func() bool {
		found := w.overdue()
		if found != nil {
			onStuck(found)
		}
		return found != nil
	})
}

// every calls do at each interval, until the context ends or do reports that it is done.
func every(ctx context.Context, interval time.Duration, do func() (done bool)) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		if do() {
			return
		}
	}
}
