package worker

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner/internal/testkit"
)

const mega = 1 << 20

func limitsConfig(t *testing.T, nodeType string, limits Limits) Config {
	config := testConfig(t, nodeType)
	config.Setup.Python = "limits.py"
	config.Limits = limits
	return config
}

func endsOf(t *testing.T, w *Worker, value any) *Exit {
	t.Helper()
	_, err := call(t.Context(), w, value)
	var exit *Exit
	require.ErrorAs(t, err, &exit)
	assert.True(t, testkit.Gone(w.PID()))
	return exit
}

func TestAWorkerThatUsesTooMuchMemoryIsEnded(t *testing.T) {
	for _, how := range []string{"alone", "in a child"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			w := start(t, limitsConfig(t, "take_all", Limits{Resident: 150 * mega}))
			exit := endsOf(t, w, how)
			assert.Equal(t, ReasonMemory, exit.Reason)
			require.NotNil(t, exit.Breach)
			assert.Equal(t, LimitResident, exit.Breach.Limit)
			assert.Equal(t, "150 MiB", exit.Breach.Bound)
			assert.Regexp(t, `^the interpreter ran out of memory: its resident memory was \d+(\.\d+)? [MG]iB, more than the limit of 150 MiB \(resident\) \(`, exit.Error())
			assert.NotEmpty(t, exit.Traceback)
			assert.Empty(t, exit.Hang)
		})
	}
	t.Run("in setup", func(t *testing.T) {
		t.Parallel()
		failed := startFails(t, limitsConfig(t, "TakesAllInSetup", Limits{Resident: 150 * mega}))
		assert.Equal(t, StageSetup, failed.Stage)
		assert.Equal(t, ReasonMemory, failed.Exit.Reason)
		assert.ErrorContains(t, failed, "more than the limit of 150 MiB (resident)")
	})
}

func TestMemoryThatProcessesShareCountsOnce(t *testing.T) {
	const bound = 300 * mega
	w := start(t, limitsConfig(t, "share", Limits{Resident: bound, ResidentSoft: bound}))
	gate := filepath.Join(t.TempDir(), "gate")
	require.NoError(t, syscall.Mkfifo(gate, 0o600))
	open := func() {
		f, err := os.OpenFile(gate, os.O_WRONLY, 0)
		if assert.NoError(t, err) {
			_ = f.Close()
		}
	}
	go func() {
		// The gate opens after two samples in which the sum of all processes is too large.
		testkit.Eventually(t, func() bool { s := w.sample.Load(); return s != nil && s.usage.resident > 2*bound })
		first := w.sample.Load().at
		testkit.Eventually(t, func() bool { return w.sample.Load().at.After(first) })
		open()
	}()
	got, err := call(t.Context(), w, map[string]any{"megabytes": 150, "children": 5, "gate": gate})
	require.NoError(t, err)
	assert.Equal(t, "shared", got)
	assert.Nil(t, w.SoftBreach())
}

func TestAWorkerThatPassesASoftLimitIsReportedOnce(t *testing.T) {
	for _, c := range []struct {
		name, node string
		value      int64
		limits     Limits
		limit      Limit
		bound      string
	}{
		{"memory", "take", 100, Limits{ResidentSoft: 100 * mega}, LimitResidentSoft, "100 MiB"},
		{"descriptors", "opens", 80, Limits{OpenFiles: 100}, LimitOpenFiles, "3/4 of 100"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			config := limitsConfig(t, c.node, c.limits)
			reported := make(chan *Worker, 10)
			config.OnSoftBreach = func(w *Worker) { reported <- w }
			w := start(t, config)
			assert.Nil(t, w.SoftBreach())
			_, err := call(t.Context(), w, c.value)
			require.NoError(t, err)
			assert.Same(t, w, <-reported)
			require.NotNil(t, w.SoftBreach())
			assert.Equal(t, c.limit, w.SoftBreach().Limit)
			assert.Equal(t, c.bound, w.SoftBreach().Bound)
			first := w.sample.Load().at
			_, err = call(t.Context(), w, int64(0))
			require.NoError(t, err, "it still serves")
			testkit.Eventually(t, func() bool { return w.sample.Load().at.After(first) })
			assert.Empty(t, reported)
			assert.True(t, w.Alive())
		})
	}
}

func TestNoSoftLimitIsPassedBeforeTheFirstCall(t *testing.T) {
	w := start(t, limitsConfig(t, "take", Limits{ResidentSoft: mega}))
	testkit.Eventually(t, func() bool { return w.sample.Load() != nil && w.Stats().Resident > mega })
	assert.Nil(t, w.SoftBreach())
	_, err := call(t.Context(), w, int64(0))
	require.NoError(t, err)
	testkit.Eventually(t, func() bool { return w.SoftBreach() != nil })
}

func TestACallThatUsesTooMuchCPUTimeIsEnded(t *testing.T) {
	for _, c := range []struct {
		how  string
		hang Hang
	}{{"python", HangPython}, {"c", HangGIL}, {"in a child", HangPython}} {
		t.Run(c.how, func(t *testing.T) {
			t.Parallel()
			w := start(t, limitsConfig(t, "burns", Limits{CPUTime: time.Second}))
			exit := endsOf(t, w, c.how)
			assert.Equal(t, ReasonCPU, exit.Reason)
			assert.Equal(t, c.hang, exit.Hang)
			require.NotNil(t, exit.Breach)
			assert.Equal(t, LimitCPUTime, exit.Breach.Limit)
			assert.Regexp(t, `^the call used too much CPU time: \d+(\.\d+)?s, more than the limit of 1s \(cpu_time\); it was blocked in .* \(`, exit.Error())
			assert.NotEmpty(t, exit.Traceback)
		})
	}
}

func TestCPUTimeIsThatOfOneCall(t *testing.T) {
	t.Run("calls", func(t *testing.T) {
		t.Parallel()
		w := start(t, limitsConfig(t, "burns_a_little", Limits{CPUTime: time.Second}))
		for range 5 {
			_, err := call(t.Context(), w, 0.3)
			require.NoError(t, err)
		}
		assert.Equal(t, uint64(5), w.Calls())
	})
	t.Run("values", func(t *testing.T) {
		t.Parallel()
		w := start(t, limitsConfig(t, "burns_between", Limits{CPUTime: time.Second}))
		payload, err := ipc.Encode("input", int64(5))
		require.NoError(t, err)
		values := 0
		err = w.Items(t.Context(), Op{Kind: ipc.FrameCall}, ipc.OneArg(payload), func(item ipc.Payload) error {
			values++
			item.Release()
			return nil
		})
		require.NoError(t, err)
		assert.Equal(t, 5, values)
	})
	t.Run("and no other time", func(t *testing.T) {
		t.Parallel()
		w := start(t, limitsConfig(t, "sleeps", Limits{CPUTime: 500 * time.Millisecond}))
		_, err := call(t.Context(), w, 1.0)
		require.NoError(t, err)
	})
}

func TestAWorkerCannotOpenMoreThanItMay(t *testing.T) {
	w := start(t, limitsConfig(t, "opens", Limits{OpenFiles: 100}))
	_, err := call(t.Context(), w, int64(200))
	var remote *ipc.RemoteError
	require.ErrorAs(t, err, &remote)
	assert.Equal(t, "OSError", remote.Class)
	assert.Contains(t, remote.Message, "Too many open files")
	testkit.Eventually(t, func() bool { return w.SoftBreach() != nil })
	_, err = call(t.Context(), w, int64(0))
	require.NoError(t, err)
}

func TestAWorkerWithoutADescriptorForAnArraySaysSo(t *testing.T) {
	config := limitsConfig(t, "takes_an_array", Limits{OpenFiles: 60})
	arena := ipc.NewArena(64*mega, time.Second)
	defer arena.Close()
	config.Setup.Shared = &ipc.SetupShared{From: ipc.SharedFrom, Limit: 64 * mega, Wait: 1}
	w := start(t, config)
	_, err := call(t.Context(), w, "open all")
	require.NoError(t, err)
	array, err := ipc.NewTensor(make([]byte, mega), mega)
	require.NoError(t, err)
	payload, err := ipc.Encode("input", array)
	require.NoError(t, err)
	shared, err := arena.Share(t.Context(), ipc.Domain{}, payload)
	require.NoError(t, err)
	defer shared.Release()
	_, err = w.Call(t.Context(), Op{Kind: ipc.FrameCall}, ipc.OneArg(shared))
	var broken *BrokenError
	require.ErrorAs(t, err, &broken)
	assert.ErrorContains(t, err, "the process has reached its limit of open descriptors")
	assert.Equal(t, ReasonBroken, broken.Exit.Reason)
}

func TestStatsAreTakenOnRequest(t *testing.T) {
	w := start(t, limitsConfig(t, "take", Limits{}))
	first := w.Stats()
	assert.Greater(t, first.Resident, int64(mega))
	assert.Positive(t, first.OpenFiles)
	_, err := call(t.Context(), w, int64(50))
	require.NoError(t, err)
	testkit.Eventually(t, func() bool { return w.Stats().Resident > first.Resident+40*mega })
	assert.Equal(t, uint64(1), w.Calls())
	assert.False(t, w.StartedAt().IsZero())
	w.Kill()
	testkit.Eventually(t, func() bool { return w.Stats() == ProcessStats{} })
}

func TestTheSamplerRunsAsLongAsItHasWorkers(t *testing.T) {
	w := start(t, limitsConfig(t, "take", Limits{}))
	s := &sampler{workers: make(map[*Worker]*sampled), wakeup: make(chan struct{}, 1)}
	isRunning := func() bool { s.mu.Lock(); defer s.mu.Unlock(); return s.running }
	for range 3 {
		s.add(w)
		assert.True(t, isRunning())
		testkit.Eventually(t, func() bool { return w.sample.Load() != nil })
		s.remove(w)
		s.remove(w)
		testkit.Eventually(t, func() bool { return !isRunning() })
	}
}

func TestAWorkerThatMisusesSharedMemoryOrMemoryIsEnded(t *testing.T) {
	sharing := func(t *testing.T, way string) Config {
		config := evil(t, way)
		config.Setup.Shared = &ipc.SetupShared{From: ipc.SharedFrom, Limit: 64 * mega, Wait: 1}
		return config
	}
	for _, c := range []struct{ way, says string }{
		{"releases what it was not lent", "releases segment 1, which it was not lent"},
		{"never transfers", "no descriptor has arrived"},
		{"shares 1 GiB", "sends a segment of 1073741824 bytes, and its others have 0 of the 67108864 that it may share"},
		{"logs 16 MiB of empty arrays", "when they are decoded, more than the limit of 33554432"},
	} {
		t.Run(c.way, func(t *testing.T) {
			t.Parallel()
			w := start(t, sharing(t, c.way))
			_, err := call(t.Context(), w, "v")
			var broken *BrokenError
			require.ErrorAs(t, err, &broken)
			require.ErrorContains(t, err, c.says)
			assert.True(t, testkit.Gone(w.PID()))
		})
	}
	t.Run("answers 32 MiB of empty arrays", func(t *testing.T) {
		t.Parallel()
		w := start(t, sharing(t, "answers 32 MiB of empty arrays"))
		_, err := call(t.Context(), w, "v")
		var value *ipc.ValueError
		require.ErrorAs(t, err, &value)
		require.ErrorContains(t, err, "more than the limit of 536870912")
		assert.True(t, w.Alive(), "only the result is refused")
	})
}
