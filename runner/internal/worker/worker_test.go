package worker

import (
	"bytes"
	"context"
	"errors"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner/internal/testkit"
)

func TestAWorkerServesAndShutsDown(t *testing.T) {
	c := testConfig(t, "Closing")
	closed := filepath.Join(t.TempDir(), "closed")
	c.Setup.Params = ipc.Object{{Key: "file", Value: closed}}
	w := start(t, c)
	for _, v := range []any{"text", int64(1), nil} {
		got, err := call(t.Context(), w, v)
		require.NoError(t, err)
		assert.Equal(t, v, got)
	}
	assert.Equal(t, "Closing", w.Description().Name)
	assert.True(t, w.Alive())
	assert.Nil(t, w.Exit())

	var closing sync.WaitGroup
	for range 3 { // at the same time, and more than once
		closing.Go(func() { w.Close(t.Context()) })
	}
	closing.Wait()
	w.Kill()
	w.Close(t.Context())
	assert.FileExists(t, closed)
	assert.False(t, w.Alive())
	assert.Equal(t, ReasonShutdown, w.Exit().Reason)
	assert.Equal(t, 0, w.Exit().Code)
	assert.True(t, testkit.Gone(w.PID()))
	_, err := call(t.Context(), w, "late")
	var exit *Exit
	require.ErrorAs(t, err, &exit)
	assert.Equal(t, "the worker was shut down", exit.Error())
}

func TestAWorkerThatDoesNotShutDownIsKilled(t *testing.T) {
	for _, c := range []struct{ name, way string }{{"hangs in close", "hang"}, {"is stopped", "stop"}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			config := testConfig(t, "Closing")
			begun := filepath.Join(t.TempDir(), "begun")
			config.Setup.Params = ipc.Object{{Key: "file", Value: begun}, {Key: "way", Value: c.way}}
			w := start(t, config)
			ctx, cancel := context.WithCancel(t.Context())
			go func() {
				testkit.Eventually(t, testkit.Written(begun))
				cancel()
			}()
			w.Close(ctx)
			assert.Equal(t, ReasonKilled, w.Exit().Reason)
			assert.Equal(t, syscall.SIGKILL, w.Exit().Signal)
		})
	}
}

func TestACrashWhileShuttingDownIsReportedAsSuch(t *testing.T) {
	config := testConfig(t, "Closing")
	config.Setup.Params = ipc.Object{{Key: "way", Value: "crash"}}
	w := start(t, config)
	w.Close(t.Context())
	assert.Equal(t, ReasonSelf, w.Exit().Reason)
	assert.Contains(t, w.Exit().Error(), "SIGSEGV")
}

func TestAStoppedIdleWorkerCanBeKilledAndClosed(t *testing.T) {
	for _, closes := range []bool{true, false} {
		config := testConfig(t, "echo")
		config.Grace = time.Millisecond
		w := start(t, config)
		require.NoError(t, syscall.Kill(w.PID(), syscall.SIGSTOP))
		if closes {
			w.Close(t.Context())
		} else {
			w.Kill()
		}
		assert.Equal(t, ReasonKilled, w.Exit().Reason)
		assert.True(t, testkit.Gone(w.PID()))
	}
}

// A call in a batch is usually abandoned when it is canceled. The first of these calls blocks in
// the midst of its frame, the second one waits for its turn to write.
func TestCallsThatTheWorkerDoesNotReadEndAfterTheirContexts(t *testing.T) {
	config := testConfig(t, "echo_batch")
	config.Timeout, config.Grace = 0, time.Millisecond
	w := start(t, config)
	require.NoError(t, syscall.Kill(w.PID(), syscall.SIGSTOP))
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	var callers sync.WaitGroup
	for range 2 {
		callers.Go(func() {
			_, err := call(ctx, w, make([]byte, 16<<20))
			var canceled *CanceledError
			assert.ErrorAs(t, err, &canceled)
			assert.ErrorIs(t, err, context.DeadlineExceeded)
			if canceled != nil && canceled.Exit != nil { // nil if the test is so slow that nothing was sent
				assert.Equal(t, ReasonCancel, canceled.Exit.Reason)
				assert.Equal(t, HangStopped, canceled.Exit.Hang)
			}
		})
	}
	callers.Wait()
}

func TestADeadlineEndsTheInterpreterAndSaysItsPlaceInPython(t *testing.T) {
	for _, c := range []struct{ way, function string }{
		{"hang", "hang"}, {"hold_the_gil", "hold_the_gil"}, {"hang_deep", "hang_deep"},
		{"hang_beside_a_thread", "hang_beside_a_thread"}, {"stop", "stop"}, {"stubborn", "stubborn"},
	} {
		t.Run(c.way, func(t *testing.T) {
			t.Parallel()
			config := testConfig(t, "misbehave")
			config.Timeout = 2 * time.Second
			w := start(t, config)
			_, err := call(t.Context(), w, way(c.way))
			var exit *Exit
			require.ErrorAs(t, err, &exit)
			assert.Equal(t, ReasonDeadline, exit.Reason)
			assert.Contains(t, exit.Error(), "no answer within 2s")
			if c.function != "" {
				require.NotEmpty(t, exit.Traceback)
				assert.Equal(t, c.function, exit.Traceback[len(exit.Traceback)-1].Function)
			}
		})
	}
}

func TestADeathIsExplained(t *testing.T) {
	for _, c := range []struct{ way, says, function string }{
		{"crash", "SIGSEGV", "string_at"},
		{"crash_in_a_thread", "SIGSEGV", "string_at"},
		{"crash_beside_own_faulthandler", "SIGSEGV", "string_at"},
		{"kill", "SIGKILL", ""},
		{"leave", "sys.exit(4)", "leave"},
		{"leave_from_c", "exited with code 5, saying: the library gives up", ""},
		{"out_of_memory", "out of memory", "out_of_memory"},
	} {
		t.Run(c.way, func(t *testing.T) {
			t.Parallel()
			w := start(t, testConfig(t, "misbehave"))
			_, err := call(t.Context(), w, way(c.way))
			var exit *Exit
			require.ErrorAs(t, err, &exit)
			assert.Equal(t, ReasonSelf, exit.Reason)
			assert.Contains(t, exit.Error(), c.says)
			assert.Equal(t, w.PID(), exit.PID)
			assert.Positive(t, exit.Uptime)
			assert.Positive(t, exit.MaxRSS)
			if c.function != "" {
				require.NotEmpty(t, exit.Traceback)
				assert.Equal(t, c.function, exit.Traceback[len(exit.Traceback)-1].Function)
			}
			<-w.Done()
			assert.Same(t, exit, w.Exit())
		})
	}
}

func TestCancellation(t *testing.T) {
	run := func(t *testing.T, name string, grace time.Duration) (*Worker, error) {
		config := testConfig(t, "misbehave")
		config.Grace = grace
		w := start(t, config)
		begun := filepath.Join(t.TempDir(), "begun")
		ctx, cancel := context.WithCancelCause(t.Context())
		go func() {
			testkit.Eventually(t, testkit.Written(begun))
			cancel(errors.New("changed my mind"))
		}()
		_, err := call(ctx, w, way(name, begun))
		var canceled *CanceledError
		require.ErrorAs(t, err, &canceled)
		assert.ErrorContains(t, err, "changed my mind")
		return w, err
	}
	t.Run("reaches the node, and the worker lives on", func(t *testing.T) {
		w, err := run(t, "hang", long)
		var canceled *CanceledError
		require.ErrorAs(t, err, &canceled)
		require.NotNil(t, canceled.Remote)
		var functions []string // the signal's handler ran in the last one
		for _, f := range canceled.Remote.Frames {
			functions = append(functions, f.Function)
			assert.False(t, inFolder(f.File, packageDir), "%v is the worker's own", f)
		}
		assert.Contains(t, functions, "misbehave")
		_, err = call(t.Context(), w, way("write_json"))
		require.NoError(t, err)
	})
	t.Run("ends a node that ignores it", func(t *testing.T) {
		w, err := run(t, "stubborn", time.Millisecond)
		assert.ErrorContains(t, err, "after its call was canceled")
		assert.Equal(t, ReasonCancel, w.Exit().Reason)
	})
	t.Run("ends a node that is stopped", func(t *testing.T) {
		w, err := run(t, "stop", time.Millisecond)
		assert.ErrorContains(t, err, "the process was stopped")
		assert.Equal(t, syscall.SIGABRT, w.Exit().Signal, "it went on, to write its stacks")
	})
	t.Run("before the call touches nothing", func(t *testing.T) {
		w := start(t, testConfig(t, "echo"))
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := call(ctx, w, "v")
		require.ErrorIs(t, err, context.Canceled)
		_, err = call(t.Context(), w, "v")
		require.NoError(t, err)
	})
	t.Run("that nobody asked for is an exception like others", func(t *testing.T) {
		w := start(t, testConfig(t, "misbehave"))
		_, err := call(t.Context(), w, way("raise_canceled"))
		var remote *ipc.RemoteError
		require.ErrorAs(t, err, &remote)
		assert.Equal(t, ipc.FailureExecution, remote.Kind)
		assert.ErrorContains(t, err, "by myself")
	})
}

func TestAProcessThatHoldsThePipesDoesNotHoldTheAutopsyUp(t *testing.T) {
	w := start(t, testConfig(t, "misbehave"))
	child := filepath.Join(t.TempDir(), "child")
	killLater(t, child)
	_, err := call(t.Context(), w, way("escape", child))
	var exit *Exit
	require.ErrorAs(t, err, &exit)
	assert.Equal(t, syscall.SIGKILL, exit.Signal)
}

func TestOutputThatLooksLikeALogRecordDoesNotPanicTheHost(t *testing.T) {
	var log logBuffer
	config := testConfig(t, "misbehave")
	config.Logger = logTo(&log)
	w := start(t, config)
	_, err := call(t.Context(), w, way("write_json"))
	require.NoError(t, err)
	w.Close(t.Context())
	for _, line := range []string{`{"@message": 1}`, `{"@level": 30, "@message": "m"}`, `{"@timestamp": null}`} {
		testkit.Eventually(t, func() bool { return log.contains(line) }, line)
		assert.Contains(t, w.Exit().Stderr, line)
	}
}

func TestAWorkerThatBreaksTheProtocolIsEnded(t *testing.T) {
	for _, c := range []struct{ way, says string }{
		{"closes", "closed by the worker"},
		{"garbage", "a frame begins with byte"},
		{"answers another", "which is not under way"},
		{"fatal and lives", "MemoryError"},
	} {
		t.Run(c.way, func(t *testing.T) {
			t.Parallel()
			w := start(t, evil(t, c.way))
			_, err := call(t.Context(), w, "v")
			var broken *BrokenError
			require.ErrorAs(t, err, &broken)
			assert.ErrorContains(t, err, c.says)
			assert.Equal(t, ReasonBroken, broken.Exit.Reason)
			assert.NotEmpty(t, broken.Exit.Dump, "where it was")
			assert.True(t, testkit.Gone(w.PID()))
		})
	}
}

func TestAMalformedResultIsAValueError(t *testing.T) {
	w := start(t, evil(t, "answers nonsense"))
	_, err := call(t.Context(), w, "v")
	var value *ipc.ValueError
	require.ErrorAs(t, err, &value)
}

func TestAWorkerThatBreaksItsConnectionWhileIdleIsEnded(t *testing.T) {
	for _, way := range []string{"closes when idle", "garbage when idle"} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			w := start(t, evil(t, way))
			<-w.Done()
			assert.Equal(t, ReasonBroken, w.Exit().Reason)
			assert.Contains(t, w.Exit().Error(), "connection broke")
			assert.False(t, w.Alive())
		})
	}
	t.Run("answers twice", func(t *testing.T) {
		w := start(t, evil(t, "answers twice"))
		_, _ = call(t.Context(), w, "v") // the second answer may arrive right after the first
		<-w.Done()
		assert.Equal(t, ReasonBroken, w.Exit().Reason)
	})
}

func TestADeadlineEndsACallThatIsStuckInTheSocket(t *testing.T) {
	for _, way := range []string{"half a frame", "half a body", "never reads"} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			config := evil(t, way)
			config.Timeout = 2 * time.Second
			w := start(t, config)
			_, err := call(t.Context(), w, bytes.Repeat([]byte("x"), 8<<20))
			var exit *Exit
			require.ErrorAs(t, err, &exit)
			assert.Equal(t, ReasonDeadline, exit.Reason)
		})
	}
}

// stuck makes a call whose sending blocks, and returns once it does.
func stuck(ctx context.Context, t *testing.T, grace time.Duration, env ...string) (*Worker, <-chan error) {
	writing := filepath.Join(t.TempDir(), "writing")
	config := evil(t, "never reads", append(env, "EVIL_FILE="+writing)...)
	config.Timeout, config.Grace = 0, grace
	w := start(t, config)
	calling := make(chan error, 1)
	go func() {
		_, err := call(ctx, w, bytes.Repeat([]byte("x"), 8<<20))
		calling <- err
	}()
	testkit.Eventually(t, testkit.Written(writing))
	return w, calling
}

func TestCancellationEndsACallThatIsStuckInTheSocket(t *testing.T) {
	for _, c := range []struct {
		name, ignores, says string
	}{
		{"a worker that ignores the signal", "EVIL_IGNORES=1", "after its call was canceled"},
		{"a worker that dies of the signal", "", "SIGUSR1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			grace := long
			if c.ignores != "" {
				grace = time.Millisecond
			}
			_, calling := stuck(ctx, t, grace, c.ignores)
			cancel()
			err := <-calling
			var canceled *CanceledError
			require.ErrorAs(t, err, &canceled)
			require.ErrorIs(t, err, context.Canceled)
			assert.ErrorContains(t, err, c.says)
		})
	}
}

func TestAWorkerThatDoesNotReadCanBeClosed(t *testing.T) {
	w, calling := stuck(t.Context(), t, long)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w.Close(ctx)
	assert.Equal(t, ReasonKilled, w.Exit().Reason)
	var exit *Exit
	require.ErrorAs(t, <-calling, &exit)
}

func TestAProcessThatHoldsTheSocketDoesNotHoldTheCallUp(t *testing.T) {
	child := filepath.Join(t.TempDir(), "child")
	killLater(t, child)
	w := start(t, evil(t, "escapes", "EVIL_FILE="+child))
	_, err := call(t.Context(), w, "v")
	var exit *Exit
	require.ErrorAs(t, err, &exit)
	assert.Equal(t, ReasonSelf, exit.Reason)
	assert.Equal(t, syscall.SIGKILL, exit.Signal)
}

// blocked is a log that blocks until the channel is closed.
type blocked chan struct{}

func (b blocked) Write(p []byte) (int, error) {
	<-b
	return len(p), nil
}

// TestTheFatalErrorOfADeadWorkerIsRead blocks the host until the worker, which has
// reported its fatal error, is gone. The end of the process and that of the connection
// then race, so there are several tries.
func TestTheFatalErrorOfADeadWorkerIsRead(t *testing.T) {
	for range 5 {
		log := make(blocked)
		config := evil(t, "fatal error and dies")
		config.Logger = hclog.New(&hclog.LoggerOptions{Output: log, Level: hclog.Info})
		w := start(t, config)
		go func() {
			<-w.process.done
			close(log)
		}()
		_, err := call(t.Context(), w, "v")
		var exit *Exit
		require.ErrorAs(t, err, &exit)
		require.NotNil(t, exit.Remote)
		assert.Equal(t, "the interpreter ran out of memory", exit.Summary())
	}
}
