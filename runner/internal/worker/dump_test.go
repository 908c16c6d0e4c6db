package worker

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner/internal/testkit"
)

// serving is the stack of the thread that runs the node's code.
const serving = `  File "/node.py", line 5 in inner
  File "/node.py", line 9 in process
  File "/pkg/gophersnake/_worker/process/worker.py", line 3 in _answer
  File "/pkg/__main__.py", line 6 in <module>
`

func TestTheStackThatExplainsTheEndIsFound(t *testing.T) {
	const thread = `  File "/lib/threading.py", line 1 in wait
  File "/lib/threading.py", line 2 in _bootstrap
`
	const threadloop = `  File "/pkg/gophersnake/_worker/serving/threadloop.py", line 8 in `
	const calling = "Thread 0x03 (most recent call first):\n  File \"/node.py\", line 5 in inner\n  File \"/node.py\", line 9 in process\n" +
		threadloop + "_call\n" + threadloop + "run\n" + threadloop + "_work\n" + thread
	const waiting = "Thread 0x04 (most recent call first):\n" + threadloop + "_work\n" + thread
	const looping = `Thread 0x05 (most recent call first):
  File "/lib/selectors.py", line 1 in select
  File "/pkg/gophersnake/_worker/serving/eventloop.py", line 3 in serve
  File "/pkg/__main__.py", line 6 in <module>
`
	for _, c := range []struct {
		name, dump string
		forced     bool
		want       string // functions, outermost first
	}{
		{"the only thread", "Fatal Python error: Segmentation fault\n\nCurrent thread 0x00007f5c (most recent call first):\n" + serving, false, "process inner"},
		{"as it is ended", "Fatal Python error: Aborted\n\nCurrent thread 0x00007f5c (most recent call first):\n" + serving, true, "process inner"},
		{"a crash in another thread", "Fatal Python error: Segmentation fault\n\nCurrent thread 0x01 (most recent call first):\n" + thread +
			"\nThread 0x02 (most recent call first):\n" + serving, false, "_bootstrap wait"},
		{"ended, but the signal landed elsewhere", "Fatal Python error: Aborted\n\nCurrent thread 0x01 (most recent call first):\n" + thread +
			"\nThread 0x02 (most recent call first):\n" + serving, true, "process inner"},
		{"ended, with other threads", "Fatal Python error: Aborted\n\nThread 0x01 (most recent call first):\n" + thread +
			"\nCurrent thread 0x02 (most recent call first):\n" + serving, true, "process inner"},
		{"a crash in a thread that Python does not know", "Fatal Python error: Segmentation fault\n\nThread 0x01 (most recent call first):\n" + thread +
			"\nThread 0x02 (most recent call first):\n" + serving, false, "process inner"},
		{"a thread of the worker's own beside it", "Fatal Python error: Aborted\n\nCurrent thread 0x02 (most recent call first):\n" + serving +
			"\nThread 0x01 (most recent call first):\n  File \"/pkg/gophersnake/_worker/process/handshake.py\", line 76 in wait\n" + thread, true, "process inner"},
		{"3.14, with names and C's stack", "Fatal Python error: Segmentation fault\n\nCurrent thread 0x00007f5c [python] (most recent call first):\n" + serving +
			"\nCurrent thread's C stack trace (most recent call first):\n  Binary file \"/usr/bin/python3.14\", at _Py_DumpStack+0x30 [0x4b53b0]\n", false, "process inner"},
		{"3.14, a crash in another thread", "Fatal Python error: Segmentation fault\n\nCurrent thread 0x01 [pool] (most recent call first):\n" + thread +
			"\nThread 0x02 [python] (most recent call first):\n" + serving +
			"\nCurrent thread's C stack trace (most recent call first):\n  Binary file \"/usr/bin/python3.14\", at +0x30 [0x4b53b0]\n", false, "_bootstrap wait"},
		{"without the GIL", "Fatal Python error: Segmentation fault\n\n<Cannot show all threads while the GIL is disabled>\nStack (most recent call first):\n" + serving +
			"\nCurrent thread's C stack trace (most recent call first):\n  <cannot get C stack on this system>\n", true, "process inner"},
		{"os._exit", "gophersnake: os._exit(3)\n\nStack (most recent call first):\n" + serving, false, "process inner"},
		{"collecting garbage", "Fatal Python error: Segmentation fault\n\nCurrent thread 0x01 (most recent call first):\n  Garbage-collecting\n" + serving, false, "process inner"},
		{"extension modules", "Fatal Python error: Aborted\n\nCurrent thread 0x01 (most recent call first):\n" + serving + "\nExtension modules: numpy, msgpack._cmsgpack (total: 2)\n", true, "process inner"},
		{"cut where it was too deep", "Current thread 0x01 (most recent call first):\n" + strings.Repeat("  File \"/node.py\", line 5 in deep\n", 100) + "  ...\n", true, strings.Repeat("deep ", 99) + "deep"},
		{"the worker's own failure", "Current thread 0x01 (most recent call first):\n  File \"/pkg/gophersnake/_worker/process/worker.py\", line 3 in _answer\n  File \"/pkg/__main__.py\", line 6 in <module>\n", false, "<module> _answer"},
		{"ended, with a call in a thread", "Fatal Python error: Aborted\n\n" + calling + "\n" + waiting + "\n" + looping, true, "process inner"},
		{"ended, with calls in two threads", "Fatal Python error: Aborted\n\n" + calling + "\n" + calling + "\n" + looping, true, ""},
		{"a crash in one of two threads", "Fatal Python error: Aborted\n\n" + strings.Replace(calling, "Thread", "Current thread", 1) + "\n" + calling + "\n" + looping, false, "process inner"},
		{"no frames", "Fatal Python error: Segmentation fault\n\nCurrent thread 0x01 (most recent call first):\n  <no Python frame>\n", false, ""},
		{"frames without a head", serving, true, ""},
		{"garbage", "\x00\xff" + strings.Repeat("x", 1<<17), true, ""},
		{"nothing", "", true, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var functions []string
			for _, f := range parseDump(c.dump, "/pkg", c.forced, nil) {
				functions = append(functions, f.Function)
			}
			assert.Equal(t, c.want, strings.Join(functions, " "))
		})
	}
}

func TestTheFieldsOfAFrameAreParsed(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "né.py")
	require.NoError(t, os.WriteFile(file, []byte("first\n\tsecond(1)  \n"), 0o600))
	for _, c := range []struct {
		line string
		want ipc.TracebackFrame
	}{
		{`  File "` + strings.ReplaceAll(file, "é", `\xe9`) + `", line 2 in \u4f60`, ipc.TracebackFrame{File: file, Line: 2, Function: "你", Source: "second(1)"}},
		{`  File "` + file + `", line 9 in f`, ipc.TracebackFrame{File: file, Line: 9, Function: "f"}},
		{`  File "/a "quoted", line 3 in x.py", line ??? in f`, ipc.TracebackFrame{File: `/a "quoted", line 3 in x.py`, Function: "f"}},
		{`  File "/b\udcff\U0001f40d", line 1 in f`, ipc.TracebackFrame{File: "/b\xff🐍", Line: 1, Function: "f"}},
		{`  File "<string>", line 1 in <module>`, ipc.TracebackFrame{File: "<string>", Line: 1, Function: "<module>"}},
		{`  File "dump_test.go", line 1 in relative`, ipc.TracebackFrame{File: "dump_test.go", Line: 1, Function: "relative"}},
		{`  File "` + dir + `", line 1 in folder`, ipc.TracebackFrame{File: dir, Line: 1, Function: "folder"}},
	} {
		t.Run(c.line, func(t *testing.T) {
			got := parseDump("Stack (most recent call first):\n"+c.line+"\n", "", false, nil)
			assert.Equal(t, []ipc.TracebackFrame{c.want}, got)
		})
	}
}

func TestAPipeThatPosesAsSourceBlocksNothing(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "pipe.py")
	require.NoError(t, syscall.Mkfifo(pipe, 0o600))
	assert.Empty(t, sourceLine(pipe, 1, nil))
}

// TestEveryInterpretersDumpIsRead runs workers under each suitable interpreter of the
// machine, without compiled extensions.
func TestEveryInterpretersDumpIsRead(t *testing.T) {
	home, err := os.UserHomeDir()
	require.NoError(t, err)
	// pyenv's folder of interpreters.
	pythons, err := filepath.Glob(filepath.Join(home, ".pyenv", "versions", "3.1[0-9]*", "bin", "python"))
	require.NoError(t, err)
	if len(pythons) == 0 {
		t.Skip("there are no further interpreters")
	}
	folder, err := exec.Command(testkit.Python(t), "-c", "import msgpack; print(msgpack.__path__[0])").Output()
	require.NoError(t, err)
	modules := t.TempDir()
	require.NoError(t, os.Symlink(strings.TrimSpace(string(folder)), filepath.Join(modules, "msgpack")))
	for _, python := range pythons {
		t.Run(filepath.Base(filepath.Dir(filepath.Dir(python))), func(t *testing.T) {
			t.Parallel()
			config := testConfig(t, "misbehave")
			config.Python = python
			config.Env = append(config.Env, "PYTHONPATH="+modules)
			config.Timeout = 2 * time.Second
			for _, c := range []struct{ way, function string }{
				{"hang", "hang"}, {"hold_the_gil", "hold_the_gil"}, {"hang_beside_a_thread", "hang_beside_a_thread"},
				{"hang_deep", "hang_deep"}, {"crash", "string_at"}, {"crash_in_a_thread", "string_at"},
			} {
				w := start(t, config)
				_, err := call(t.Context(), w, way(c.way))
				var exit *Exit
				require.ErrorAs(t, err, &exit)
				require.NotEmpty(t, exit.Traceback, exit.Dump)
				last := exit.Traceback[len(exit.Traceback)-1]
				assert.Equal(t, c.function, last.Function, exit.Dump)
				for _, f := range exit.Traceback {
					assert.False(t, strings.HasPrefix(f.File, packageDir), "%v is the worker's own", f)
				}
			}
		})
	}
}

// The dump of an isolated process may name files that only the supervisor may read.
func TestSourceIsReadOnlyWhereTheProcessMayReadIt(t *testing.T) {
	code, secret := t.TempDir(), filepath.Join(t.TempDir(), "secret.py")
	require.NoError(t, os.WriteFile(secret, []byte("a secret\n"), 0o600))
	own := filepath.Join(code, "own.py")
	require.NoError(t, os.WriteFile(own, []byte("own code\n"), 0o600))
	link := filepath.Join(code, "link.py")
	require.NoError(t, os.Symlink(secret, link))
	up := code + "/../" + filepath.Base(filepath.Dir(secret)) + "/secret.py"
	pipe := filepath.Join(code, "pipe")
	require.NoError(t, syscall.Mkfifo(pipe, 0o600))
	for file, want := range map[string]string{own: "own code", secret: "", link: "", up: "", pipe: "", "own.py": ""} {
		frames := parseDump(fmt.Sprintf("Stack (most recent call first):\n  File %q, line 1 in f\n", file), "", false, []string{code})
		require.Len(t, frames, 1)
		assert.Equal(t, want, frames[0].Source, file)
	}
	assert.Equal(t, "a secret", sourceLine(secret, 1, nil), "a process that is not isolated has the supervisor's rights")
}
