package worker

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// withTemplate adds a template to a configuration, without a timeout and without a delay
// before it is restarted.
func withTemplate(t *testing.T, config Config) Config {
	t.Helper()
	config.Template = NewTemplate(config)
	config.Template.answerTimeout, config.Template.firstRestartDelay = long, 0
	t.Cleanup(config.Template.Close)
	return config
}

// forking returns the configuration of a worker of forked.py, with a template.
func forking(t *testing.T, nodeType string, env ...string) Config {
	config := testConfig(t, nodeType)
	config.Setup.Python = "forked.py"
	config.Env = append(config.Env, env...)
	return withTemplate(t, config)
}

// templateOf returns the pid of the template that forked a worker, 0 if it was spawned.
func templateOf(w *Worker) int {
	if f, ok := w.process.handle.(*forkedProcess); ok {
		return f.template.process.pid()
	}
	return 0
}

func assertForked(t *testing.T, w *Worker) {
	t.Helper()
	assert.NotZero(t, templateOf(w), w.config.Template.Note())
}

func assertSpawned(t *testing.T, w *Worker) {
	t.Helper()
	assert.Zero(t, templateOf(w))
}

// assertServes calls a worker whose node returns its input, as it is or under "value".
func assertServes(t *testing.T, w *Worker) {
	t.Helper()
	got, err := call(t.Context(), w, "v")
	require.NoError(t, err)
	if seen, ok := got.(map[string]any); ok {
		got = seen["value"]
	}
	assert.Equal(t, "v", got)
}

// childrenOf returns the processes that have the given parent, the dead included.
func childrenOf(t *testing.T, pid int) (children []int) {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	require.NoError(t, err)
	for _, stat := range stats {
		child, _ := strconv.Atoi(strings.Split(stat, "/")[2])
		if parentOf(child) == pid {
			children = append(children, child)
		}
	}
	return children
}

func descriptorsOf(t *testing.T, pid int) int {
	t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	require.NoError(t, err)
	return len(entries)
}

// readPID waits until a file is written, and returns the process id in it.
func readPID(t *testing.T, file string) int {
	t.Helper()
	eventually(t, exists(file))
	content, err := os.ReadFile(file)
	require.NoError(t, err)
	pid, err := strconv.Atoi(string(content))
	require.NoError(t, err)
	return pid
}

// awaitDeath waits for the end of a process that is not a child of this one.
func awaitDeath(t *testing.T, pid int) {
	t.Helper()
	eventually(t, func() bool { return gone(pid) || isDead(pid) }, "process %d lives", pid)
}

// isDead reports whether a process has exited and is not reaped.
func isDead(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && strings.Contains(string(stat), ") Z ")
}

func kill(t *testing.T, pid int) {
	t.Helper()
	require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
}

// awaitTemplate waits until no start is under way and the template is as wanted.
func awaitTemplate(t *testing.T, template *Template, is func(*templateServer) bool) {
	t.Helper()
	eventually(t, func() bool {
		template.mu.Lock()
		defer template.mu.Unlock()
		return !template.starting && is(template.server)
	})
}

func isReady(s *templateServer) bool { return s != nil }
func isGone(s *templateServer) bool  { return s == nil }

func (b *logBuffer) count(s string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Count(b.buf.String(), s)
}
