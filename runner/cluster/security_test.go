package cluster_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/cluster"
	"github.com/gophersnake/gophersnake/runner/cluster/internal/clustertest"
	"github.com/gophersnake/gophersnake/runner/internal/testkit"
)

// runServer runs a NATS server in this process with a configuration file, and returns its URL.
func runServer(t *testing.T, config string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "nats.conf")
	require.NoError(t, os.WriteFile(file, []byte("listen: 127.0.0.1:-1\n"+config), 0o600))
	opts, err := server.ProcessConfigFile(file)
	require.NoError(t, err)
	opts.NoSigs, opts.NoLog = true, true
	return startServer(t, opts)
}

func startServer(t *testing.T, opts *server.Options) string {
	t.Helper()
	srv, err := server.NewServer(opts)
	require.NoError(t, err)
	srv.Start()
	t.Cleanup(func() { srv.Shutdown(); srv.WaitForShutdown() })
	require.True(t, srv.ReadyForConnections(testkit.Long))
	return srv.ClientURL()
}

// authority signs certificates for tests.
type authority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	a := &authority{t: t, dir: t.TempDir()}
	a.cert, a.key = a.sign("ca", nil)
	return a
}

func (a *authority) path(name string) string { return filepath.Join(a.dir, name) }

// sign writes NAME.pem and NAME.key. Without an address, the certificate is an authority or a
// client.
func (a *authority) sign(name string, address net.IP) (*x509.Certificate, *ecdsa.PrivateKey) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(a.t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true, IsCA: a.cert == nil,
	}
	if address != nil {
		template.IPAddresses = []net.IP{address}
	}
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	require.NoError(a.t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(a.t, err)
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(a.t, err)
	for file, block := range map[string]*pem.Block{name + ".pem": {Type: "CERTIFICATE", Bytes: der}, name + ".key": {Type: "PRIVATE KEY", Bytes: secret}} {
		require.NoError(a.t, os.WriteFile(a.path(file), pem.EncodeToMemory(block), 0o600))
	}
	return cert, key
}

// calls checks that a machine and a client with a configuration each call each other.
func calls(t *testing.T, machine, client cluster.Config) {
	t.Helper()
	there, err := cluster.Connect(t.Context(), machine)
	require.NoError(t, err)
	defer there.Close()
	here, err := cluster.Connect(t.Context(), client)
	require.NoError(t, err)
	defer here.Close()
	m, err := cluster.Announce(t.Context(), there, map[string]*runner.Runner{"go": goEcho(t, "go")})
	require.NoError(t, err)
	defer m.Close()
	c, err := cluster.Dial(t.Context(), here, "go")
	require.NoError(t, err)
	defer c.Close()
	v, err := c.Run(t.Context(), "x")
	require.NoError(t, err)
	assert.Equal(t, "x", v)
}

// refused connects, which must fail, and returns the hint.
func refused(t *testing.T, c cluster.Config) string {
	t.Helper()
	_, err := cluster.Connect(t.Context(), c)
	require.ErrorIs(t, err, runner.KindIO)
	return runner.AsError(err).Hint
}

func TestTLSWithCertificatesOfBothSides(t *testing.T) {
	a := newAuthority(t)
	a.sign("server", net.IPv4(127, 0, 0, 1))
	a.sign("machine", nil)
	tlsOf := func(more string) string {
		return fmt.Sprintf("tls {\n cert_file: %q\n key_file: %q\n ca_file: %q\n%s}\n", a.path("server.pem"), a.path("server.key"), a.path("ca.pem"), more)
	}
	plain, secure, mutual := runServer(t, ""), runServer(t, tlsOf("")), runServer(t, tlsOf(" verify: true\n"))
	config := cluster.Config{URLs: []string{secure}, CAFile: a.path("ca.pem")}
	calls(t, config, config)
	config = cluster.Config{URLs: []string{mutual}, CAFile: a.path("ca.pem"), CertFile: a.path("machine.pem"), KeyFile: a.path("machine.key")}
	calls(t, config, config)

	assert.Contains(t, refused(t, cluster.Config{URLs: []string{secure}}), "signed by an authority that this program does not know")
	assert.Contains(t, refused(t, cluster.Config{URLs: []string{strings.Replace(secure, "127.0.0.1", "localhost", 1)}, CAFile: a.path("ca.pem")}), "the server's certificate is for other names")
	assert.Contains(t, refused(t, cluster.Config{URLs: []string{mutual}, CAFile: a.path("ca.pem")}), "asks for a certificate that it knows")
	assert.Contains(t, refused(t, cluster.Config{URLs: []string{plain}, CAFile: a.path("ca.pem")}), "the server has no TLS")
	assert.Contains(t, refused(t, cluster.Config{URLs: []string{plain}, CAFile: a.path("ca.key")}), "it takes a PEM file")
	_, err := cluster.Connect(t.Context(), cluster.Config{URLs: []string{mutual}, CertFile: a.path("machine.pem"), KeyFile: a.path("server.key")})
	assert.ErrorContains(t, err, "read the certificate for the NATS servers")
}

func TestWhatIsNotAServerForThisProgramIsAClearError(t *testing.T) {
	old := startServer(t, &server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true, NoHeaderSupport: true})
	assert.Contains(t, refused(t, cluster.Config{URLs: []string{old}}), "update the server to version 2.10 or later")
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Write([]byte("SSH-2.0-something\r\n"))
			_ = conn.Close()
		}
	}()
	assert.Contains(t, refused(t, cluster.Config{URLs: []string{"nats://" + listener.Addr().String()}}), "is not a NATS server")
	assert.Contains(t, refused(t, cluster.Config{URLs: []string{"nats://user:secret@127.0.0.1:1"}}), "no server answers at nats://127.0.0.1:1")
}

func TestNKeysByFile(t *testing.T) {
	pair, err := nkeys.CreateUser()
	require.NoError(t, err)
	seed, err := pair.Seed()
	require.NoError(t, err)
	public, err := pair.PublicKey()
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "user.nk")
	require.NoError(t, os.WriteFile(file, seed, 0o600))
	url := runServer(t, fmt.Sprintf("authorization { users: [ { nkey: %s } ] }", public))
	config := cluster.Config{URLs: []string{url}, NKeySeed: file}
	calls(t, config, config)
	other, err := nkeys.CreateUser()
	require.NoError(t, err)
	seed, err = other.Seed()
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(file, seed, 0o600))
	assert.Equal(t, "the server refuses the credentials", refused(t, config))
	require.NoError(t, os.WriteFile(file, []byte("no seed"), 0o600))
	_, err = cluster.Connect(t.Context(), config)
	assert.ErrorContains(t, err, "read the nkey seed "+file)
}

// lines counts the records of a log that have a text.
type lines struct {
	slog.Handler
	text string
	n    atomic.Int64
}

// Enabled implements [slog.Handler].
func (l *lines) Enabled(context.Context, slog.Level) bool { return true }

// Handle implements [slog.Handler].
func (l *lines) Handle(_ context.Context, r slog.Record) error {
	r.Attrs(func(a slog.Attr) bool {
		if strings.Contains(strings.ToLower(a.Value.String()), l.text) {
			l.n.Add(1)
		}
		return true
	})
	return nil
}

func TestAProgramThatIsRefusedForSomeTimeComesBack(t *testing.T) {
	port := clustertest.FreePorts(t, 1)[0]
	restart := func(password string) (stop func()) {
		srv, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: port, Username: "u", Password: password, NoSigs: true, NoLog: true})
		require.NoError(t, err)
		srv.Start()
		require.True(t, srv.ReadyForConnections(testkit.Long))
		var once sync.Once
		stop = func() { once.Do(func() { srv.Shutdown(); srv.WaitForShutdown() }) }
		t.Cleanup(stop)
		return stop
	}
	stop := restart("right")
	refusals := &lines{Handler: slog.DiscardHandler, text: "authorization violation"}
	conn, err := cluster.Connect(t.Context(), cluster.Config{URLs: []string{fmt.Sprintf("nats://u:right@127.0.0.1:%d", port)}, Logger: slog.New(refusals)})
	require.NoError(t, err)
	defer conn.Close()
	announceGo(t, conn, map[string]string{"p": "go"})
	c := dial(t, conn, "p", 1, cluster.WithWait(testkit.Long))
	stop()
	stop = restart("wrong")
	testkit.Eventually(t, func() bool { return refusals.n.Load() >= 3 }, "it tries more than twice")
	stop()
	restart("right")
	testkit.Eventually(t, conn.NATS().IsConnected)
	_, err = c.Run(t.Context(), "x")
	require.NoError(t, err)
}

// operator signs accounts and users, as nsc does.
type operator struct {
	t    *testing.T
	pair nkeys.KeyPair
	dir  string
}

// credentials writes a file of credentials of a new user of an account.
func (o *operator) credentials(name string, account nkeys.KeyPair, expires time.Time) string {
	user, err := nkeys.CreateUser()
	require.NoError(o.t, err)
	public, err := user.PublicKey()
	require.NoError(o.t, err)
	claims := jwt.NewUserClaims(public)
	claims.Name = name
	if !expires.IsZero() {
		claims.Expires = expires.Unix()
	}
	token, err := claims.Encode(account)
	require.NoError(o.t, err)
	seed, err := user.Seed()
	require.NoError(o.t, err)
	text, err := jwt.FormatUserConfig(token, seed)
	require.NoError(o.t, err)
	file := filepath.Join(o.dir, name+".creds")
	require.NoError(o.t, os.WriteFile(file, text, 0o600))
	return file
}

// account returns a new account, with its JWT for the resolver of a server.
func (o *operator) account(name string) (pair nkeys.KeyPair, preload string) {
	pair, err := nkeys.CreateAccount()
	require.NoError(o.t, err)
	public, err := pair.PublicKey()
	require.NoError(o.t, err)
	claims := jwt.NewAccountClaims(public)
	claims.Name = name
	token, err := claims.Encode(o.pair)
	require.NoError(o.t, err)
	return pair, fmt.Sprintf("  %s: %s\n", public, token)
}

func TestCredentialsByFileAndAccountsDoNotSeeEachOther(t *testing.T) {
	pair, err := nkeys.CreateOperator()
	require.NoError(t, err)
	o := &operator{t: t, pair: pair, dir: t.TempDir()}
	public, err := pair.PublicKey()
	require.NoError(t, err)
	claims := jwt.NewOperatorClaims(public)
	token, err := claims.Encode(pair)
	require.NoError(t, err)
	speech, one := o.account("speech")
	shop, two := o.account("shop")
	url := runServer(t, fmt.Sprintf("operator: %s\nresolver: MEMORY\nresolver_preload: {\n%s%s}\n", token, one, two))
	config := cluster.Config{URLs: []string{url}, Credentials: o.credentials("machine", speech, time.Time{})}
	calls(t, config, cluster.Config{URLs: []string{url}, Credentials: o.credentials("caller", speech, time.Time{})})

	there, err := cluster.Connect(t.Context(), config)
	require.NoError(t, err)
	defer there.Close()
	m, err := cluster.Announce(t.Context(), there, map[string]*runner.Runner{"go": goEcho(t, "go")})
	require.NoError(t, err)
	defer m.Close()
	stranger, err := cluster.Connect(t.Context(), cluster.Config{URLs: []string{url}, Credentials: o.credentials("stranger", shop, time.Time{})})
	require.NoError(t, err)
	defer stranger.Close()
	_, err = cluster.Dial(t.Context(), stranger, "go", cluster.WithWait(100*time.Millisecond))
	require.ErrorIs(t, err, runner.KindTransport)
	assert.Contains(t, runner.AsError(err).Hint, "connected to the same NATS servers and account")

	expired := cluster.Config{URLs: []string{url}, Credentials: o.credentials("late", speech, time.Now().Add(-time.Minute))}
	_, err = cluster.Connect(t.Context(), expired)
	require.ErrorIs(t, err, runner.KindIO)
	assert.NotEmpty(t, runner.AsError(err).Hint)
}
