package main

import (
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestNobodyIsInsideDuringALull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g gate
		var inside, lulls atomic.Int32
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
			g.lull(time.Second, func() {
				lulls.Add(1)
				time.Sleep(time.Millisecond)
				assert.Zero(t, inside.Load())
			})
		}
		callers.Wait()
		assert.EqualValues(t, 50, lulls.Load())
	})
}

func TestALullDoesNotWaitForThoseWhoHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g gate
		g.enter()
		began := time.Now()
		g.lull(time.Second, func() { assert.Equal(t, time.Second, time.Since(began)) })
		g.enter()
		g.leave()
		g.leave()
		g.lull(time.Second, func() { assert.Equal(t, time.Second, time.Since(began)) })
	})
}
