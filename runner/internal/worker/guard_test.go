package worker

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/gophersnake/gophersnake/ipc"
)

func TestOnlyGuardsOfSlowCallsAreArmed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &Worker{startedAt: time.Now()}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		begin := func() *callGuard { return w.watchdog.begin(ctx, w, &ipc.Call{}) }
		isArmed := func(g *callGuard) bool {
			synctest.Wait()
			g.mu.Lock()
			defer g.mu.Unlock()
			return g.armed
		}
		for range 3 { // the timer is set again each time
			slow := begin()
			for range 20 { // quick calls beside it
				first, second := begin(), begin()
				time.Sleep(watchAfter / 20)
				for _, g := range []*callGuard{first, second} {
					assert.False(t, isArmed(g))
					_, exclusive := w.watchdog.finish(g)
					assert.True(t, exclusive, "it can be used again")
				}
			}
			assert.True(t, isArmed(slow))
			later := begin()
			time.Sleep(watchAfter - 1)
			assert.False(t, isArmed(later))
			time.Sleep(time.Nanosecond)
			assert.True(t, isArmed(later))
			for _, g := range []*callGuard{slow, later} {
				_, exclusive := w.watchdog.finish(g)
				assert.False(t, exclusive, "its functions may still run")
			}
			time.Sleep(10 * watchAfter)
			synctest.Wait()
			assert.False(t, w.watchdog.isTimed, "no guard is left to arm")
		}
	})
}
