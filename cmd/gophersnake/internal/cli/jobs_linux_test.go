package cli

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestJobsAreQueuedShownRetriedAndAwaitedFromTheCommandLine(t *testing.T) {
	folder, state := codeOf(t, "1 / value"), filepath.Join(t.TempDir(), "state")
	p, url := serving(t, "code="+folder, "--jobs", "--state", state)
	jobs := func(args ...string) result { t.Helper(); return command(t, append(args, "--nats", state)...) }

	got := jobs("submit", "code", "--input", "4", "--wait")
	assert.Equal(t, "0.25\n", got.out, got.err)

	got = jobs("submit", "code", "--input", "0", "--id", "zero")
	assert.Equal(t, "code/zero\n", got.out, got.err)
	got = jobs("jobs", "wait", "code/zero")
	assert.Equal(t, 4, got.code)
	assert.Contains(t, got.err, "ZeroDivisionError")
	got = jobs("jobs", "ls", "code", "--state", "failed")
	assert.Contains(t, got.out, "code/zero  failed")
	got = jobs("jobs", "show", "code/zero")
	assert.Contains(t, got.out, "Traceback (most recent call last)")
	got = jobs("jobs", "show", "code/zero", "--output", "json")
	assert.Contains(t, got.out, `"state":"failed"`)
	got = jobs("jobs", "cancel", "code/zero")
	assert.Contains(t, got.err, "the job code/zero has ended: it is failed")
	got = jobs("jobs", "show", "zero")
	assert.Equal(t, 2, got.code)
	got = jobs("submit", "other", "--input", "1")
	assert.Equal(t, 3, got.code)
	assert.Contains(t, got.err, "there are queues of code")
	require.Eventually(t, func() bool {
		answer, err := http.Get(url + "/metrics")
		require.NoError(t, err)
		text, err := io.ReadAll(answer.Body)
		require.NoError(t, err)
		require.NoError(t, answer.Body.Close())
		return strings.Contains(string(text), `gophersnake_jobs_waiting{pipeline="code"} 0`) &&
			strings.Contains(string(text), `gophersnake_jobs_begins_total{machine="`) &&
			strings.Contains(string(text), `pipeline="code"} 2`)
	}, patience, 1e7)

	require.NoError(t, p.Process.Signal(syscall.SIGTERM))
	_, stderr := p.rest(t)
	assert.Zero(t, p.ProcessState.ExitCode(), stderr)
	got = jobs("jobs", "ls")
	assert.Contains(t, got.err, "no NATS server runs in "+state)
}

func TestASubmitThatIsRunAgainQueuesOnlyWhatIsMissing(t *testing.T) {
	folder, state := codeOf(t, "value"), filepath.Join(t.TempDir(), "state")
	serving(t, "code="+folder, "--jobs", "--state", state)
	inputs := t.TempDir()
	for _, name := range []string{"a", "b", "c"} {
		require.NoError(t, os.WriteFile(filepath.Join(inputs, name+".txt"), []byte(name), 0o600))
	}
	submit := func(pattern string, more ...string) result {
		return command(t, append([]string{"submit", "code", "--nats", state, "--batch", "x", "--input", filepath.Join(inputs, pattern)}, more...)...)
	}
	assert.Contains(t, submit("[ab].txt").err, "2 queued, 0 known before")
	got := submit("*.txt", "--wait", "--output", "jsonl")
	assert.Zero(t, got.code, got.err)
	for i, line := range strings.Split(strings.TrimSpace(got.out), "\n") {
		assert.Contains(t, line, `"result":"`+string("abc"[i])+`"`)
	}
	assert.Contains(t, submit("*.txt").err, "0 queued, 3 known before")
}
