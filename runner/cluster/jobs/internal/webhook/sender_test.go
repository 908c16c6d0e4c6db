package webhook_test

import (
	"context"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/cluster/jobs/internal/webhook"
	"github.com/gophersnake/gophersnake/runner/internal/testkit"
)

const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

// receiver answers each request with a handler, and counts those.
type receiver struct {
	*httptest.Server
	requests atomic.Int32
}

func listen(t *testing.T, secure bool, handler http.HandlerFunc) *receiver {
	t.Helper()
	r := &receiver{}
	counted := http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.requests.Add(1)
		handler(w, req)
	})
	r.Server = httptest.NewUnstartedServer(counted)
	r.Config.ErrorLog = nil
	if secure {
		r.StartTLS()
	} else {
		r.Start()
	}
	t.Cleanup(r.Close)
	return r
}

func newSender(t *testing.T, c webhook.Config) *webhook.Sender {
	t.Helper()
	if c.Secrets == nil {
		c.Secrets = []string{secret}
	}
	if c.Timeout == 0 {
		c.Timeout = testkit.Long
	}
	s, err := webhook.New(c)
	require.NoError(t, err)
	return s
}

func accept(http.ResponseWriter, *http.Request) {}

func TestAReceiverVerifiesADocumentWithEachOfTheSecrets(t *testing.T) {
	t.Parallel()
	const other = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
	type request struct {
		header http.Header
		body   []byte
	}
	got := make(chan request, 1)
	r := listen(t, true, func(_ http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		got <- request{req.Header, body}
	})
	roots := x509.NewCertPool()
	roots.AddCert(r.Certificate())
	s := newSender(t, webhook.Config{Secrets: []string{secret, other}, Allow: []string{"127.0.0.0/8"}, Roots: roots})
	require.NoError(t, s.Post(t.Context(), r.URL+"/path?query=1", "job_1", []byte(`{"state":"done"}`)))
	found := <-got
	assert.Equal(t, "job_1", found.header.Get("webhook-id"))
	assert.Equal(t, "application/json", found.header.Get("Content-Type"))
	for _, key := range []string{secret, other} {
		verifier, err := standardwebhooks.NewWebhook(key)
		require.NoError(t, err)
		require.NoError(t, verifier.Verify(found.body, found.header))
		require.Error(t, verifier.Verify([]byte(`{"state":"failed"}`), found.header))
	}
}

func TestOnlyPublicAndAllowedAddressesAreReached(t *testing.T) {
	t.Parallel()
	const public = "is not public"
	r := listen(t, true, accept)
	_, port, err := net.SplitHostPort(r.Listener.Addr().String())
	require.NoError(t, err)
	for _, host := range []string{
		"127.0.0.1", "localhost", "127.1.2.3", "0.0.0.0", "[::1]", "[::]", "[::ffff:127.0.0.1]", "10.1.2.3", "172.16.0.1", "192.168.1.1",
		"169.254.169.254", "[fe80::1]", "[fd00::1]", "224.0.0.1", "[ff02::1]", "100.64.0.1", "255.255.255.255", "198.18.0.1", "192.0.2.1",
		"[64:ff9b::7f00:1]", "[2002:7f00:1::]", "[2001:db8::1]",
	} {
		for _, scheme := range []string{"https", "http"} {
			err := newSender(t, webhook.Config{}).Post(t.Context(), scheme+"://"+host+":"+port, "job_1", nil)
			assert.ErrorContains(t, err, public, "%s %s", scheme, host)
		}
		err := newSender(t, webhook.Config{Allow: []string{"10.1.2.0/30", "example.com", "fd00::/128"}}).Post(t.Context(), "https://"+host+":"+port, "job_1", nil)
		if host != "10.1.2.3" {
			assert.ErrorContains(t, err, public, host)
		}
	}
	assert.Zero(t, r.requests.Load())
}

func TestAnAllowedReceiverIsReachedByAddressPrefixOrName(t *testing.T) {
	t.Parallel()
	r := listen(t, false, accept)
	_, port, err := net.SplitHostPort(r.Listener.Addr().String())
	require.NoError(t, err)
	for i, each := range []struct{ allow, host string }{
		{"127.0.0.1", "127.0.0.1"}, {"127.0.0.0/8", "127.0.0.1"}, {"LocalHost", "localhost"}, {"localhost", "LOCALHOST"}, {"::ffff:127.0.0.1", "[::ffff:127.0.0.1]"},
	} {
		s := newSender(t, webhook.Config{Allow: []string{each.allow}})
		require.NoError(t, s.Post(t.Context(), "http://"+each.host+":"+port, "job_1", nil), each)
		assert.Equal(t, int32(i+1), r.requests.Load())
	}
	err = newSender(t, webhook.Config{Allow: []string{"localhost"}}).Post(t.Context(), "http://127.0.0.1:"+port, "job_1", nil)
	require.ErrorContains(t, err, "is not public")
	for _, wrong := range []string{"http://localhost", "localhost:80", "10.0.0.0/33", "a b", ""} {
		_, err := webhook.New(webhook.Config{Secrets: []string{secret}, Allow: []string{wrong}})
		require.ErrorContains(t, err, "neither a host, an address nor a prefix", wrong)
	}
}

func TestAPublicAddressNeedsTLS(t *testing.T) {
	t.Parallel()
	err := newSender(t, webhook.Config{}).Post(t.Context(), "http://8.8.8.8/", "job_1", nil)
	require.ErrorContains(t, err, "use https")
}

func TestARedirectIsNotFollowed(t *testing.T) {
	t.Parallel()
	target := listen(t, false, accept)
	r := listen(t, false, func(w http.ResponseWriter, req *http.Request) {
		http.Redirect(w, req, target.URL, http.StatusTemporaryRedirect)
	})
	err := newSender(t, webhook.Config{Allow: []string{"127.0.0.1"}}).Post(t.Context(), r.URL, "job_1", []byte("{}"))
	require.EqualError(t, err, "status 307: redirects are not followed")
	assert.Zero(t, target.requests.Load())
}

func TestAProxyOfTheEnvironmentIsNotUsed(t *testing.T) {
	proxy := listen(t, false, accept)
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY"} {
		t.Setenv(name, proxy.URL)
	}
	t.Setenv("NO_PROXY", "")
	s := newSender(t, webhook.Config{Allow: []string{"receiver.invalid"}})
	for _, scheme := range []string{"http", "https"} {
		err := s.Post(t.Context(), scheme+"://receiver.invalid/", "job_1", nil)
		require.EqualError(t, err, "the host receiver.invalid cannot be resolved")
	}
	assert.Zero(t, proxy.requests.Load())
}

func TestACertificateThatCannotBeVerifiedIsAnError(t *testing.T) {
	t.Parallel()
	r := listen(t, true, accept)
	err := newSender(t, webhook.Config{Allow: []string{"127.0.0.1"}}).Post(t.Context(), r.URL, "job_1", nil)
	require.ErrorContains(t, err, "certificate")
	assert.Zero(t, r.requests.Load())
}

func TestAnAttemptIsBounded(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	for name, each := range map[string]struct {
		handler http.HandlerFunc
		timeout time.Duration
		text    string
	}{
		"a receiver that says nothing": {func(http.ResponseWriter, *http.Request) { <-release }, 50 * time.Millisecond, "does not answer in time"},
		"a header without an end": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Endless", strings.Repeat("x", 64<<10))
		}, 0, "server response headers exceeded"},
		"a body without an end": {func(w http.ResponseWriter, req *http.Request) {
			for req.Context().Err() == nil {
				_, _ = w.Write(make([]byte, 1<<16))
			}
		}, 0, ""},
		"a receiver that hangs up": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, 0, "EOF"},
	} {
		r := listen(t, false, each.handler)
		err := newSender(t, webhook.Config{Allow: []string{"127.0.0.1"}, Timeout: each.timeout}).Post(t.Context(), r.URL, "job_1", nil)
		if each.text == "" {
			require.NoError(t, err, name)
			continue
		}
		require.ErrorContains(t, err, each.text, name)
	}
	close(release)
}

func TestTheStatusOfTheAnswerDecides(t *testing.T) {
	t.Parallel()
	status := 0
	r := listen(t, false, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) })
	s := newSender(t, webhook.Config{Allow: []string{"127.0.0.1"}})
	for code, text := range map[int]string{200: "", 204: "", 304: "status 304: redirects are not followed", 400: "status 400", 500: "status 500"} {
		status = code
		err := s.Post(t.Context(), r.URL, "job_1", nil)
		if text == "" {
			require.NoError(t, err)
			continue
		}
		require.EqualError(t, err, text)
	}
	status = http.StatusGone
	require.ErrorIs(t, s.Post(t.Context(), r.URL, "job_1", nil), webhook.ErrGone)
}

func TestAnErrorNamesNoAddressBehindAName(t *testing.T) {
	t.Parallel()
	r := listen(t, false, accept)
	_, port, err := net.SplitHostPort(r.Listener.Addr().String())
	require.NoError(t, err)
	r.Close()
	err = newSender(t, webhook.Config{Allow: []string{"localhost"}}).Post(t.Context(), "http://localhost:"+port, "job_1", nil)
	require.EqualError(t, err, "dial: connect: connection refused")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, newSender(t, webhook.Config{}).Post(ctx, "https://8.8.8.8", "job_1", nil), context.Canceled)
}

func TestAURLIsChecked(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"https://example.com/jobs?x=1": "", "http://10.0.0.1:8080": "", "https://[2001:db8::1]/": "",
		"": "begins with neither", "example.com": "begins with neither", "ftp://example.com": "begins with neither", "file:///etc/passwd": "begins with neither",
		"https://": "has no host", "https:///x": "has no host", "https://:443": "has no host", "https://user:pass@example.com": "has a user or password",
		"https://example.com/#part": "has a fragment", "https://exa mple.com": "cannot be parsed", "https://example.com:port": "cannot be parsed",
		"https://example.com/" + strings.Repeat("x", 2000): "more than 2000 characters",
	} {
		err := webhook.CheckURL(text)
		if want == "" {
			require.NoError(t, err, text)
			continue
		}
		require.ErrorContains(t, err, want, text)
	}
}

func TestAFileOfSecretsIsCheckedAndNotQuoted(t *testing.T) {
	t.Parallel()
	read := func(text string) ([]string, error) {
		file := filepath.Join(t.TempDir(), "secrets")
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
		return webhook.ReadSecrets(file)
	}
	plain := strings.TrimPrefix(secret, "whsec_")
	found, err := read("# the new one\n" + secret + "\n\n" + plain + "\r\n")
	require.NoError(t, err)
	assert.Equal(t, []string{secret, plain}, found)
	for text, want := range map[string]string{
		"# nothing\n":                      "there is no secret in",
		secret + "\nhunter2-hunter2\n":     "secrets:2: the secret for webhooks is not in base64",
		"aHVudGVyMg==":                     "secrets:1: the secret for webhooks has 7 bytes",
		strings.Repeat(secret+"\n", 5):     "more than 4 secrets",
		"whsec_" + strings.Repeat("A", 88): "secrets:1: the secret for webhooks has 66 bytes",
	} {
		_, err := read(text)
		require.ErrorContains(t, err, want)
		assert.NotContains(t, err.Error(), "hunter2")
		assert.Equal(t, runner.KindOther, runner.AsError(err).Kind)
		assert.NotEmpty(t, runner.AsError(err).Hint)
	}
	_, err = webhook.ReadSecrets(filepath.Join(t.TempDir(), "missing"))
	assert.Equal(t, runner.KindIO, runner.AsError(err).Kind)
	_, err = webhook.New(webhook.Config{})
	require.ErrorContains(t, err, "there is no secret for webhooks")
}
