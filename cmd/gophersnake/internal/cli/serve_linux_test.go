package cli

import (
	"bytes"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/fixtures"
)

// serving starts gophersnake serve at a free port, and returns its URL when it is ready.
func serving(t *testing.T, args ...string) (p *piped, url string) {
	t.Helper()
	p = started(t, append([]string{"serve", "--listen", "127.0.0.1:0"}, args...)...)
	return p, readUntil(t, p.out, `^ready: (http\S+)\n`)
}

// ask posts a body, and returns the status and the answer.
func ask(t *testing.T, url, body string) (int, string) {
	t.Helper()
	answer, err := http.Post(url, "application/x-www-form-urlencoded", strings.NewReader(body))
	require.NoError(t, err)
	defer func() { _ = answer.Body.Close() }()
	text, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	return answer.StatusCode, string(text)
}

func TestServeAnswersForSeveralPipelinesAndReloadsThem(t *testing.T) {
	folder := codeOf(t, "1")
	p, url := serving(t, "code="+folder, "hello")
	status, text := ask(t, url+"/v1/pipelines/hello", `"Ada"`)
	assert.Equal(t, 200, status)
	assert.Equal(t, "\"GOOD MORNING, ADA!\"\n", text)
	_, text = ask(t, url+"/v1/pipelines/code", "0")
	assert.Equal(t, "1\n", text)
	change(t, folder, "return 2")
	require.NoError(t, p.Process.Signal(syscall.SIGHUP))
	readUntil(t, p.err, `node "n": (reloaded, 1 new worker after)`)
	_, text = ask(t, url+"/v1/pipelines/code", "0")
	assert.Equal(t, "2\n", text)
	require.NoError(t, p.Process.Signal(syscall.SIGTERM))
	_, stderr := p.rest(t)
	assert.Zero(t, p.ProcessState.ExitCode(), stderr)
}

func TestSIGHUPReloadsTheTokens(t *testing.T) {
	tokens := fixtures.Write(t, "tokens", "0123456789abcdef name=first\n")
	p, url := serving(t, "code="+codeOf(t, "1"), "--token-file", tokens)
	status := func(secret string) int {
		req, err := http.NewRequest(http.MethodGet, url+"/healthz", nil)
		require.NoError(t, err)
		req.Header.Set("Authorization", "Bearer "+secret)
		answer, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		require.NoError(t, answer.Body.Close())
		return answer.StatusCode
	}
	assert.Equal(t, 200, status("0123456789abcdef"))
	require.NoError(t, os.WriteFile(tokens, []byte("short"), 0o600))
	require.NoError(t, p.Process.Signal(syscall.SIGHUP))
	readUntil(t, p.err, `(the old ones stay valid)`)
	assert.Equal(t, 200, status("0123456789abcdef"))
	require.NoError(t, os.WriteFile(tokens, []byte("fedcba9876543210 name=second weight=2"), 0o600))
	require.NoError(t, p.Process.Signal(syscall.SIGHUP))
	readUntil(t, p.err, `(the tokens were reloaded)`)
	assert.Equal(t, 401, status("0123456789abcdef"))
	assert.Equal(t, 200, status("fedcba9876543210"))
	require.NoError(t, p.Process.Signal(syscall.SIGTERM))
	_, stderr := p.rest(t)
	assert.Zero(t, p.ProcessState.ExitCode(), stderr)
	assert.NotContains(t, stderr, "fedcba9876543210")
}

func TestServeFinishesItsCallsAfterSIGTERM(t *testing.T) {
	folder := codeOf(t, "0")
	gate := filepath.Join(t.TempDir(), "gate")
	change(t, folder, `open(`+"'"+gate+`.began', 'w').close()
    import os, time
    while not os.path.exists('`+gate+`'): time.sleep(0.01)
    return 7`)
	p, url := serving(t, "slow="+folder)
	answers := make(chan string, 1)
	go func() {
		_, text := ask(t, url+"/v1/pipelines/slow", "0")
		answers <- text
	}()
	require.Eventually(t, func() bool { return fileExists(gate + ".began") }, patience, 1e6)
	require.NoError(t, p.Process.Signal(syscall.SIGTERM))
	readUntil(t, p.err, `(finishing the calls under way)`)
	require.NoError(t, os.WriteFile(gate, nil, 0o600))
	assert.Equal(t, "7\n", <-answers)
	_, _ = p.rest(t)
	assert.Zero(t, p.ProcessState.ExitCode())
}

func TestServeAnswersClientsOfTheOpenInferenceProtocol(t *testing.T) {
	p := started(t, "serve", "--listen", "127.0.0.1:0", "--grpc-listen", "127.0.0.1:0", "code="+codeOf(t, "1"))
	urls := strings.Fields(readUntil(t, p.out, `^ready: (http\S+ grpc://\S+)\n`))
	_, text := ask(t, urls[0]+"/v2/models/code/infer", `{"inputs":[{"name":"value","datatype":"INT64","shape":[1],"data":[0]}]}`)
	assert.Contains(t, text, `"outputs":[{"name":"output","datatype":"INT64","shape":[1],"data":[1]}]`)
	conn, err := grpc.NewClient(strings.TrimPrefix(urls[1], "grpc://"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	health, err := healthpb.NewHealthClient(conn).Check(t.Context(), &healthpb.HealthCheckRequest{Service: "code"})
	require.NoError(t, err)
	assert.Equal(t, healthpb.HealthCheckResponse_SERVING, health.GetStatus())
	require.NoError(t, p.Process.Signal(syscall.SIGTERM))
	_, stderr := p.rest(t)
	assert.Zero(t, p.ProcessState.ExitCode(), stderr)
}

func TestASecondSignalEndsServeAtOnce(t *testing.T) {
	folder := codeOf(t, "0")
	began := filepath.Join(t.TempDir(), "began")
	change(t, folder, "open('"+began+"', 'w').close(); import time; time.sleep(600)")
	p, url := serving(t, "slow="+folder)
	go func() {
		if answer, err := http.Post(url+"/v1/pipelines/slow", "application/json", strings.NewReader("0")); err == nil {
			_ = answer.Body.Close()
		}
	}()
	require.Eventually(t, func() bool { return fileExists(began) }, patience, 1e6)
	require.NoError(t, p.Process.Signal(syscall.SIGTERM))
	readUntil(t, p.err, `(finishing the calls under way)`)
	require.NoError(t, p.Process.Signal(syscall.SIGTERM))
	_, _ = p.rest(t)
	assert.Equal(t, 143, p.ProcessState.ExitCode())
}

func TestServeRefusesWhatIsNotSafeOrWrong(t *testing.T) {
	folder := codeOf(t, "0")
	tokens := fixtures.Write(t, "tokens", "short\n")
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"serve"}, 2, "the PIPELINE is missing"},
		{[]string{"serve", folder, "--listen", "0.0.0.0:0"}, 1, "0.0.0.0:0 is not a loopback address"},
		{[]string{"serve", folder, "--listen", "127.0.0.1:0", "--grpc-listen", "0.0.0.0:0"}, 1, "0.0.0.0:0 is not a loopback address"},
		{[]string{"serve", folder, "--token-file", tokens}, 9, "the token has less than 16 characters"},
		{[]string{"serve", "a=" + folder, "a=" + folder}, 2, "two pipelines have the name a"},
		{[]string{"serve", folder, "--max-body", "much"}, 2, "it takes a size such as 64MiB"},
		{[]string{"serve", folder, "--listen", "nowhere"}, 7, "missing port in address"},
		{[]string{"serve", codeOf(t, "("), "--listen", "127.0.0.1:0"}, 4, "SyntaxError"},
	} {
		var stderr bytes.Buffer
		code := newApp(strings.NewReader(""), io.Discard, &stderr).run(t.Context(), c.args)
		assert.Equal(t, c.code, code, "%v: %s", c.args, &stderr)
		assert.Contains(t, stderr.String(), c.says)
	}
}

func TestTheHelpOfServeNamesEachFlag(t *testing.T) {
	var stdout bytes.Buffer
	require.Zero(t, newApp(strings.NewReader(""), &stdout, io.Discard).run(t.Context(), []string{"serve", "--help"}))
	for _, flag := range []string{"listen", "token-file", "tls-cert", "tls-key", "rate", "insecure", "admin", "drain-timeout", "max-body", "max-memory", "queue", "debug", "watch", "grpc-listen", "nats", "nats-creds", "nats-ca", "label", "name"} {
		assert.Regexp(t, regexp.MustCompile(`(?m)^ +--`+flag+` `), stdout.String())
	}
}

// patience bounds what must happen at once.
const patience = 30 * time.Second

func fileExists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
