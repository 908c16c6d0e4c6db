package cluster

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/cluster/internal/wire"
)

// Config says how [Connect] reaches NATS.
type Config struct {
	// URLs are those of the servers, for instance "nats://a:4222". Without any, Connect
	// starts a server in this process.
	URLs []string
	// Credentials is a file with a user's JWT and nkey seed, and NKeySeed one with an nkey
	// seed alone. A token or a user and password may be in the URLs.
	Credentials, NKeySeed string
	// TLS is the configuration of the connections. With nil, a connection uses TLS if the URL
	// begins with tls:// or the server asks for it.
	TLS *tls.Config
	// CAFile is a PEM file with the authorities that sign the servers' certificates, in place of
	// those of the system. CertFile and KeyFile are PEM files with a certificate of this program
	// and its key, for servers that ask for one. They are added to TLS.
	CAFile, CertFile, KeyFile string
	// InboxPrefix begins the subjects of the answers to this program. The default is "_INBOX". A
	// prefix that only its user may subscribe to keeps answers from the other users of an account.
	InboxPrefix string
	// Name is the name of the connection in the server's reports. The default is
	// "gophersnake".
	Name string
	// Options are added to those of the connection.
	Options []nats.Option

	// StateDir is the folder of the server in this process: its streams, and the URL with a
	// token by which other processes of the same user reach it; see [LocalURL]. Connect
	// creates it, for this user alone.
	StateDir string
	// Listen is the address of the server in this process. The default is "127.0.0.1:0".
	Listen string
	// SyncInterval is how often the server in this process syncs its streams to the disk.
	// The default, 0, is after each write, so that what it has acknowledged survives a loss of
	// power. With a negative one, the server uses its own default.
	SyncInterval time.Duration

	// ValueAge is how long a value that is larger than a message stays in the object store if
	// neither side deletes it. The default is [DefaultValueAge]. ValueBytes bounds all such
	// values; the default is [DefaultValueBytes]. Both hold when the bucket is created, by the
	// first program that needs it.
	ValueAge   time.Duration
	ValueBytes int64

	// Logger gets what the connection and the server report. The default discards it.
	Logger *slog.Logger
}

// Conn is a connection to NATS for clients and machines. It reconnects by itself, to any of
// the servers that it knows. It is safe for concurrent use.
type Conn struct {
	nc     *nats.Conn
	values *wire.Values
	server *localServer // nil if NATS runs elsewhere
	logger *slog.Logger
	closed chan struct{}
}

// valueBucket is the bucket of the object store for values that are larger than a message. It is
// in the memory of the server: its values are of use only while a call waits for them, so
// nothing is gained by writing them to a disk.
const valueBucket = "gophersnake-values"

// The defaults of the bucket.
const (
	DefaultValueAge   = 10 * time.Minute
	DefaultValueBytes = 1 << 30
)

// The settings of a connection. They decide how fast the end of a server is noticed: at once
// if the operating system reports it, and otherwise after two pings.
const (
	reconnectWait   = 100 * time.Millisecond
	reconnectJitter = 100 * time.Millisecond
	pingInterval    = 2 * time.Second
	pingsOut        = 2
)

// Connect connects to NATS, and starts a server first if the configuration names none. It
// returns when the connection is established, or fails with an error of kind io, whose hint says
// what to do. The caller closes the connection.
//
// Once connected, it connects again for as long as it takes, also while the servers refuse the
// credentials: those in files are read again each time.
func Connect(ctx context.Context, c Config) (*Conn, error) {
	conn := &Conn{logger: c.Logger, closed: make(chan struct{})}
	if conn.logger == nil {
		conn.logger = slog.New(slog.DiscardHandler)
	}
	opts, err := c.options(conn)
	if err != nil {
		return nil, err
	}
	urls := strings.Join(c.URLs, ",")
	if urls == "" {
		if conn.server, err = startLocal(c, conn.logger); err != nil {
			return nil, err
		}
		opts = append(opts, nats.InProcessServer(conn.server.server), nats.Token(conn.server.token))
	}
	if deadline, ok := ctx.Deadline(); ok {
		opts = append(opts, nats.Timeout(max(time.Until(deadline), time.Millisecond)))
	}
	conn.nc, err = nats.Connect(urls, append(opts, c.Options...)...)
	if err != nil {
		conn.server.stop()
		return nil, connectError(urls, err)
	}
	if !conn.nc.HeadersSupported() {
		version := conn.nc.ConnectedServerVersion()
		conn.Close()
		return nil, runner.NewError(runner.KindIO, fmt.Sprintf("connect to NATS: the server (version %s) has no headers", version)).
			WithHint("update the server to version 2.10 or later, or remove no_header_support from its configuration")
	}
	js, err := jetstream.New(conn.nc)
	if err != nil {
		conn.Close()
		return nil, runner.Wrap(err, runner.KindOther, "connect to NATS")
	}
	conn.values = &wire.Values{JS: js, Hint: "see Config.ValueAge and Config.ValueBytes", Config: jetstream.ObjectStoreConfig{
		Bucket: valueBucket, Description: "values of gophersnake calls that are larger than a message",
		TTL: cmp.Or(c.ValueAge, DefaultValueAge), MaxBytes: cmp.Or(c.ValueBytes, DefaultValueBytes), Storage: jetstream.MemoryStorage,
	}}
	return conn, nil
}

// options returns the options of the NATS connection.
func (c *Config) options(conn *Conn) ([]nats.Option, error) {
	opts := []nats.Option{
		nats.Name(cmp.Or(c.Name, "gophersnake")),
		nats.MaxReconnects(-1), nats.ReconnectWait(reconnectWait), nats.ReconnectJitter(reconnectJitter, reconnectJitter),
		nats.PingInterval(pingInterval), nats.MaxPingsOutstanding(pingsOut), nats.IgnoreAuthErrorAbort(),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { conn.logger.Warn("NATS reports", "error", err) }),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil { // nil if this program has closed it
				conn.logger.Warn("the connection to NATS is lost", "error", err)
			}
		}),
		nats.ReconnectHandler(func(nc *nats.Conn) {
			conn.logger.Info("connected to NATS again", "server", nc.ConnectedServerName())
		}),
		nats.ClosedHandler(func(*nats.Conn) { close(conn.closed) }),
	}
	secure, err := c.tls()
	if err != nil {
		return nil, err
	}
	if secure != nil {
		opts = append(opts, nats.Secure(secure))
	}
	if c.InboxPrefix != "" {
		opts = append(opts, nats.CustomInboxPrefix(c.InboxPrefix))
	}
	if c.Credentials != "" {
		if _, err := os.Stat(c.Credentials); err != nil {
			return nil, runner.Wrap(err, runner.KindIO, "read the credentials")
		}
		opts = append(opts, nats.UserCredentials(c.Credentials))
	}
	if c.NKeySeed != "" {
		opt, err := nats.NkeyOptionFromSeed(c.NKeySeed)
		if err != nil {
			return nil, runner.Wrap(err, runner.KindIO, "read the nkey seed "+c.NKeySeed)
		}
		opts = append(opts, opt)
	}
	return opts, nil
}

// tls returns the configuration of TLS, nil for that of the URLs.
func (c *Config) tls() (*tls.Config, error) {
	if c.CAFile == "" && c.CertFile == "" && c.KeyFile == "" {
		return c.TLS, nil
	}
	secure := c.TLS.Clone()
	if secure == nil {
		secure = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	if c.CAFile != "" {
		text, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, runner.Wrap(err, runner.KindIO, "read the authorities of the NATS servers")
		}
		secure.RootCAs = x509.NewCertPool()
		if !secure.RootCAs.AppendCertsFromPEM(text) {
			return nil, runner.NewError(runner.KindIO, "there is no certificate in "+c.CAFile).WithHint("it takes a PEM file")
		}
	}
	if c.CertFile == "" && c.KeyFile == "" {
		return secure, nil
	}
	load := func() (*tls.Certificate, error) {
		pair, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
		if err != nil {
			return nil, runner.Wrap(err, runner.KindIO, "read the certificate for the NATS servers")
		}
		return &pair, nil
	}
	// The files are read for each connection, because certificates are renewed.
	secure.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return load() }
	_, err := load()
	return secure, err
}

// connectError says what to do about a connection that was refused.
func connectError(urls string, err error) error {
	e := runner.Wrap(err, runner.KindIO, "connect to NATS")
	_, isUnknown := errors.AsType[x509.UnknownAuthorityError](err)
	_, isOther := errors.AsType[x509.HostnameError](err)
	text := strings.ToLower(err.Error()) // what a server says is text only
	switch {
	case errors.Is(err, nats.ErrNoServers):
		return e.WithHint("no server answers at " + redact(urls))
	case strings.Contains(text, nats.AUTHORIZATION_ERR):
		return e.WithHint("the server refuses the credentials")
	case strings.Contains(text, nats.AUTHENTICATION_EXPIRED_ERR), strings.Contains(text, nats.AUTHENTICATION_REVOKED_ERR),
		strings.Contains(text, nats.ACCOUNT_AUTHENTICATION_EXPIRED_ERR):
		return e.WithHint("the credentials have expired or were revoked; get new ones from the operator of the servers")
	case errors.Is(err, nats.ErrSecureConnWanted):
		return e.WithHint("the server has no TLS: use nats:// without certificates, or set tls in its configuration")
	case isUnknown:
		return e.WithHint("the server's certificate is signed by an authority that this program does not know; name it (CAFile, --nats-ca)")
	case isOther:
		return e.WithHint("the server's certificate is for other names; use one of them in the URL")
	case strings.Contains(text, "certificate required"), strings.Contains(text, "bad certificate"), strings.Contains(text, "unknown certificate"):
		return e.WithHint("the server asks for a certificate that it knows; name one (CertFile and KeyFile, --nats-cert and --nats-key)")
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		// With TLS 1.3, the server's alert may be lost.
		return e.WithHint("the server ended the connection; perhaps it asks for a certificate that it knows (CertFile and KeyFile, --nats-cert and --nats-key)")
	case errors.Is(err, nats.ErrNoInfoReceived), strings.Contains(text, "tls: first record does not look like a tls handshake"):
		return e.WithHint("what listens at " + redact(urls) + " is not a NATS server, or expects TLS from the first byte")
	}
	return e
}

// permitted returns the error of a permission that the server has denied since a moment at
// which the last error was before. It asks the server, so that nothing is under way.
func (c *Conn) permitted(before error) error {
	if err := c.nc.Flush(); err != nil {
		return err
	}
	err := c.nc.LastError()
	if err == before || !errors.Is(err, nats.ErrPermissionViolation) { //nolint:errorlint // the same error, not one like it
		return nil
	}
	return runner.Wrap(err, runner.KindIO, "").WithHint("the user of NATS lacks a permission; gophersnake's guide to clusters lists those of each role")
}

// redact removes user names, passwords and tokens from a list of URLs.
func redact(urls string) string {
	parts := strings.Split(urls, ",")
	for i, part := range parts {
		scheme, rest, ok := strings.Cut(part, "://")
		if !ok {
			scheme, rest = "nats", part
		}
		_, host, isUser := strings.Cut(rest, "@")
		if isUser {
			rest = host
		}
		parts[i] = scheme + "://" + rest
	}
	return strings.Join(parts, ", ")
}

// NATS returns the connection itself, for other uses. Only [Conn.Close] may close it.
func (c *Conn) NATS() *nats.Conn { return c.nc }

// Close sends what is still to be sent, closes the connection, and stops the server if it is in
// this process. It blocks until that is done, for at most some seconds if the server does not
// answer. Clients and machines that use the connection must not be used any more. It may be
// called several times.
func (c *Conn) Close() {
	if !c.nc.IsClosed() && c.nc.IsConnected() {
		_ = c.nc.FlushTimeout(closeTimeout)
	}
	c.nc.Close()
	<-c.closed
	c.server.stop()
}

// closeTimeout bounds the last flush of a connection.
const closeTimeout = 2 * time.Second
