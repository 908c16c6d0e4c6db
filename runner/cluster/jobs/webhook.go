package jobs

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/vmihailenco/msgpack/v5"

	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/cluster/internal/wire"
	"github.com/gophersnake/gophersnake/runner/cluster/jobs/internal/webhook"
)

// Webhook is a URL to which the document of a job is posted when it has ended, and how far that is.
type Webhook struct {
	URL   string       `msgpack:"url" json:"url"`
	State WebhookState `msgpack:"state" json:"state"`
	// Attempts is how often a machine has posted the document. It does not count attempts whose
	// machine has died.
	Attempts int `msgpack:"attempts,omitempty" json:"attempts"`
	// Error is that of the last attempt, and Next when there will be another one; both are zero
	// unless the last one has failed.
	Error string    `msgpack:"error,omitempty" json:"error,omitempty"`
	Next  time.Time `msgpack:"next,omitempty" json:"next,omitzero"`
	// Delivered is when the receiver has taken the document.
	Delivered time.Time `msgpack:"delivered,omitempty" json:"delivered,omitzero"`
}

// WebhookState is how far a webhook is.
type WebhookState string

// The states of a webhook. The last two are final.
const (
	WebhookPending   WebhookState = "pending" // the job has not ended, or there was no attempt yet
	WebhookFailing   WebhookState = "failing"
	WebhookDelivered WebhookState = "delivered"
	WebhookGivenUp   WebhookState = "given-up"
)

func (w *Webhook) hasEnded() bool { return w.State == WebhookDelivered || w.State == WebhookGivenUp }

// String says how far the webhook is.
func (w *Webhook) String() string {
	switch w.State {
	case WebhookFailing:
		return fmt.Sprintf("failing: %s, attempt %d, the next at %s", w.Error, w.Attempts, w.Next.Local().Format(time.DateTime))
	case WebhookGivenUp:
		return fmt.Sprintf("given up after attempt %d: %s", w.Attempts, w.Error)
	}
	return string(w.State)
}

// WithWebhook makes a machine post the document of the job to a URL when it has ended; see
// [WithWebhooks]. The URL begins with https://, or with http:// if its host is one that the
// machines allow.
func WithWebhook(url string) SubmitOption { return func(e *envelope) { e.Webhook = url } }

// Webhooks configures how a machine posts the documents of jobs with a webhook.
type Webhooks struct {
	// Secrets sign each document as Standard Webhooks describes it. Each is 24 to 64 bytes in
	// base64, and may begin with "whsec_". All machines should have the same. If there are
	// several, the receiver may check any of them.
	Secrets []string
	// Allow are hosts, addresses and prefixes such as 10.0.0.0/8 that may be reached although they
	// are not public, and without TLS.
	Allow []string
	// Document returns the document of a job, in JSON. That of package httpjobs is the one that
	// the HTTP service has.
	Document func(*Job) ([]byte, error)
	// Patience is how long after the end of a job attempts are made. The default is
	// [DefaultWebhookPatience].
	Patience time.Duration
	// Pause is the time between the first two attempts. It triples with each further attempt, up
	// to 2 h, and varies by a quarter. The default is [DefaultWebhookPause].
	Pause time.Duration
	// Timeout bounds an attempt. The default is [DefaultWebhookTimeout].
	Timeout time.Duration
	// Roots verify the certificates of receivers. The default are those of the system.
	Roots *x509.CertPool
}

// The defaults of [Webhooks].
const (
	DefaultWebhookPatience = 24 * time.Hour
	DefaultWebhookPause    = 5 * time.Second
	DefaultWebhookTimeout  = 15 * time.Second
)

// WithWebhooks makes the machine post the documents of the jobs of its pipelines that have a
// webhook. Without it, no job of them can be submitted with one, unless another machine does so.
//
// The end of a job, and what is to be posted, are stored before the job leaves its queue, so a
// webhook is as durable as its job: it is posted at least once. A repeated one has the same
// webhook-id. A connection is made only to addresses that are public, or allowed; redirects are
// not followed, and proxies of the environment are not used.
func WithWebhooks(w Webhooks) ServerOption { return func(o *serverOptions) { o.webhooks = &w } }

// ReadWebhookSecrets reads a file with secrets for [Webhooks], one in each line. Empty lines and
// those that begin with # are skipped. The error is of kind io if the file cannot be read, and
// otherwise of kind other; it does not name a secret.
func ReadWebhookSecrets(file string) ([]string, error) { return webhook.ReadSecrets(file) }

// webhookStream has a message for each document that is to be posted, on the subject
//
//	gophersnake.webhook.PIPELINE.ID.ROUND
//
// Each pipeline has a consumer, once a machine that serves it posts documents.
const webhookStream = "gophersnake-webhooks"

func subjectOfWebhook(pipeline, id, round string) string {
	return "gophersnake.webhook." + part(pipeline) + "." + part(id) + "." + round
}

// ErrWebhook is wrapped by the error of [Store.Submit] if a job cannot have its webhook.
var ErrWebhook = errors.New("the job cannot have this webhook")

// checkWebhook returns an error unless a job may have a webhook: its URL is one, and a machine
// posts the documents of the pipeline. What it knows of that, it believes for a minute.
func (s *Store) checkWebhook(ctx context.Context, pipeline, url string) error {
	if err := webhook.CheckURL(url); err != nil {
		return runner.Wrap(ErrWebhook, runner.KindOther, "the URL of the webhook is not valid: "+err.Error())
	}
	s.mu.Lock()
	known := s.webhooks[pipeline]
	s.mu.Unlock()
	if time.Since(known) < time.Minute {
		return nil
	}
	_, err := s.js.Consumer(ctx, webhookStream, wire.Token(pipeline))
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound), errors.Is(err, jetstream.ErrConsumerNotFound):
		return runner.Wrap(ErrWebhook, runner.KindOther, fmt.Sprintf("no machine posts webhooks for the pipeline %q", pipeline)).
			WithHint("start one with gophersnake serve --jobs --webhook-secret FILE, or jobs.WithWebhooks")
	case err != nil:
		return storeError(ctx, err, "look for a machine that posts webhooks")
	}
	s.mu.Lock()
	s.webhooks[pipeline] = time.Now()
	s.mu.Unlock()
	return nil
}

// newWebhook returns the webhook of a job that is queued, nil if it has none.
func (e *envelope) newWebhook() *Webhook {
	if e.Webhook == "" {
		return nil
	}
	return &Webhook{URL: e.Webhook, State: WebhookPending}
}

// queueWebhook stores what is to be posted about a job that has ended, before the job leaves its
// queue. Again, it changes nothing.
func (s *Store) queueWebhook(ctx context.Context, ref Ref, r *record) error {
	if r.Webhook == nil || r.Webhook.State != WebhookPending {
		return nil
	}
	ended := *r
	ended.Result, ended.Stored = nil, ""
	body, err := msgpack.Marshal(&ended)
	if err != nil {
		return err
	}
	round := strconv.Itoa(r.Round)
	msg := &nats.Msg{Subject: subjectOfWebhook(ref.Pipeline, ref.ID, round), Data: body}
	_, err = s.js.PublishMsg(ctx, msg, jetstream.WithMsgID(ref.key()+"#"+round), jetstream.WithExpectStream(webhookStream))
	if isQueued(err) {
		return nil
	}
	return err
}

// openWebhooks returns the consumer of a pipeline's webhooks. It creates what is missing.
func (s *Store) openWebhooks(ctx context.Context, pipeline string, wait time.Duration) (jetstream.Consumer, error) {
	stream, err := s.js.Stream(ctx, webhookStream)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		stream, err = s.js.CreateStream(ctx, jetstream.StreamConfig{
			Name: webhookStream, Description: "ends of gophersnake jobs that are to be posted", Subjects: []string{subjectOfWebhook("*", "*", "*")},
			Retention: jetstream.WorkQueuePolicy, Discard: jetstream.DiscardNew, DiscardNewPerSubject: true, MaxMsgsPerSubject: 1,
			MaxAge: s.config.Retention, MaxBytes: s.config.Bytes / 4, Duplicates: min(s.config.DedupeWindow, s.config.Retention), Replicas: s.replicas(),
		})
	}
	if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) { // another machine was faster, with other limits
		stream, err = s.js.Stream(ctx, webhookStream)
	}
	if err != nil {
		return nil, err
	}
	return stream.CreateOrUpdateConsumer(ctx, jetstream.ConsumerConfig{
		Durable: wire.Token(pipeline), FilterSubject: subjectOfWebhook(pipeline, "*", "*"),
		AckPolicy: jetstream.AckExplicitPolicy, AckWait: wait, MaxDeliver: -1, MaxAckPending: -1,
	})
}

// readWebhook reads a message of the stream.
func readWebhook(msg jetstream.Msg) (ref Ref, r record, err error) {
	parts := strings.Split(msg.Subject(), ".")
	if len(parts) != 5 {
		return ref, r, errors.New("the subject names no job")
	}
	err = msgpack.Unmarshal(msg.Data(), &r)
	if err == nil && (r.Webhook == nil || !r.State.Ended()) {
		err = errors.New("it is not the end of a job with a webhook")
	}
	return Ref{wire.Untoken(parts[2]), wire.Untoken(parts[3])}, r, err
}

// idOfWebhook returns what the receiver recognizes a document by: the same for each attempt, and
// different for each end of a job that is retried, or that has the id of a forgotten one.
func idOfWebhook(ref Ref, r *record) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s#%d#%d", ref.key(), r.Round, r.Ended.UnixNano()))
	return "job_" + hex.EncodeToString(sum[:16])
}
