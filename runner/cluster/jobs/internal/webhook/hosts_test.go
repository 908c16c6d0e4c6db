package webhook_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/runner/cluster/jobs/internal/webhook"
)

func TestASlowHostHasFewPlacesUntilItIsFastAgain(t *testing.T) {
	t.Parallel()
	const slow, fast = "https://slow.example/a", "https://fast.example/a"
	var h webhook.Hosts
	now := time.Now()
	enter := func(to string, n int) (places []func(time.Time)) {
		t.Helper()
		for range n {
			leave, _ := h.Enter(to, now)
			require.NotNil(t, leave)
			places = append(places, leave)
		}
		return places
	}
	for _, leave := range enter(slow, 16) { // it is not known yet
		leave(now.Add(time.Minute))
	}
	places := enter("https://slow.example/b", 4)
	for i := range 100 {
		leave, wait := h.Enter(slow, now)
		require.Nil(t, leave)
		assert.Equal(t, time.Second+time.Duration(i)*10*time.Millisecond, wait, "each waits a bit longer")
	}
	for _, leave := range enter(fast, 16) {
		leave(now)
	}
	places[0](now.Add(time.Minute))
	enter(slow, 1)
	leave, _ := h.Enter(slow, now)
	require.Nil(t, leave)
	places[1](now) // a fast answer
	enter(slow, 16)
}
