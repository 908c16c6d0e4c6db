package worker

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner/internal/testkit"
)

// hangs are ways to hang, each with its kind and the function of the node's innermost
// frame.
var hangs = []struct {
	way, function string
	hang          Hang
}{
	{"sleep", "sleep", HangPython},
	{"spin", "spin", HangPython},
	{"wait_for_a_lock", "wait_for_a_lock", HangPython},
	{"sleep_in_c", "sleep_in_c", HangPython},
	{"sleep_in_c_with_the_gil", "sleep_in_c_with_the_gil", HangGIL},
	{"backtrack", "match", HangGIL}, // a function of re, which is written in Python
	{"stop", "stop", HangStopped},
}

var hangWords = map[Hang]string{
	HangPython:  "; it was blocked in Python (",
	HangGIL:     "; it was blocked in C code that holds the GIL (",
	HangStopped: "; the process was stopped (",
}

func hangConfig(t *testing.T, nodeType string) Config {
	config := testConfig(t, nodeType)
	config.Setup.Python = "hangs.py"
	return config
}

// assertHung checks the autopsy of a hang.
func assertHung(t *testing.T, exit *Exit, reason Reason, hang Hang, function string) {
	t.Helper()
	assert.Equal(t, reason, exit.Reason)
	assert.Equal(t, hang, exit.Hang)
	assert.Contains(t, exit.Error(), hangWords[hang])
	if assert.NotEmpty(t, exit.Traceback, exit.Dump) {
		assert.Equal(t, function, exit.Traceback[len(exit.Traceback)-1].Function)
	}
	assert.True(t, testkit.Gone(exit.PID))
}

func TestACallThatHangsSaysHow(t *testing.T) {
	for _, c := range hangs {
		t.Run(c.way, func(t *testing.T) {
			t.Parallel()
			config := hangConfig(t, "hang")
			config.Timeout = 2 * time.Second
			w := start(t, config)
			_, err := call(t.Context(), w, way(c.way))
			var exit *Exit
			require.ErrorAs(t, err, &exit)
			assertHung(t, exit, ReasonDeadline, c.hang, c.function)
			assert.Contains(t, err.Error(), "no answer within 2s; ")
			assert.Equal(t, &Breach{LimitCall, "no answer", "2s"}, exit.Breach)
		})
	}
}

func TestANodeThatIgnoresItsCancellationSaysHow(t *testing.T) {
	for _, c := range []struct {
		way  string
		hang Hang
	}{
		{"wait_for_a_lock", HangPython}, {"run_a_shell_with_the_gil", HangGIL}, {"stop", HangStopped},
	} {
		t.Run(c.way, func(t *testing.T) {
			t.Parallel()
			config := hangConfig(t, "hang")
			config.Grace = time.Millisecond
			w := start(t, config)
			begun := filepath.Join(t.TempDir(), "begun")
			ctx, cancel := context.WithCancelCause(t.Context())
			go func() {
				testkit.Eventually(t, testkit.Written(begun))
				if c.way == "stop" {
					testkit.Eventually(t, func() bool { stat, err := readStat(procFolder(w.PID())); return err == nil && stat.state == 'T' })
				}
				cancel(errors.New("changed my mind"))
			}()
			_, err := call(ctx, w, way(c.way, begun))
			var canceled *CanceledError
			require.ErrorAs(t, err, &canceled)
			require.NotNil(t, canceled.Exit)
			assert.Equal(t, ReasonCancel, canceled.Exit.Reason)
			assert.Equal(t, c.hang, canceled.Exit.Hang)
			assert.NotEmpty(t, canceled.Exit.Traceback)
			assert.ErrorContains(t, err, "changed my mind; the node kept running for 1ms after its call was canceled, and was killed; ")
		})
	}
}

// The examination of this process would take an hour.
func TestAKillCutsTheExaminationOfAHangShort(t *testing.T) {
	config := hangConfig(t, "hang")
	config.Grace = time.Millisecond
	w := start(t, config)
	w.process.hangTimeouts = hangTimeouts{time.Hour, time.Hour}
	begun := filepath.Join(t.TempDir(), "begun")
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		testkit.Eventually(t, func() bool { stat, err := readStat(procFolder(w.PID())); return err == nil && stat.state == 'D' })
		cancel()
		testkit.Eventually(t, func() bool { return !w.Alive() }) // it is examined from now on
		w.Close(ctx)
	}()
	_, err := call(ctx, w, way("wait_for_a_fork_with_the_gil", begun))
	var canceled *CanceledError
	require.ErrorAs(t, err, &canceled)
	require.NotNil(t, canceled.Exit)
	assert.Equal(t, ReasonCancel, canceled.Exit.Reason)
	assert.Empty(t, canceled.Exit.Hang)
}

// startHang is the timeout of a start that hangs. The interpreter must have come to the hang
// by then, on a busy machine, too.
const startHang = 5 * time.Second

func TestAStartThatHangsSaysHow(t *testing.T) {
	for _, c := range hangs {
		t.Run("in setup: "+c.way, func(t *testing.T) {
			t.Parallel()
			config := hangConfig(t, "HangsInSetup")
			config.Setup.Params = ipc.Object{{Key: "way", Value: c.way}}
			config.StartTimeout = startHang
			assertHung(t, startFails(t, config).Exit, ReasonStartTimeout, c.hang, c.function)
		})
		t.Run("in the import: "+c.way, func(t *testing.T) {
			t.Parallel()
			config := hangConfig(t, "hang")
			config.Env = append(config.Env, "HANGS="+c.way)
			config.StartTimeout = startHang
			assertHung(t, startFails(t, config).Exit, ReasonStartTimeout, c.hang, c.function)
		})
	}
}

func TestAnEventLoopThatHangsSaysHow(t *testing.T) {
	for _, c := range hangs {
		t.Run(c.way, func(t *testing.T) {
			t.Parallel()
			config := hangConfig(t, "hang_later")
			config.Timeout, config.Grace = 2*time.Second, time.Millisecond
			w := start(t, config)
			_, err := call(t.Context(), w, way(c.way))
			var exit *Exit
			require.ErrorAs(t, err, &exit)
			assertHung(t, exit, ReasonDeadline, c.hang, c.function)
		})
	}
}

func TestAThreadThatHoldsTheGILIsFound(t *testing.T) {
	config := hangConfig(t, "hang")
	config.Timeout = 2 * time.Second
	w := start(t, config)
	_, err := call(t.Context(), w, way("hold_the_gil_in_a_thread"))
	var exit *Exit
	require.ErrorAs(t, err, &exit)
	assert.Equal(t, HangGIL, exit.Hang)
	assert.Contains(t, exit.Dump, "sleep_in_c_with_the_gil")
}

func TestAHangThatCannotBeExaminedIsNotGuessed(t *testing.T) {
	t.Run("the node has closed the heartbeat", func(t *testing.T) {
		config := hangConfig(t, "hang")
		config.Timeout = 2 * time.Second
		w := start(t, config)
		_, err := call(t.Context(), w, way("close_all_and_sleep"))
		var exit *Exit
		if errors.As(err, &exit) { // it may have closed the socket first, which breaks the connection
			assert.Equal(t, ReasonDeadline, exit.Reason)
			assert.Empty(t, exit.Hang)
			assert.NotContains(t, exit.Error(), ";")
		}
	})
	t.Run("no worker runs", func(t *testing.T) {
		config := testConfig(t, "echo")
		config.Python = script(t, "#!/bin/sh\nexec sleep 3600\n", 0o700)
		config.StartTimeout = time.Second
		failed := startFails(t, config)
		assert.Equal(t, ReasonStartTimeout, failed.Exit.Reason)
		assert.Empty(t, failed.Exit.Hang)
	})
}

func TestAForkedWorkerThatHangsOrTakesTooMuchSaysHow(t *testing.T) {
	config := withTemplate(t, hangConfig(t, "hang"))
	config.Timeout = 2 * time.Second
	for _, c := range []struct {
		way  string
		hang Hang
	}{
		{"wait_for_a_lock", HangPython}, {"sleep_in_c_with_the_gil", HangGIL}, {"stop", HangStopped},
	} {
		t.Run(c.way, func(t *testing.T) {
			w := start(t, config)
			assertForked(t, w)
			_, err := call(t.Context(), w, way(c.way))
			var exit *Exit
			require.ErrorAs(t, err, &exit)
			assertHung(t, exit, ReasonDeadline, c.hang, c.way)
		})
	}
	t.Run("memory", func(t *testing.T) {
		w := start(t, withTemplate(t, limitsConfig(t, "take_all", Limits{Resident: 150 * mega})))
		assertForked(t, w)
		exit := endsOf(t, w, "alone")
		assert.Equal(t, ReasonMemory, exit.Reason)
		assert.Equal(t, LimitResident, exit.Breach.Limit)
	})
}
