package main

import (
	"context"
	"time"
)

// every does something at each tick, until the context ends or it is enough.
func every(ctx context.Context, interval time.Duration, do func() (enough bool)) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if do() {
			return
		}
	}
}
