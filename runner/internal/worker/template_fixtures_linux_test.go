package worker

import (
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/runner/internal/testkit"
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
	parent := parentOf(w.process.handle.(*reapedProcess).reaper.id)
	if parent == os.Getpid() {
		return 0
	}
	return parent
}

// parentOf returns the parent of a process, 0 if there is none.
func parentOf(pid int) int {
	stat, _ := readStat(procFolder(pid)) // without the process it is empty
	return stat.parent
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

// awaitDeath waits for the end of a process that is not a child of this one.
func awaitDeath(t *testing.T, pid int) {
	t.Helper()
	testkit.Eventually(t, func() bool { return !testkit.Alive(pid) }, "process %d lives", pid)
}

func kill(t *testing.T, pid int) {
	t.Helper()
	require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
}

// awaitTemplate waits until no start is under way and the template is as wanted.
func awaitTemplate(t *testing.T, template *Template, is func(*templateServer) bool) {
	t.Helper()
	testkit.Eventually(t, func() bool {
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
