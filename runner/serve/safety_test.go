package serve_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/serve"
)

func TestOtherMachinesNeedAToken(t *testing.T) {
	t.Parallel()
	runners := map[string]*runner.Runner{"p": newRunner(t, single("echo"))}
	_, err := serve.Listen(runners, serve.Config{Address: "0.0.0.0:0"})
	require.ErrorContains(t, err, "0.0.0.0:0 is not a loopback address")
	for _, c := range []serve.Config{{Address: "0.0.0.0:0", Insecure: true}, {Address: "0.0.0.0:0", Tokens: []serve.Token{{Secret: "a-token-of-some-length"}}}} {
		server, err := serve.Listen(runners, c)
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		require.NoError(t, server.Run(ctx))
	}
}

func TestATokenIsRequired(t *testing.T) {
	t.Parallel()
	s := start(t, single("echo"), twoTokens)
	for header, want := range map[string]int{
		"":                               http.StatusUnauthorized,
		"Bearer":                         http.StatusUnauthorized,
		"Bearer first-token-012345678":   http.StatusUnauthorized,
		"Basic first-token-0123456789":   http.StatusUnauthorized,
		"Bearer first-token-0123456789":  http.StatusOK,
		"bearer second-token-0123456789": http.StatusOK,
	} {
		status, text := s.post(t, "1", "Authorization", header)
		assert.Equal(t, want, status, header)
		if want != http.StatusOK {
			assert.Equal(t, "urn:gophersnake:problem:unauthorized", problemIn(t, text).Type)
		}
	}
	for _, path := range []string{"/metrics", "/healthz", "/v1/pipelines", "/", "/readyz/q", "/readyz/p"} {
		status, _ := s.get(t, path)
		assert.Equal(t, http.StatusUnauthorized, status, path)
	}
	status, text := s.get(t, "/readyz")
	assert.Equal(t, http.StatusOK, status)
	assert.JSONEq(t, `{"status": "ready"}`, text, "a probe without a token learns nothing else")
}

func TestPagesOfOtherOriginsAndHostsAreRefused(t *testing.T) {
	t.Parallel()
	s := start(t, single("echo"))
	for _, c := range []struct {
		name, value string
		want        int
	}{
		{"Origin", "https://evil.example", http.StatusForbidden},
		{"Sec-Fetch-Site", "cross-site", http.StatusForbidden},
		{"Sec-Fetch-Site", "same-origin", http.StatusOK},
		{"Host", "evil.example", http.StatusForbidden},
		{"Host", "localhost.evil.example:8000", http.StatusForbidden},
		{"Host", "localhost:8000", http.StatusOK},
		{"Host", "[::1]:8000", http.StatusOK},
	} {
		status, text := s.post(t, "1", c.name, c.value)
		assert.Equal(t, c.want, status, "%s: %s: %s", c.name, c.value, text)
	}
	answer := s.do(t, http.MethodOptions, "/v1/pipelines/p", nil, "Origin", "https://evil.example", "Access-Control-Request-Method", "POST")
	assert.Equal(t, http.StatusMethodNotAllowed, answer.StatusCode)
	assert.Empty(t, answer.Header.Get("Access-Control-Allow-Origin"))
}

func TestAnAnswerDoesNotWaitForABodyThatIsNotWanted(t *testing.T) {
	t.Parallel()
	s := start(t, single("echo"), twoTokens)
	for _, request := range []string{
		"POST /v1/pipelines/p HTTP/1.1\r\nTransfer-Encoding: chunked",
		"POST /v1/pipelines/p HTTP/1.1\r\nContent-Length: 10",
		"GET /livez HTTP/1.1\r\nTransfer-Encoding: chunked",
		"POST /v1/pipelines/p HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Type: application/x-ndjson\r\nX-Request-Timeout: soon\r\nAuthorization: Bearer " + firstSecret,
	} {
		conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
		require.NoError(t, err)
		_, err = io.WriteString(conn, request+"\r\nHost: localhost\r\n\r\n")
		require.NoError(t, err)
		require.NoError(t, conn.SetReadDeadline(time.Now().Add(patience)))
		answer, err := io.ReadAll(conn)
		require.NoError(t, err, "the client sends no body, and gets the answer and the end of the connection: %s", request)
		assert.Contains(t, string(answer), "HTTP/1.1 ", request)
		require.NoError(t, conn.Close())
	}
}

func TestLargeHeadersAreRefused(t *testing.T) {
	t.Parallel()
	s := start(t, single("echo"))
	status, _ := s.post(t, "1", "X-Large", strings.Repeat("x", 100<<10))
	assert.Equal(t, http.StatusRequestHeaderFieldsTooLarge, status)
}

// certificate writes a certificate for 127.0.0.1 and its key, and returns a client that trusts
// it.
func certificate(t *testing.T) (certFile, keyFile string, client *http.Client) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	certFile, keyFile = filepath.Join(t.TempDir(), "cert.pem"), filepath.Join(t.TempDir(), "key.pem")
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	require.NoError(t, os.WriteFile(certFile, certPEM, 0o600))
	require.NoError(t, os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), 0o600))
	roots := x509.NewCertPool()
	require.True(t, roots.AppendCertsFromPEM(certPEM))
	return certFile, keyFile, &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true}}
}

func TestTLSServesBothVersionsOfHTTP(t *testing.T) {
	t.Parallel()
	certFile, keyFile, client := certificate(t)
	r := newRunner(t, single("echo"))
	s := listen(t, r, serve.Config{CertFile: certFile, KeyFile: keyFile})
	require.True(t, strings.HasPrefix(s.url, "https://127.0.0.1:"))
	answer := s.with(t.Context(), t, client, http.MethodPost, "/v1/pipelines/p", strings.NewReader("1"))
	assert.Equal(t, "HTTP/2.0", answer.Proto)
	assert.Equal(t, "1\n", read(t, answer))
	_, err := serve.Listen(nil, serve.Config{Address: "127.0.0.1:0", CertFile: certFile})
	require.ErrorContains(t, err, "a certificate and a key")
}

func TestADrainingServerEndsItsStreamsAndRefusesCalls(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	s := start(t, "nodes: [{id: n, node_type: wait, params: {folder: '"+folder+"'}, workers: 2}]")
	d := s.dialog(t.Context(), t, versions["HTTP/1.1"])
	d.send(t, "1")
	appears(t, folder, "began")
	stopped := make(chan error, 1)
	go func() { stopped <- s.stop() }()
	require.Eventually(t, func() bool {
		status, _ := s.get(t, "/readyz")
		return status == http.StatusServiceUnavailable
	}, patience, time.Millisecond, "readiness goes first")
	status, text := s.post(t, "1")
	assert.Equal(t, http.StatusServiceUnavailable, status)
	assert.Equal(t, "urn:gophersnake:problem:draining", problemIn(t, text).Type)
	status, _ = s.get(t, "/livez")
	assert.Equal(t, http.StatusOK, status)
	write(t, folder, "go")
	assert.Equal(t, `{"result":1}`, d.receive(t), "what the stream has taken is finished")
	assert.Contains(t, d.receive(t), "the service drains, and reads no further inputs")
	_, err := d.out.ReadByte()
	require.ErrorIs(t, err, io.EOF, "the stream has a proper end")
	require.NoError(t, <-stopped)
}

func TestWorkThatTakesTooLongIsCanceledWhenTheServerStops(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	r := newRunner(t, single("ticks", "params: {folder: '"+folder+"'}", "workers: 2"))
	require.NoError(t, r.Start(t.Context()))
	s := listen(t, r, serve.Config{DrainTimeout: time.Millisecond})
	answer := s.do(t, http.MethodPost, "/v1/pipelines/p", strings.NewReader("1"), "Accept", lines)
	appears(t, folder, "began")
	require.NoError(t, s.stop())
	assert.Contains(t, read(t, answer), "urn:gophersnake:problem:draining")
	assert.True(t, exists(folder, "ended"), "nothing of the run is left")
}
