package worker

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/runner/internal/isolation"
	"github.com/gophersnake/gophersnake/runner/internal/testkit"
)

// attacks are what the node hostile does to survive.
var attacks = [][]string{
	{"close"},
	{"clear", "ignore"},
	{"sessions"},
	{"daemons"},
	{"stopped", "stop"},
	{"forks"},
	{"clear", "ignore", "sessions", "daemons", "stopped", "forks", "close"},
}

// kinds are the ways in which a worker is started.
var kinds = []string{"spawned", "forked", "isolated", "isolated with signals"}

// hostileConfig returns the configuration of a worker whose processes have the mark in
// their environment. It may write to the folder.
func hostileConfig(t *testing.T, kind, folder, mark string) Config {
	config := testConfig(t, "hostile")
	config.Setup.Python = "hostile.py"
	config.Env = append(config.Env, marking+mark)
	switch kind {
	case "forked":
		config = withTemplate(t, config)
	case "isolated", "isolated with signals":
		config.Isolation = hostileProfile(t, config, folder)
		config.Isolation.Signals = kind != "isolated"
	}
	return config
}

const marking = "HOSTILE_MARK="

func hostileProfile(t *testing.T, config Config, folder string) *isolation.Profile {
	p := &isolation.Profile{Processes: isolation.AnyNumber}
	if missing := p.Missing(); len(missing) > 0 {
		t.Skip(missing)
	}
	out, err := exec.Command(config.Python, "-c", "import os, sys; print(os.path.realpath(sys.executable), *{sys.prefix, sys.base_prefix, os.path.dirname(__import__('msgpack').__path__[0])})").Output()
	require.NoError(t, err)
	p.Read = append(strings.Fields(string(out)), config.Setup.Base, packageDir, filepath.Dir(config.Python))
	p.Write = []string{folder}
	return p
}

// marked returns the living processes whose environment has a mark that begins so.
func marked(mark string) []string {
	var found []string
	files, _ := filepath.Glob("/proc/[0-9]*/environ") // it fails only for a malformed pattern
	for _, file := range files {
		content, _ := os.ReadFile(file) // a process that has ended, or belongs to another user, has no mark
		for entry := range bytes.SplitSeq(content, []byte{0}) {
			if name, ok := strings.CutPrefix(string(entry), marking+mark); ok {
				line, _ := os.ReadFile(filepath.Dir(file) + "/cmdline")
				found = append(found, fmt.Sprintf("%s %s %.40q", filepath.Dir(file), name, bytes.ReplaceAll(line, []byte{0}, []byte{' '})))
			}
		}
	}
	return found
}

// attack starts a worker, and returns when its node has done what it can.
func attack(t *testing.T, config Config, folder string, ways ...string) *Worker {
	t.Helper()
	w := start(t, config)
	file := filepath.Join(folder, strconv.Itoa(w.PID()))
	ended := make(chan error, 1)
	go func() {
		_, err := call(context.Background(), w, map[string]any{"ways": ways, "file": file})
		ended <- err
	}()
	testkit.Eventually(t, func() bool { return testkit.Exists(file)() || len(ended) > 0 })
	if !testkit.Exists(file)() {
		require.NoError(t, <-ended)
	}
	return w
}

// superviseHostileNodes is the supervisor that the test kills.
func superviseHostileNodes(t *testing.T, folder string) {
	kind, mark := os.Getenv("HOSTILE_KIND"), os.Getenv("HOSTILE_TEST")
	embedded := exec.Command("sleep", "3600")
	embedded.Env = append(os.Environ(), "EMBEDDED_MARK="+mark)
	require.NoError(t, embedded.Start())
	require.NoError(t, os.WriteFile(filepath.Join(folder, "embedded"), []byte(strconv.Itoa(embedded.Process.Pid)), 0o600))
	for i, ways := range attacks {
		attack(t, hostileConfig(t, kind, folder, fmt.Sprint(mark, i)), folder, ways...)
	}
	require.NoError(t, os.WriteFile(filepath.Join(folder, "ready"), []byte("ready"), 0o600))
	select {}
}

func TestNothingOfAHostileNodeOutlivesAKilledSupervisor(t *testing.T) {
	if folder := os.Getenv("HOSTILE_FOLDER"); folder != "" {
		superviseHostileNodes(t, folder)
	}
	for _, user := range []int{0, otherUser} {
		for _, kind := range kinds {
			t.Run(fmt.Sprintf("%s, user %d", kind, user), func(t *testing.T) {
				supervisor, folder, mark := hostileSupervisor(t, kind, user)
				testkit.Eventually(t, func() bool {
					return testkit.Exists(filepath.Join(folder, "ready"))() || testkit.IsZombie(supervisor.Process.Pid)
				})
				require.True(t, testkit.Exists(filepath.Join(folder, "ready"))(), "the supervisor failed")
				before := len(marked(mark))
				require.Greater(t, before, 10)
				kill(t, supervisor.Process.Pid)
				killed := time.Now()
				testkit.Eventually(t, func() bool { return len(marked(mark)) == 0 || time.Since(killed) > long/2 })
				assert.Empty(t, marked(mark))
				t.Logf("%d processes ended within %v", before, time.Since(killed))
				embedded := testkit.AwaitPID(t, filepath.Join(folder, "embedded"))
				assert.True(t, testkit.Alive(embedded), "the embedder's own child lives on")
				kill(t, embedded)
			})
		}
	}
}

// hostileSupervisor starts the calling test again as another process, of the given user.
func hostileSupervisor(t *testing.T, kind string, user int) (cmd *exec.Cmd, folder, mark string) {
	if user != os.Geteuid() && os.Geteuid() != 0 {
		t.Skip("only root can become another user")
	}
	self, err := os.ReadFile("/proc/self/exe")
	require.NoError(t, err)
	folder, err = os.MkdirTemp("/tmp", "hostile-") // its name is short enough for sockets
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	program := filepath.Join(folder, "supervisor")
	require.NoError(t, os.WriteFile(program, self, 0o755))
	require.NoError(t, os.Chmod(folder, 0o777))
	mark = filepath.Base(folder) + "-"
	test, _, _ := strings.Cut(t.Name(), "/")
	cmd = exec.Command(program, "-test.run=^"+test+"$", "-test.timeout=120s")
	cmd.Env = append(os.Environ(), "HOSTILE_FOLDER="+folder, "HOSTILE_KIND="+kind, "HOSTILE_TEST="+mark, "TMPDIR="+folder)
	if user != os.Geteuid() {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(user), Gid: uint32(user)}}
		cmd.Env = append(cmd.Env, openPython(t, folder)...)
	}
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd, folder, mark
}

// openPython returns variables with which other users find an interpreter that they can run,
// and msgpack, which is copied into the folder.
func openPython(t *testing.T, folder string) []string {
	const path = "/usr/bin:/bin"
	out, err := exec.Command(testkit.Python(t), "-c", "import msgpack; print(msgpack.__path__[0])").Output()
	require.NoError(t, err)
	modules := filepath.Join(folder, "modules")
	require.NoError(t, os.CopyFS(filepath.Join(modules, "msgpack"), os.DirFS(strings.TrimSpace(string(out)))))
	python := exec.Command("/usr/bin/python3", "-c", "import msgpack")
	python.Env = []string{"PYTHONPATH=" + modules}
	if err := python.Run(); err != nil {
		t.Skip("needs a Python that other users can run: ", err)
	}
	return []string{"PATH=" + path, "PYTHONPATH=" + modules, "VIRTUAL_ENV="}
}

func TestNothingOfAHostileNodeOutlivesItsWorker(t *testing.T) {
	ends := map[string]func(w *Worker){
		"its own":   func(*Worker) {},
		"a timeout": func(w *Worker) { w.process.end(ReasonDeadline) },
		"a kill":    func(w *Worker) { w.Kill() },
		"a close":   func(w *Worker) { w.Close(t.Context()) },
	}
	for _, kind := range kinds {
		for end, cause := range ends {
			t.Run(kind+", "+end, func(t *testing.T) {
				folder := t.TempDir()
				mark := filepath.Base(filepath.Dir(folder)) + "-"
				config := hostileConfig(t, kind, folder, mark)
				config.Grace = time.Millisecond
				ways := []string{"clear", "ignore", "sessions", "daemons", "stopped", "forks"}
				if end == "its own" {
					ways = append(ways, "end")
				}
				w := attack(t, config, folder, ways...)
				cause(w)
				<-w.Done()
				config.Template.Close()
				assert.Empty(t, marked(mark))
				assert.False(t, w.Exit().Unknown)
			})
		}
	}
}

func TestAWorkerThatKillsItsReaperIsEnded(t *testing.T) {
	for _, kind := range []string{"spawned", "forked"} {
		t.Run(kind, func(t *testing.T) {
			folder := t.TempDir()
			mark := filepath.Base(filepath.Dir(folder)) + "-"
			config := hostileConfig(t, kind, folder, mark)
			w := attack(t, config, folder, "clear", "ignore", "sessions", "reaper")
			<-w.Done()
			assert.True(t, w.Exit().Unknown)
			assert.ErrorContains(t, w.Exit(), "how is unknown")
			config.Template.Close()
			testkit.Eventually(t, func() bool { return len(marked(mark)) == 0 }, "killed, and reaped by another process")
		})
	}
}

func TestAStoppedReaperStillReportsTheEndOfItsWorker(t *testing.T) {
	for _, kind := range []string{"spawned", "forked"} {
		t.Run(kind, func(t *testing.T) {
			folder := t.TempDir()
			mark := filepath.Base(filepath.Dir(folder)) + "-"
			w := attack(t, hostileConfig(t, kind, folder, mark), folder, "daemons")
			require.NoError(t, syscall.Kill(w.process.handle.(*reapedProcess).reaper.id, syscall.SIGSTOP))
			w.Kill()
			assert.Equal(t, syscall.SIGKILL, w.Exit().Signal)
			w.config.Template.Close()
			assert.Empty(t, marked(mark))
		})
	}
}

func TestAnIsolatedWorkerCannotKillItsReaper(t *testing.T) {
	folder := t.TempDir()
	mark := filepath.Base(filepath.Dir(folder)) + "-"
	w := start(t, hostileConfig(t, "isolated", folder, mark))
	_, err := call(t.Context(), w, map[string]any{"ways": []string{"reaper"}, "file": filepath.Join(folder, "ready")})
	require.ErrorContains(t, err, "PermissionError")
	assert.True(t, w.Alive())
}

func TestAnEmbeddersChildrenAreNotTouched(t *testing.T) {
	child := func() (*exec.Cmd, int) {
		file := filepath.Join(t.TempDir(), "daemon")
		cmd := exec.Command("/bin/sh", "-c", `setsid sleep 3600 & echo $! > "$0"; exit 3`, file)
		require.NoError(t, cmd.Start())
		daemon := testkit.AwaitPID(t, file)
		t.Cleanup(func() { _ = syscall.Kill(daemon, syscall.SIGKILL) })
		return cmd, daemon
	}
	before, daemonBefore := child()
	for _, kind := range kinds {
		folder := t.TempDir()
		w := attack(t, hostileConfig(t, kind, folder, filepath.Base(filepath.Dir(folder))), folder, "sessions", "daemons")
		after, daemonAfter := child()
		w.Kill()
		for _, cmd := range []*exec.Cmd{before, after} {
			if cmd.ProcessState == nil {
				require.ErrorContains(t, cmd.Wait(), "exit status 3", "its parent reaps it")
			}
		}
		assert.True(t, testkit.Alive(daemonBefore) && testkit.Alive(daemonAfter))
	}
}

// A fork would end such a thread, so the worker begins with a new interpreter.
func TestAThreadThatTheInterpreterStartsByItselfRunsInTheWorker(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	for name, text := range map[string]string{
		"sitecustomize.py": `
import threading
ASKED, ANSWERED = threading.Event(), threading.Event()
def answer():
    ASKED.wait()
    ANSWERED.set()
threading.Thread(target=answer, daemon=True).start()
`,
		"asks.py": `
import sitecustomize, sys
from gophersnake import node
@node
def ask(value):
    sitecustomize.ASKED.set()
    return [sitecustomize.ANSWERED.wait(value), len(sys.argv)]
`,
	} {
		require.NoError(t, os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600))
	}
	config := testConfig(t, "ask")
	config.Setup.Base, config.Setup.Python = folder, "asks.py"
	config.Env = append(config.Env, "PYTHONPATH="+folder, "PYTHONSAFEPATH=1")
	w := start(t, config)
	got, err := call(t.Context(), w, int64(60))
	require.NoError(t, err)
	assert.Equal(t, []any{true, int64(1)}, got)
	w.Kill()
	assert.Equal(t, ReasonKilled, w.Exit().Reason)
}
