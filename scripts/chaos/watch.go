package main

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// watch knows what is under way, and since when.
type watch struct {
	limit time.Duration
	mu    sync.Mutex
	next  uint64
	under map[uint64]underWay
}

type underWay struct {
	what  any
	since time.Time
}

func newWatch(limit time.Duration) *watch {
	return &watch{limit: limit, under: make(map[uint64]underWay)}
}

// begin says that something is under way until the function that it returns is called.
func (w *watch) begin(what any) (done func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	id := w.next
	w.next++
	w.under[id] = underWay{what, time.Now()}
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.under, id)
	}
}

// overdue is what has been under way for too long.
func (w *watch) overdue() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var found []string
	for _, each := range w.under {
		if took := time.Since(each.since); took > w.limit {
			found = append(found, fmt.Sprintf("%v, for %v", each.what, took.Round(time.Millisecond)))
		}
	}
	return found
}

// follow looks for what takes too long, until the context ends.
func (w *watch) follow(ctx context.Context, isStuck func([]string)) {
	every(ctx, min(time.Second, w.limit), func() bool {
		found := w.overdue()
		if found != nil {
			isStuck(found)
		}
		return found != nil
	})
}
