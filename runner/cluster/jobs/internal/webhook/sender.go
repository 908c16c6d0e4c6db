// Package webhook posts documents to the URLs of webhooks. It signs them as Standard Webhooks
// describes it, and connects to no address that is not public, unless that is allowed.
package webhook

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/gophersnake/gophersnake/runner"
)

// Config configures a [Sender].
type Config struct {
	// Secrets sign each document; see [ParseSecret]. There is at least one.
	Secrets []string
	// Allow are hosts, addresses and prefixes such as 10.0.0.0/8 that may be reached although they
	// are not public, and without TLS.
	Allow []string
	// Roots verify the certificates of receivers. The default are those of the system.
	Roots *x509.CertPool
	// Timeout bounds one attempt, from the resolution of the host to the header of the answer.
	Timeout time.Duration
}

// Sender posts documents. Its methods are safe for concurrent use.
type Sender struct {
	timeout time.Duration
	signers []*standardwebhooks.Webhook
	clients map[string]*http.Client // by the scheme of the URL
}

// mostHeaders bounds the header of an answer, in bytes. Nothing of its body is read.
const mostHeaders = 16 << 10

// New returns a sender. The error is of kind other, and names the part of the configuration.
func New(c Config) (*Sender, error) {
	s := &Sender{timeout: c.Timeout}
	for _, secret := range c.Secrets {
		key, err := ParseSecret(secret)
		if err != nil {
			return nil, err
		}
		signer, err := standardwebhooks.NewWebhookRaw(key)
		if err != nil {
			return nil, err
		}
		s.signers = append(s.signers, signer)
	}
	if len(s.signers) == 0 {
		return nil, runner.NewError(runner.KindOther, "there is no secret for webhooks").WithHint(secretHint)
	}
	allowed, err := parseAllowed(c.Allow)
	if err != nil {
		return nil, err
	}
	s.clients = map[string]*http.Client{
		"https": newClient(allowed.dial(allowed.permit), c.Roots),
		"http":  newClient(allowed.dial(allowed.permitPlain), nil),
	}
	return s, nil
}

// newClient returns a client that follows no redirect, keeps no connection, and ignores the
// proxies of the environment, because a proxy would connect to any address.
func newClient(dial func(context.Context, string, string) (net.Conn, error), roots *x509.CertPool) *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			DialContext: dial, DisableKeepAlives: true, DisableCompression: true, MaxResponseHeaderBytes: mostHeaders,
			TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// ErrGone is the error of a receiver that wants no more: its status is 410.
var ErrGone = errors.New("status 410: the receiver wants no more")

// Post posts a document in JSON, and blocks until the receiver has answered, at most for the
// timeout. The receiver recognizes a repeated document by the id. The error's text is
// shown to the client that has submitted the URL: it names no address that is not public.
func (s *Sender) Post(ctx context.Context, to, id string, body []byte) error {
	parsed, err := url.Parse(to)
	if err != nil {
		return errors.New("the URL cannot be parsed")
	}
	client := s.clients[parsed.Scheme]
	if client == nil {
		return fmt.Errorf("the scheme %.20q is neither https nor http", parsed.Scheme)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, s.timeout, errTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to, bytes.NewReader(body))
	if err == nil {
		err = s.sign(req.Header, id, body)
	}
	if err != nil {
		return err
	}
	answer, err := client.Do(req)
	if err != nil {
		return explain(ctx, err)
	}
	_ = answer.Body.Close()
	switch {
	case answer.StatusCode >= 200 && answer.StatusCode < 300:
		return nil
	case answer.StatusCode >= 300 && answer.StatusCode < 400:
		return fmt.Errorf("status %d: redirects are not followed", answer.StatusCode)
	case answer.StatusCode == http.StatusGone:
		return ErrGone
	}
	return fmt.Errorf("status %d", answer.StatusCode)
}

// sign sets the header of a request. If a secret is about to be replaced, the receiver may check
// the signature of either one.
func (s *Sender) sign(header http.Header, id string, body []byte) error {
	now := time.Now()
	var signatures []string
	for _, signer := range s.signers {
		signature, err := signer.Sign(id, now, body)
		if err != nil {
			return err
		}
		signatures = append(signatures, signature)
	}
	header.Set("Content-Type", "application/json")
	header.Set("User-Agent", "gophersnake")
	header.Set(standardwebhooks.HeaderWebhookID, id)
	header.Set(standardwebhooks.HeaderWebhookTimestamp, strconv.FormatInt(now.Unix(), 10))
	header.Set(standardwebhooks.HeaderWebhookSignature, strings.Join(signatures, " "))
	return nil
}

// errTimeout is the cause of the end of an attempt that takes too long.
var errTimeout = errors.New("the receiver does not answer in time")

// mostText is the largest length of the text of an error.
const mostText = 200

// explain returns the error of an attempt without what the submitter of the URL should not see:
// the addresses of name servers, and those behind a name that are not public.
func explain(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	if of, ok := errors.AsType[*url.Error](err); ok {
		err = of.Err
	}
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		return fmt.Errorf("the host %.100s cannot be resolved", runner.PrintableLine(dns.Name))
	}
	for _, refusal := range []error{errNotPublic, errPlain} {
		if errors.Is(err, refusal) {
			return refusal
		}
	}
	text := err.Error()
	if op, ok := errors.AsType[*net.OpError](err); ok { // its text would have the address
		text = op.Op + ": " + op.Err.Error()
	}
	text = runner.PrintableLine(text)
	if len(text) > mostText {
		text = strings.ToValidUTF8(text[:mostText], "") + "…"
	}
	return errors.New(text)
}
