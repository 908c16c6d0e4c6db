package jobs

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/gophersnake/gophersnake/runner"
)

// counts are what a puller has done since its start.
type counts struct {
	begins, redeliveries, dead      atomic.Uint64
	delivered, undelivered, givenUp atomic.Uint64 // webhooks
}

// depth is what the NATS servers say of a pipeline's queue.
type depth struct {
	waiting, given uint64
	lag            time.Duration
}

// depths keeps what the servers have last said of the queues, by pipeline, for frequent scrapes.
type depths struct {
	mu   sync.Mutex // held while the servers are asked
	at   time.Time
	last map[string]depth
}

const (
	// depthTimeout is how long [Server.Metrics] waits for the NATS servers.
	depthTimeout = time.Second
	// depthAge is how old a depth may be that it returns.
	depthAge = time.Second
)

// Metrics returns the metrics of the server and of the queues of its pipelines. Those of the queues
// are the same on each machine, and have no label for it. Metrics of the same name follow each
// other. Metrics blocks while it asks the NATS servers, for at most a second; the metrics of a queue
// of which they say nothing are missing. It may be called at any time.
func (s *Server) Metrics() []runner.Metric {
	found := s.depths()
	var all []runner.Metric
	for _, metric := range []struct {
		name, help string
		value      func(depth) float64
	}{
		{"waiting", "The jobs that no machine has been given.", func(d depth) float64 { return float64(d.waiting) }},
		{"given", "The jobs that a machine runs, or that wait for another attempt or for their time.", func(d depth) float64 { return float64(d.given) }},
		{"lag_seconds", "The age of the oldest job that no machine has been given, 0 if there is none.", func(d depth) float64 { return d.lag.Seconds() }},
	} {
		for _, p := range s.pullers {
			if d, ok := found[p.pipeline]; ok {
				all = append(all, runner.Metric{Name: "gophersnake_jobs_" + metric.name, Help: metric.help, Kind: runner.MetricGauge,
					Labels: map[string]string{"pipeline": p.pipeline}, Value: metric.value(d)})
			}
		}
	}
	for _, metric := range []struct {
		name, help string
		value      func(*counts) uint64
	}{
		{"begins", "The jobs that the machine has begun.", func(c *counts) uint64 { return c.begins.Load() }},
		{"redeliveries", "The jobs that the machine has begun, and that had been begun before.", func(c *counts) uint64 { return c.redeliveries.Load() }},
		{"dead_letters", "The dead letters that the machine has stored.", func(c *counts) uint64 { return c.dead.Load() }},
		{"webhooks_delivered", "The webhooks that a receiver has taken from the machine.", func(c *counts) uint64 { return c.delivered.Load() }},
		{"webhook_failures", "The attempts of the machine to post a webhook that have failed.", func(c *counts) uint64 { return c.undelivered.Load() }},
		{"webhooks_given_up", "The webhooks that the machine has given up.", func(c *counts) uint64 { return c.givenUp.Load() }},
	} {
		for _, p := range s.pullers {
			all = append(all, runner.Metric{Name: "gophersnake_jobs_" + metric.name + "_total", Help: metric.help, Kind: runner.MetricCounter,
				Labels: map[string]string{"pipeline": p.pipeline, "machine": s.name}, Value: float64(metric.value(&p.counts))})
		}
	}
	return all
}

// depths asks the NATS servers for the depths of all queues, unless it has asked just now.
func (s *Server) depths() map[string]depth {
	s.known.mu.Lock()
	defer s.known.mu.Unlock()
	if time.Since(s.known.at) < depthAge {
		return s.known.last
	}
	ctx, cancel := context.WithTimeout(s.living, depthTimeout)
	defer cancel()
	var mu sync.Mutex
	var asking sync.WaitGroup
	found := make(map[string]depth, len(s.pullers))
	for _, p := range s.pullers {
		asking.Go(func() {
			d, err := s.store.depth(ctx, p.pipeline)
			if err != nil {
				s.store.logger.Debug("cannot ask for the depth of a queue", "pipeline", p.pipeline, "error", err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			found[p.pipeline] = d
		})
	}
	asking.Wait()
	s.known.last, s.known.at = found, time.Now()
	return found
}

// depth asks for the depth of the queue of a pipeline.
func (s *Store) depth(ctx context.Context, pipeline string) (d depth, err error) {
	err = s.eachPriority(ctx, pipeline, func(stream jetstream.Stream, priority Priority, info *jetstream.ConsumerInfo) error {
		d.waiting += info.NumPending
		d.given += uint64(info.NumAckPending)
		if info.NumPending == 0 {
			return nil
		}
		msg, err := stream.GetMsg(ctx, info.Delivered.Stream+1, jetstream.WithGetMsgSubject(subjectOfJob(pipeline, "*", string(priority))))
		if errors.Is(err, jetstream.ErrMsgNotFound) { // it was given or canceled meanwhile
			return nil
		}
		if err == nil {
			d.lag = max(d.lag, time.Since(msg.Time))
		}
		return err
	})
	return d, err
}

// eachPriority calls each with the consumer of each priority of a pipeline, as it is now.
func (s *Store) eachPriority(ctx context.Context, pipeline string, each func(jetstream.Stream, Priority, *jetstream.ConsumerInfo) error) error {
	stream, err := s.js.Stream(ctx, queueName(pipeline))
	if err != nil {
		return s.submitError(ctx, pipeline, err)
	}
	for _, priority := range priorities {
		consumer, err := stream.Consumer(ctx, string(priority))
		if err == nil {
			err = each(stream, priority, consumer.CachedInfo())
		}
		if err != nil {
			return storeError(ctx, err, "count jobs")
		}
	}
	return nil
}
