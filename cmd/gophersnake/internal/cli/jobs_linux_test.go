package cli

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/runner/cluster"
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

func TestAWebhookIsSubmittedShownAndRefusedFromTheCommandLine(t *testing.T) {
	folder, state := codeOf(t, "value"), filepath.Join(t.TempDir(), "state")
	secret := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(secret, []byte("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n"), 0o600))
	posted := make(chan string, 10)
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		posted <- req.Header.Get("webhook-signature") + " " + string(body)
	}))
	defer receiver.Close()
	serving(t, "code="+folder, "--jobs", "--state", state, "--webhook-secret", secret, "--webhook-allow", "127.0.0.1")
	run := func(args ...string) result { t.Helper(); return command(t, append(args, "--nats", state)...) }
	got := run("submit", "code", "--input", "4", "--id", "x", "--webhook", receiver.URL)
	assert.Equal(t, "code/x\n", got.out, got.err)
	text := <-posted
	assert.Contains(t, text, "v1,")
	assert.Contains(t, text, `"url":"/v1/jobs/code/x"`)
	require.Eventually(t, func() bool { return strings.Contains(run("jobs", "show", "code/x").out, "webhook    delivered") }, patience, 1e7)
	assert.Contains(t, run("jobs", "show", "code/x", "--output", "json").out, `"webhook":{"url":"`+receiver.URL+`","state":"delivered","attempts":1`)
	got = run("submit", "code", "--input", "4", "--webhook", "example.com")
	assert.NotZero(t, got.code)
	assert.Contains(t, got.err, "the URL of the webhook is not valid")
}

func TestFlagsOfWebhooksAreChecked(t *testing.T) {
	folder := codeOf(t, "value")
	wrong := filepath.Join(t.TempDir(), "wrong")
	require.NoError(t, os.WriteFile(wrong, []byte("secret"), 0o600))
	for text, args := range map[string][]string{
		"--webhook-secret is for the jobs":  {"--webhook-secret", wrong},
		"--webhook-allow is for webhooks":   {"--jobs", "--webhook-allow", "10.0.0.0/8"},
		"the secret for webhooks is not in": {"--jobs", "--webhook-secret", wrong},
	} {
		got := command(t, append([]string{"serve", "code=" + folder, "--listen", "127.0.0.1:0", "--state", filepath.Join(t.TempDir(), "s")}, args...)...)
		if strings.Contains(text, "is for the jobs") {
			got = command(t, append([]string{"serve", "code=" + folder, "--listen", "127.0.0.1:0"}, args...)...)
		}
		assert.NotZero(t, got.code)
		assert.Contains(t, got.err, text)
	}
}

func TestSchedulesAreAddedListedAndRemovedFromTheCommandLine(t *testing.T) {
	folder, state := codeOf(t, "value"), filepath.Join(t.TempDir(), "state")
	serving(t, "code="+folder, "--jobs", "--state", state)
	schedule := func(args ...string) result {
		t.Helper()
		return command(t, append(append([]string{"jobs", "schedule"}, args...), "--nats", state)...)
	}
	got := schedule("add", "nightly", "code", "--cron", "30 2 * * *", "--zone", "Asia/Kolkata", "--input", `{"days": 1}`)
	assert.Zero(t, got.code, got.err)
	got = schedule("ls")
	assert.Contains(t, got.out, "nightly  code      30 2 * * *  Asia/Kolkata  -     2", got.err)
	got = schedule("ls", "--output", "json")
	assert.Contains(t, got.out, `"cron":"30 2 * * *","zone":"Asia/Kolkata"`)
	for text, args := range map[string][]string{
		"there is a schedule with this name": {"add", "nightly", "code", "--cron", "@daily"},
		"expected exactly 5 fields":          {"add", "other", "code", "--cron", "30 2"},
		`"cron" not set`:                     {"add", "other", "code"},
		"there are 2 inputs":                 {"add", "other", "code", "--cron", "@daily", "--input", "1", "--input", "2"},
		"there is no such schedule":          {"rm", "other"},
	} {
		got = schedule(args...)
		assert.NotZero(t, got.code)
		assert.Contains(t, got.err, text)
	}
	assert.Zero(t, schedule("rm", "nightly").code)
	assert.NotContains(t, schedule("ls").out, "nightly")
}

func TestTheObjectsOfABucketAreInputs(t *testing.T) {
	folder, state := codeOf(t, "value"), filepath.Join(t.TempDir(), "state")
	serving(t, "code="+folder, "--jobs", "--state", state)
	url, err := cluster.LocalURL(state)
	require.NoError(t, err)
	conn, err := nats.Connect(url)
	require.NoError(t, err)
	defer conn.Close()
	js, err := jetstream.New(conn)
	require.NoError(t, err)
	store, err := js.CreateObjectStore(t.Context(), jetstream.ObjectStoreConfig{Bucket: "clips"})
	require.NoError(t, err)
	_, err = js.CreateObjectStore(t.Context(), jetstream.ObjectStoreConfig{Bucket: "empty"})
	require.NoError(t, err)
	for name, content := range map[string]string{"a/1.txt": "one", "a/b/2.json": `{"n": 2}`, "c.txt": "three", "d.jsonl": "4\n5\n"} {
		_, err := store.PutString(t.Context(), name, content)
		require.NoError(t, err)
	}
	submit := func(args ...string) result {
		t.Helper()
		return command(t, append([]string{"submit", "code", "--nats", state}, args...)...)
	}
	got := submit("objects:clips/a/*", "--batch", "x", "--wait", "--output", "jsonl")
	assert.Equal(t, `{"input":"objects:clips/a/1.txt","result":"one"}`+"\n"+`{"input":"objects:clips/a/b/2.json","result":{"n":2}}`+"\n", got.out, got.err)
	got = submit("objects:clips/c.txt", "--wait")
	assert.Equal(t, "\"three\"\n", got.out, got.err)
	got = submit("objects:clips", "--batch", "x", "--wait", "--output", "jsonl")
	assert.Equal(t, 5, strings.Count(got.out, "\n"), got.out+got.err)
	assert.Contains(t, submit("objects:clips/a/*", "--batch", "x").err, "0 queued, 2 known before")
	for argument, text := range map[string]string{
		"objects:other":     "there is no bucket other",
		"objects:clips/z*":  "no object matches the input objects:clips/z*",
		"objects:empty":     "no object matches the input objects:empty",
		"objects:clips/z":   "read the object clips/z",
		"objects:":          "names no objects",
		"objects:clips/":    "names no objects",
		"objects:a b/c.txt": "there is no bucket a b",
	} {
		got := submit(argument)
		assert.NotZero(t, got.code, argument)
		assert.Contains(t, got.err, text)
	}
}
