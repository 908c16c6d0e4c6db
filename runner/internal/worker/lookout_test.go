package worker

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/gophersnake/gophersnake/ipc"
)

func TestOnlyCallsThatTakeTheirTimeAreWatched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &Worker{born: time.Now()}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		begin := func() *guard { return w.guard(ctx, &ipc.Call{}) }
		isWatched := func(g *guard) bool {
			synctest.Wait()
			g.mu.Lock()
			defer g.mu.Unlock()
			return g.watched
		}
		for range 3 { // the timer starts anew each time
			slow := begin()
			for range 20 { // quick ones, beside it
				first, second := begin(), begin()
				time.Sleep(unwatched / 20)
				for _, g := range []*guard{first, second} {
					assert.False(t, isWatched(g))
					_, alone := g.release()
					assert.True(t, alone, "it can be used again")
				}
			}
			assert.True(t, isWatched(slow))
			later := begin()
			time.Sleep(unwatched - 1)
			assert.False(t, isWatched(later))
			time.Sleep(time.Nanosecond)
			assert.True(t, isWatched(later))
			for _, g := range []*guard{slow, later} {
				_, alone := g.release()
				assert.False(t, alone, "something of it may still run")
			}
			time.Sleep(10 * unwatched)
			synctest.Wait()
			assert.False(t, w.lookout.ticks, "there is nothing to look after")
		}
	})
}
