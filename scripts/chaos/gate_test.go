package main

import (
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestNoCallIsInsideDuringAPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g gate
		var inside, pauses atomic.Int32
		var callers sync.WaitGroup
		for i := range 20 {
			callers.Go(func() {
				for range 100 {
					g.enter()
					inside.Add(1)
					time.Sleep(time.Duration(i+1) * time.Millisecond)
					inside.Add(-1)
					g.leave()
				}
			})
		}
		for range 50 {
			time.Sleep(3 * time.Millisecond)
			g.pause(time.Second, func() {
				pauses.Add(1)
				time.Sleep(time.Millisecond)
				assert.Zero(t, inside.Load())
			})
		}
		callers.Wait()
		assert.EqualValues(t, 50, pauses.Load())
	})
}

func TestAPauseDoesNotWaitForCallsThatHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g gate
		g.enter()
		started := time.Now()
		g.pause(time.Second, func() { assert.Equal(t, time.Second, time.Since(started)) })
		g.enter()
		g.leave()
		g.leave()
		g.pause(time.Second, func() { assert.Equal(t, time.Second, time.Since(started)) })
	})
}
