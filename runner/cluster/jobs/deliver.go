package jobs

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/cluster/jobs/internal/webhook"
)

// deliverer posts the documents of one pipeline's jobs that have ended.
type deliverer struct {
	Webhooks
	*puller
	store    *Store
	sender   *webhook.Sender
	consumer jetstream.Consumer
	free     chan struct{} // has an element for each document that is posted
	hosts    *webhook.Hosts
}

const (
	// mostDeliveries is how many documents of a pipeline a machine posts at once.
	mostDeliveries = 16
	// longestWebhookPause is the longest time between two attempts.
	longestWebhookPause = 2 * time.Hour
	// deliveryWait is how long the server waits for a message to be taken.
	deliveryWait = 5 * time.Second
)

// deliverWebhooks posts the documents of all pipelines, if that is configured.
func (s *Server) deliverWebhooks(ctx context.Context) error {
	if s.webhooks == nil {
		return nil
	}
	w := *s.webhooks
	w.Patience, w.Pause = cmp.Or(w.Patience, DefaultWebhookPatience), cmp.Or(w.Pause, DefaultWebhookPause)
	w.Timeout = cmp.Or(w.Timeout, DefaultWebhookTimeout)
	if w.Document == nil {
		return runner.NewError(runner.KindOther, "webhooks have no document").WithHint("set jobs.Webhooks.Document, for instance to that of package httpjobs")
	}
	sender, err := webhook.New(webhook.Config{Secrets: w.Secrets, Allow: w.Allow, Roots: w.Roots, Timeout: w.Timeout})
	if err != nil {
		return err
	}
	hosts := new(webhook.Hosts)
	for _, p := range s.pullers {
		var consumer jetstream.Consumer
		err := s.whileElecting(ctx, func(ctx context.Context) (err error) {
			consumer, err = s.store.openWebhooks(ctx, p.pipeline, w.Timeout+s.store.config.AckWait)
			return err
		})
		if err != nil {
			return storeError(ctx, err, "open the webhooks of "+p.pipeline)
		}
		d := &deliverer{Webhooks: w, puller: p, store: s.store, sender: sender, consumer: consumer, free: make(chan struct{}, mostDeliveries), hosts: hosts}
		s.pulling.Go(d.run)
	}
	return nil
}

// run takes messages until the server takes no more.
func (d *deliverer) run() {
	taking := d.server.taking
	for pause := shortestPause; ; {
		select {
		case d.free <- struct{}{}:
		case <-taking.Done():
			return
		}
		msg, err := d.next(taking)
		if err == nil {
			pause = shortestPause
			d.server.handling.Go(func() {
				defer func() { <-d.free }()
				d.deliver(d.server.delivering, msg)
			})
			continue
		}
		<-d.free
		if errors.Is(err, nats.ErrTimeout) || errors.Is(err, context.DeadlineExceeded) {
			continue // there is none
		}
		select { // the servers do not answer
		case <-taking.Done():
			return
		case <-time.After(pause):
			pause = min(2*pause, longestPause)
		}
	}
}

// next returns the next message. It waits for a time if there is none.
func (d *deliverer) next(ctx context.Context) (jetstream.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, deliveryWait)
	defer cancel()
	return d.consumer.Next(jetstream.FetchContext(ctx))
}

// deliver posts one document, stores in the record of the job what has become of it, and leaves it
// in the stream if there is to be another attempt. If the server is closed meanwhile, another machine
// posts it.
func (d *deliverer) deliver(ctx context.Context, msg jetstream.Msg) {
	ref, ended, err := readWebhook(msg)
	if err != nil {
		d.store.logger.Error("a message of the webhooks is not one; it is deleted", "subject", msg.Subject(), "error", err)
		_ = msg.TermWithReason("it is not a webhook")
		return
	}
	if now, _, err := d.store.load(ctx, ref); err == nil && now.Round == ended.Round && now.Webhook != nil {
		if now.Webhook.hasEnded() {
			_ = msg.Ack() // that of an earlier attempt was lost
			return
		}
		ended.Webhook = now.Webhook
	} else if meta, err := msg.Metadata(); err == nil { // the record is that of a retry, or not kept any more
		ended.Webhook.Attempts = int(min(meta.NumDelivered, 1<<30)) - 1
	}
	leave, wait := d.hosts.Enter(ended.Webhook.URL, time.Now())
	if leave == nil {
		_ = msg.NakWithDelay(wait)
		return
	}
	body, err := d.document(ref, &ended)
	if err == nil {
		err = d.sender.Post(ctx, ended.Webhook.URL, idOfWebhook(ref, &ended), body)
	}
	leave(time.Now())
	if ctx.Err() != nil {
		_ = msg.Nak()
		return
	}
	outcome, pause := d.judge(&ended, err)
	switch stored := d.note(ctx, ref, ended.Round, outcome); {
	case stored != nil:
		d.store.logger.Warn("cannot store what has become of a webhook; it is posted again", "job", ref.String(), "error", stored)
		_ = msg.NakWithDelay(max(pause, d.Pause))
	case outcome.hasEnded():
		_ = msg.Ack()
	default:
		_ = msg.NakWithDelay(pause)
	}
}

// document returns the document of a job as it was at its end.
func (d *deliverer) document(ref Ref, ended *record) ([]byte, error) {
	j := ended.job(ref)
	j.Webhook = nil
	return d.Document(j)
}

// judge returns what an attempt with an error, or nil, makes of a webhook, and how long to wait for
// the next attempt.
func (d *deliverer) judge(ended *record, err error) (w Webhook, pause time.Duration) {
	w = Webhook{URL: ended.Webhook.URL, Attempts: ended.Webhook.Attempts + 1}
	if err == nil {
		w.State, w.Delivered = WebhookDelivered, time.Now()
		d.counts.delivered.Add(1)
		return w, 0
	}
	d.counts.undelivered.Add(1)
	w.State, w.Error = WebhookFailing, err.Error()
	pause = pauseAfter(d.Pause, w.Attempts)
	if w.Next = time.Now().Add(pause); errors.Is(err, webhook.ErrGone) || w.Next.After(ended.Ended.Add(d.Patience)) {
		w.State, w.Next = WebhookGivenUp, time.Time{}
		d.counts.givenUp.Add(1)
		d.store.logger.Warn("a webhook is given up", "url", w.URL, "attempts", w.Attempts, "error", w.Error)
	}
	return w, pause
}

// pauseAfter returns the pause after an attempt: the first pause, three times as much after each
// further one, and at random up to a quarter less or more.
func pauseAfter(first time.Duration, attempts int) time.Duration {
	pause := first
	for range attempts - 1 {
		if pause = 3 * pause; pause >= longestWebhookPause {
			pause = longestWebhookPause
			break
		}
	}
	return time.Duration(float64(pause) * (0.75 + rand.Float64()/2))
}

// note stores the state of a webhook in the record of its job, unless the job was retried
// meanwhile, or its record is not kept any more.
func (d *deliverer) note(ctx context.Context, ref Ref, round int, w Webhook) error {
	ctx, cancel := context.WithTimeout(ctx, d.store.config.AckWait*2/3) // before the server gives the message to another machine
	defer cancel()
	_, _, err := d.store.change(ctx, ref, nil, func(r *record) bool {
		if !r.State.Ended() || r.Round != round || r.Webhook == nil {
			return false
		}
		r.Webhook = &w
		return true
	})
	return err
}
