package pyenv

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// hijack answers a request with raw bytes, and closes the connection.
func hijack(w http.ResponseWriter, answer string) {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	if answer == "" {
		_ = conn.(*net.TCPConn).SetLinger(0) // the peer gets a reset
	}
	_, _ = conn.Write([]byte(answer))
	_ = conn.Close()
}

// brokenIndex is an index that misbehaves as the first part of the path says.
func brokenIndex(t *testing.T) string {
	t.Helper()
	ended := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		way, rest, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
		status := 0
		_, _ = fmt.Sscan(way, &status)
		switch {
		case status != 0:
			w.WriteHeader(status)
		case r.Method == http.MethodConnect:
			w.WriteHeader(http.StatusProxyAuthRequired)
		case way == "reset":
			hijack(w, "")
		case way == "hang":
			<-ended
		case way == "garbage":
			hijack(w, "SSH-2.0-OpenSSH_9.6\r\n")
		case way == "cut" && strings.HasSuffix(rest, ".whl"):
			hijack(w, "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\nPK")
		case way == "cut":
			w.Header().Set("Content-Type", "text/html")
			_, _ = w.Write([]byte(`<a href="/cut/alpha-1.0-py3-none-any.whl">alpha-1.0-py3-none-any.whl</a>`))
		}
	}))
	t.Cleanup(server.Close)
	t.Cleanup(func() { close(ended) })
	return server.URL
}

// useIndex lets the installers use an index alone, which they ask once.
func useIndex(t *testing.T, url string) {
	t.Helper()
	for name, value := range map[string]string{
		"PIP_NO_INDEX": "", "PIP_FIND_LINKS": "", "PIP_INDEX_URL": url, "PIP_RETRIES": "0", "PIP_TIMEOUT": "1", "PIP_RESUME_RETRIES": "0",
	} {
		t.Setenv(name, value)
	}
}

// tryInstallers runs a test with each installer, with an interpreter that has its own pip:
// that of an environment takes long to install.
func tryInstallers(t *testing.T, test func(t *testing.T, python Interpreter, wheels string)) {
	withInstallers(t, func(t *testing.T, python Interpreter, wheels string) {
		if filepath.Base(t.Name()) == "pip" {
			python = pythonWithPip(t, python)
		}
		test(t, python, wheels)
	})
}

var packagePath = regexp.MustCompile(`/(alpha|msgpack|msgspec)/ cannot`)

// without replaces what differs from run to run: the addresses of servers.
func without(text string, urls ...string) string {
	for i, url := range urls {
		text = strings.ReplaceAll(text, url, [...]string{"INDEX", "CLOSED"}[i])
	}
	return packagePath.ReplaceAllString(text, " cannot") // uv asks for all packages at once
}

func TestAnIndexThatCannotBeReached(t *testing.T) {
	tryInstallers(t, func(t *testing.T, python Interpreter, wheels string) {
		wheel(t, wheels, "alpha", "1.0")
		server, closed := brokenIndex(t), "http://"+unusedAddress(t)
		followed := make(map[string]bool)
		for _, c := range []struct {
			name, url string
			env       []string
			message   string
			hint      string
		}{
			{"401", server + "/401", nil, "INDEX/401 cannot be used: it refuses the credentials", accessHint},
			{"403", server + "/403", nil, "INDEX/403 cannot be used: it refuses access", accessHint},
			{"407", server + "/407", nil, "INDEX/407 cannot be used: the proxy cannot be used", proxyHint},
			{"429", server + "/429", nil, "INDEX/429 cannot be used: it answers with status 429: too many requests", statusHint},
			{"500", server + "/500", nil, "INDEX/500 cannot be used: it answers with a server error", statusHint},
			{"502", server + "/502", nil, "INDEX/502 cannot be used: it answers with a server error", statusHint},
			{"503", server + "/503", nil, "INDEX/503 cannot be used: it answers with a server error", statusHint},
			{"a reset", server + "/reset", nil, "INDEX/reset cannot be used: the connection breaks", networkHint},
			{"no answer", server + "/hang", nil, "INDEX/hang cannot be used: it does not answer in time", networkHint},
			{"no HTTP", server + "/garbage", nil, "INDEX/garbage cannot be used: it does not answer as an index", networkHint},
			{"no listener", closed, nil, "CLOSED cannot be used: the connection is refused", networkHint},
			{"no such host", "https://nowhere.invalid/simple", nil, "https://nowhere.invalid/simple cannot be used: its host name cannot be resolved", networkHint},
			{"no TLS", strings.Replace(server, "http:", "https:", 1), nil, "https" + strings.TrimPrefix(server, "http") + " cannot be used: it does not speak TLS as expected", "check whether its URL should begin with http: or https:; " + offlineHint},
			{"a proxy that is off", "https://nowhere.invalid/simple", []string{"HTTPS_PROXY=" + closed}, "https://nowhere.invalid/simple cannot be used: the proxy cannot be used", proxyHint},
			{"a proxy that refuses", "https://nowhere.invalid/simple", []string{"HTTPS_PROXY=" + server}, "https://nowhere.invalid/simple cannot be used: the proxy cannot be used", proxyHint},
			{"a proxy without a host", "https://nowhere.invalid/simple", []string{"HTTPS_PROXY=http://noproxy.invalid:3128"}, "https://nowhere.invalid/simple cannot be used: the proxy cannot be used", proxyHint},
		} {
			t.Run(c.name, func(t *testing.T) {
				useIndex(t, c.url)
				for _, entry := range c.env {
					name, value, _ := strings.Cut(entry, "=")
					t.Setenv(name, value)
				}
				spec := Spec{Interpreter: python, Requirements: []string{"alpha"}, CacheDir: t.TempDir()}
				_, err := Ensure(t.Context(), spec)
				e := fault(t, err)
				assert.Equal(t, "cannot install alpha: the package index "+c.message, without(e.Error(), server, closed), e.Output)
				assert.Equal(t, c.hint, e.Hint)
				assert.False(t, e.Requirements)
				assertEmpty(t, spec.CacheDir)
				if !strings.Contains(c.hint, offlineHint) || followed[c.hint] {
					return
				}
				followed[c.hint] = true
				t.Setenv("PIP_NO_INDEX", "1") // as the hint says
				t.Setenv("PIP_FIND_LINKS", wheels)
				_, err = Ensure(t.Context(), spec)
				require.NoError(t, err)
			})
		}
	})
}

func TestAPackageWhoseDownloadIsCutOff(t *testing.T) {
	tryInstallers(t, func(t *testing.T, python Interpreter, _ string) {
		useIndex(t, brokenIndex(t)+"/cut")
		_, err := Ensure(t.Context(), Spec{Interpreter: python, Requirements: []string{"alpha"}, CacheDir: t.TempDir()})
		e := fault(t, err)
		assert.Equal(t, "a package's file is damaged, or was cut off on its way: try again, or choose another version or index", e.Hint, e.Output)
		assert.False(t, e.Requirements)
	})
}

func TestTheHintsOfAnIndexWork(t *testing.T) {
	tryInstallers(t, func(t *testing.T, python Interpreter, wheels string) {
		files, err := http.NewRequest(http.MethodGet, index(t, wheels), nil)
		require.NoError(t, err)
		guarded := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if user, password, _ := r.BasicAuth(); user != "me" || password != "secret" {
				w.Header().Set("WWW-Authenticate", "Basic")
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			http.Redirect(w, r, files.URL.Scheme+"://"+files.URL.Host+r.URL.Path, http.StatusFound)
		})
		open, secure := httptest.NewServer(guarded), httptest.NewUnstartedServer(guarded)
		secure.Config.ErrorLog = log.New(io.Discard, "", 0)
		certificate := certify(t, secure)
		secure.StartTLS()
		t.Cleanup(open.Close)
		t.Cleanup(secure.Close)
		login := func(url string) string { return strings.Replace(url, "://", "://me:secret@", 1) + "/simple" }
		for _, c := range []struct {
			name, url, message, hint string
			follow                   [2]string
		}{
			{"credentials", open.URL + "/simple", "it refuses the credentials", "put the credentials into its URL", [2]string{"PIP_INDEX_URL", login(open.URL)}},
			{"certificate", login(secure.URL), "its certificate is not trusted", "PIP_CERT or SSL_CERT_FILE", [2]string{"PIP_CERT", certificate}},
		} {
			t.Run(c.name, func(t *testing.T) {
				useIndex(t, c.url)
				for _, name := range []string{"PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"} {
					t.Setenv(name, "")
				}
				spec := Spec{Interpreter: python, CacheDir: t.TempDir()}
				_, err := Ensure(t.Context(), spec)
				e := fault(t, err)
				assert.Contains(t, e.Error(), "cannot be used: "+c.message)
				assert.NotContains(t, e.Error()+e.Output, "secret")
				assert.Contains(t, e.Hint, c.hint)
				assert.False(t, e.Requirements)
				t.Setenv(c.follow[0], c.follow[1])
				_, err = Ensure(t.Context(), spec)
				if err != nil {
					t.Fatal(err, fault(t, err).Output)
				}
			})
		}
	})
}

// certify gives a server a certificate for 127.0.0.1, and returns the path of the file with
// that of its authority.
func certify(t *testing.T, server *httptest.Server) string {
	t.Helper()
	sign := func(template, parent *x509.Certificate, signer *ecdsa.PrivateKey) (*ecdsa.PrivateKey, []byte) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		require.NoError(t, err)
		template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
		if signer == nil {
			signer = key
		}
		content, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
		require.NoError(t, err)
		return key, content
	}
	authority := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, IsCA: true,
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	signer, root := sign(authority, authority, nil)
	key, leaf := sign(&x509.Certificate{SerialNumber: big.NewInt(2), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}, authority, signer)
	server.TLS = &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{{Certificate: [][]byte{leaf}, PrivateKey: key}}}
	path := filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root}), 0o600))
	return path
}

// project makes a package that is built by the given backend.
func project(t *testing.T, base, name, requires, backend string) {
	t.Helper()
	dir := filepath.Join(base, name)
	require.NoError(t, os.Mkdir(dir, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "pyproject.toml"), []byte("[build-system]\nrequires = ["+requires+"]\nbuild-backend = \"backend\"\n"+
		"backend-path = [\".\"]\n[project]\nname = \""+name+"\"\nversion = \"1\"\n"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "backend.py"), []byte(backend), 0o600))
}

func TestRequirementsThatAreAtFault(t *testing.T) {
	const (
		choose   = "correct the pipeline's requirements, or choose an interpreter with --python that the packages support"
		local    = choose + "; only local folders were searched, because PIP_NO_INDEX is set"
		syntax   = "correct the pipeline's requirements: they are lines as in a pip requirements file"
		compiled = "a package had to be compiled, and its build failed: use a version that has a wheel for this interpreter, or install the build's prerequisites"
	)
	tryInstallers(t, func(t *testing.T, python Interpreter, wheels string) {
		wheel(t, wheels, "alpha", "1.0", "Requires-Dist: beta>=2")
		wheel(t, wheels, "beta", "1.0")
		beta, err := os.ReadFile(wheel(t, wheels, "beta", "2.0"))
		require.NoError(t, err)
		wheel(t, wheels, "gamma", "1.0", "Requires-Dist: beta<2")
		base := t.TempDir()
		project(t, base, "noisy", "", "def build_wheel(*_, **__):\n    for n in range(40): print('Connection refused: No space left on device, Permission denied', n)\n"+
			"    raise RuntimeError('403 Forbidden')\nprepare_metadata_for_build_wheel = build_wheel\n")
		project(t, base, "needy", `"no-such-builder"`, "")
		server := brokenIndex(t)
		for _, c := range []struct {
			name  string
			lines []string
			hint  string
			more  map[string]string // variables
		}{
			{"no such package", []string{"nosuch"}, local, nil},
			{"no such version", []string{"alpha==9"}, local, nil},
			{"a conflict", []string{"alpha", "gamma"}, choose, nil},
			{"a hash that does not match", []string{"beta==2.0 --hash=sha256:" + strings.Repeat("0", 64)},
				"the file is not the one that the requirement's hash was made from: correct the hash, or find out who changed the file", nil},
			{"a line that is none", []string{"alpha >> 3"}, syntax, nil},
			{"a file that is missing", []string{"./missing-1.0-py3-none-any.whl"}, syntax, nil},
			{"a build that fails, whatever it prints", []string{"./noisy"}, compiled, nil},
			{"a build that requires a package that is missing", []string{"./needy"}, local, nil},
			{"a package that the index does not have", []string{"nosuch"}, choose, map[string]string{"PIP_INDEX_URL": server + "/404"}},
			{"a URL that leads nowhere", []string{"alpha @ " + server + "/404/alpha-1.0-py3-none-any.whl"},
				"the file that a requirement names does not exist: correct the pipeline's requirements", nil},
		} {
			t.Run(c.name, func(t *testing.T) {
				if c.more != nil {
					useIndex(t, "")
				}
				for name, value := range c.more {
					t.Setenv(name, value)
				}
				spec := Spec{Interpreter: python, Requirements: c.lines, Base: base, CacheDir: t.TempDir()}
				_, err := Ensure(t.Context(), spec)
				e := fault(t, err)
				assert.Equal(t, c.hint, e.Hint, "%s\n%s", e.Error(), e.Output)
				assert.True(t, e.Requirements)
				assertEmpty(t, spec.CacheDir)
			})
		}
		_, err = Ensure(t.Context(), Spec{Interpreter: python, CacheDir: t.TempDir(),
			Requirements: []string{fmt.Sprintf("beta==2.0 --hash=sha256:%x", sha256.Sum256(beta))}})
		require.NoError(t, err, "the hint about hashes works")
	})
}
