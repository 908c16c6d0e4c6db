package serve

import (
	"context"
	"crypto/tls"
	"errors"
	"log"
	"net"
	"net/http"
	"time"

	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/document"
)

// Config is what [Listen] needs besides the options of the handler.
type Config struct {
	// Address is HOST:PORT. If HOST is not a loopback address, there must be tokens, or
	// Insecure.
	Address string
	// Tokens are those that requests need; see [WithTokens]. [ReadTokens] reads them.
	Tokens []Token
	// CertFile and KeyFile are the files of a certificate and its key, for TLS.
	CertFile, KeyFile string
	// Insecure allows requests from other machines without a token.
	Insecure bool
	// DrainTimeout is how long work under way may take when the server stops.
	DrainTimeout time.Duration
	// ErrorLog gets the messages of package net/http, for instance about failed TLS
	// handshakes. The default is that of package log.
	ErrorLog *log.Logger
}

// Server is an HTTP server with a [Handler], and with limits for clients that are slow or
// hostile. It speaks HTTP/1.1 and HTTP/2, with TLS or without.
type Server struct {
	config   Config
	handler  *handler
	listener net.Listener
	http     *http.Server
}

// The limits of a [Server].
const (
	headerTimeout = 10 * time.Second
	idleTimeout   = 2 * time.Minute
	mostHeaders   = 64 << 10
	// closeTimeout is how long calls that were canceled have to end: a node has 2 s to
	// handle the cancellation.
	closeTimeout = 5 * time.Second
)

// Listen opens a server for pipelines. It answers as soon as [Server.Run] runs, also before the
// runners are started: /readyz says so, and calls wait. On a loopback address, it refuses
// requests for other hosts; see [WithHosts]. The error is of kind io if the address or a
// file cannot be used, and of kind other if the configuration is not safe.
func Listen(runners map[string]*runner.Runner, c Config, opts ...Option) (*Server, error) {
	security, err := c.security()
	if err != nil {
		return nil, err
	}
	listener, err := c.listen(c.Address)
	if err != nil {
		return nil, err
	}
	opts = append(opts, WithTokens(c.Tokens...))
	if isLoopback(listener) {
		opts = append(opts, WithHosts("localhost"))
	}
	s := &Server{config: c, handler: newHandler(runners, opts), listener: listener}
	if s.handler.admin && (!s.handler.isLocal() || len(c.Tokens) > 0) {
		_ = listener.Close()
		return nil, runner.NewError(runner.KindOther, "clients without a token may administer a service only on a loopback address, for no other host, and if none needs a token").
			WithHint("use tokens with the attribute admin in place of --admin")
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	s.http = &http.Server{
		Handler: s.handler, ConnContext: ConnContext, Protocols: protocols, TLSConfig: security, ErrorLog: c.ErrorLog,
		ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: mostHeaders,
	}
	return s, nil
}

// listen opens a listener. If other machines could use it, there must be tokens, or Insecure.
func (c *Config) listen(address string) (net.Listener, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, runner.Wrap(err, runner.KindIO, "serve")
	}
	if !isLoopback(listener) && len(c.Tokens) == 0 && !c.Insecure {
		_ = listener.Close()
		return nil, runner.NewError(runner.KindOther, "other machines could use the service without a token: "+address+" is not a loopback address").
			WithHint("require a token, or allow this explicitly; gophersnake serve has --token-file and --insecure")
	}
	return listener, nil
}

func isLoopback(listener net.Listener) bool { return listener.Addr().(*net.TCPAddr).IP.IsLoopback() }

// security returns the configuration of TLS, nil without TLS.
func (c *Config) security() (*tls.Config, error) {
	switch {
	case c.CertFile == "" && c.KeyFile == "":
		return nil, nil
	case c.CertFile == "", c.KeyFile == "":
		return nil, runner.NewError(runner.KindOther, "TLS needs a certificate and a key")
	}
	certificate, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
	if err != nil {
		return nil, runner.Wrap(err, runner.KindIO, "read the certificate")
	}
	return &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12}, nil
}

// JobDocument returns the document of a job, in JSON, as /v1/jobs has it. It is for webhooks; see
// [JobWebhook].
func (s *Server) JobDocument(j *Job) ([]byte, error) {
	x := &exchange{h: s.handler, ctx: context.Background()}
	return document.Encode(x.jobDocument(j), "")
}

// URL returns the URL of the server, with the port that it listens at.
func (s *Server) URL() string {
	scheme := "http"
	if s.config.CertFile != "" {
		scheme = "https"
	}
	return scheme + "://" + s.listener.Addr().String()
}

// Run answers requests until the context ends, and then stops in these steps. The server says
// that it is not ready, refuses further calls with status 503, and ends the inputs of streams.
// When all work under way has ended, or the drain timeout has passed, it cancels what is left,
// whose clients get status 503, and closes. Run returns nil then, and otherwise the error that
// ended the server. It must be called once. The runners stay open.
func (s *Server) Run(ctx context.Context) error {
	failed := make(chan error, 1)
	go func() {
		if s.config.CertFile != "" {
			failed <- s.http.ServeTLS(s.listener, "", "")
		} else {
			failed <- s.http.Serve(s.listener)
		}
	}()
	select {
	case err := <-failed:
		s.handler.stop()
		return runner.Wrap(err, runner.KindIO, "serve")
	case <-ctx.Done():
	}
	idle := s.handler.drain()
	waitFor(idle, s.config.DrainTimeout)
	s.handler.stop()
	waitFor(idle, closeTimeout)
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	if s.http.Shutdown(closing) != nil {
		_ = s.http.Close()
	}
	if err := <-failed; !errors.Is(err, http.ErrServerClosed) {
		return runner.Wrap(err, runner.KindIO, "serve")
	}
	return nil
}

// waitFor waits until a channel is closed, or the time has passed.
func waitFor(done <-chan struct{}, limit time.Duration) {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
	}
}
