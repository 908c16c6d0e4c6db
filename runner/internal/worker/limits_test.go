package worker

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/ipc"
)

func TestAResultThatIsTooLargeFailsItsCallAlone(t *testing.T) {
	const most = 2000
	resultConfig := func(t *testing.T, node string) Config {
		config := testConfig(t, node)
		config.Setup.Python = "limits.py"
		config.Limits.Result = most
		return config
	}
	for _, c := range []struct {
		name, node string
		size       int64 // the smallest that is too large
	}{{"bytes", "gives", most - 2}, {"an array", "gives_an_array", 100_000}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := start(t, resultConfig(t, c.node))
			for range 2 {
				_, err := call(t.Context(), w, c.size)
				var remote *ipc.RemoteError
				require.ErrorAs(t, err, &remote)
				assert.Equal(t, ipc.FailureMarshaling, remote.Kind)
				assert.Equal(t, "result", remote.Path)
				assert.Regexp(t, `it takes \d+ bytes, more than the 2000 that limits.result allows$`, remote.Message)
				breach := ResultBreach(err)
				require.NotNil(t, breach)
				assert.Equal(t, LimitResult, breach.Limit)
				assert.Equal(t, "1.953 KiB", breach.Bound)
				_, err = call(t.Context(), w, int64(100))
				require.NoError(t, err)
			}
		})
	}
	t.Run("the largest that is allowed", func(t *testing.T) {
		t.Parallel()
		w := start(t, resultConfig(t, "gives"))
		_, err := call(t.Context(), w, int64(most-3)) // 3 bytes are the header
		require.NoError(t, err)
	})
	t.Run("one of many", func(t *testing.T) {
		t.Parallel()
		w := start(t, resultConfig(t, "gives_many"))
		payload, err := ipc.Encode("input", []any{100, 100, 5000, 100})
		require.NoError(t, err)
		values := 0
		err = w.Items(t.Context(), Op{Kind: ipc.FrameCall}, ipc.OneArg(payload), func(item ipc.Payload) error {
			values++
			item.Release()
			return nil
		})
		require.NotNil(t, ResultBreach(err), "%v", err)
		assert.Equal(t, 2, values)
	})
	t.Run("a state is not a result", func(t *testing.T) {
		t.Parallel()
		w := start(t, resultConfig(t, "Remembers"))
		require.NoError(t, w.Open(t.Context(), 1, nil))
		state, err := w.Call(t.Context(), Op{ipc.FrameSnapshot, 1}, ipc.Args{})
		require.NoError(t, err)
		require.NoError(t, w.Open(t.Context(), 2, &state))
	})
	t.Run("of a worker that does not check it", func(t *testing.T) {
		t.Parallel()
		config := evil(t, "answers at length")
		config.Limits.Result = most
		w := start(t, config)
		_, err := call(t.Context(), w, "v")
		var value *ipc.ValueError
		require.ErrorAs(t, err, &value)
		assert.ErrorContains(t, err, "it takes 5003 bytes, more than the 2000 that limits.result allows")
		require.NotNil(t, ResultBreach(err))
		assert.True(t, w.Alive())
	})
	assert.Nil(t, ResultBreach(assert.AnError))
}

func TestSizesAndTimesAreFormattedForPeople(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0 bytes", 1023: "1023 bytes", 1536: "1.5 KiB", 812 << 20: "812 MiB", 3 << 29: "1.5 GiB",
	} {
		assert.Equal(t, want, formatBytes(n))
	}
	assert.Equal(t, "2.13s", formatDuration(2_134_000_000))
	assert.Equal(t, "1.5ms", formatDuration(1500*time.Microsecond))
	assert.Equal(t, "812 MiB, more than the limit of 750 MiB (resident)", Breach{LimitResident, "812 MiB", "750 MiB"}.String())
}

func TestAWorkerIsSampledMoreOftenNearALimit(t *testing.T) {
	for _, c := range []struct {
		name                 string
		limit, value, growth int64
		want                 time.Duration
	}{
		{"no bound", 0, 100, 50, busyInterval},
		{"far from it", 1000, 100, 10, busyInterval},
		{"it does not grow", 1000, 999, 0, busyInterval},
		{"it shrinks", 1000, 999, -5, busyInterval},
		{"half of the way is left", 1000, 500, 500, 50 * time.Millisecond},
		{"close to it", 1000, 999, 500, nearInterval},
		{"beyond, and not ended", 1000, 1001, 500, busyInterval},
	} {
		assert.Equal(t, c.want, intervalNear(c.limit, c.value, c.growth, 100*time.Millisecond), c.name)
	}
}

func TestTheLowerOfTwoLimitsCounts(t *testing.T) {
	assert.Equal(t, []int64{0, 5, 5, 3, 3}, []int64{lowestLimit(0, 0), lowestLimit(0, 5), lowestLimit(5, 0), lowestLimit(5, 3), lowestLimit(3, 5)})
}
