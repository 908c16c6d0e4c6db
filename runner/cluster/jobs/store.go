package jobs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/cluster"
	"github.com/gophersnake/gophersnake/runner/cluster/internal/wire"
)

// Config has the bounds of what is stored. They hold when a stream or bucket is created; [Serve]
// also applies those of its pipelines' streams and consumers to existing ones.
type Config struct {
	// Retention is how long the record, the result and the dead letter of a job are kept after
	// its end. The default is [DefaultRetention]. It is at least a second.
	Retention time.Duration
	// Jobs and Bytes bound the queue of each pipeline. The defaults are [DefaultJobs] and
	// [DefaultBytes]. The latter also bounds the records, and the large inputs and results, of
	// all pipelines, and a quarter of it the dead letters, of which the oldest are dropped.
	Jobs, Bytes int64
	// DedupeWindow is how long the server knows the id of a message that it has taken. After it,
	// the job itself decides. The default is [DefaultDedupeWindow].
	DedupeWindow time.Duration
	// AckWait is how long a machine may be silent before its jobs go to another one. The default
	// is [DefaultAckWait].
	AckWait time.Duration
	// Begins is how often a job is begun whose machines die with it. The default is
	// [DefaultBegins].
	Begins int
	// Replicas is the number of servers that have each stream. The default is 3 if the servers
	// are a cluster of at least 3, and otherwise 1.
	Replicas int
	// OrderedMaps makes results keep the order of their maps' keys; see [runner.WithOrderedMaps].
	OrderedMaps bool
	// Logger gets what the caller should know, such as changed settings. The default discards it.
	Logger *slog.Logger
}

// The defaults of [Config].
const (
	DefaultRetention    = 7 * 24 * time.Hour
	DefaultJobs         = 1_000_000
	DefaultBytes        = 1 << 30
	DefaultDedupeWindow = 10 * time.Minute
	DefaultAckWait      = 15 * time.Second
	DefaultBegins       = 5
)

// Store is the jobs of all pipelines in one NATS account. Its methods are safe for concurrent
// use.
type Store struct {
	config  Config
	nc      *nats.Conn
	js      jetstream.JetStream
	logger  *slog.Logger
	records jetstream.KeyValue
	// inputs are those that are larger than a message, without an age: they are deleted with
	// their job. results are large results, and large inputs of dead letters.
	inputs, results *wire.Values

	saved *committer // of records

	mu     sync.Mutex
	drains map[string]*drainState // by pipeline
	queues map[string]*committer  // by pipeline
	// webhooks are when a machine was last known that posts those of a pipeline.
	webhooks map[string]time.Time
}

// drainState is what a client knows about the drain of a pipeline.
type drainState struct {
	draining bool
	known    time.Time
}

const (
	recordBucket = "gophersnake-jobs"
	inputBucket  = "gophersnake-job-inputs"
	resultBucket = "gophersnake-job-results"
	deadStream   = "gophersnake-dead"
)

// Open opens the jobs of a connection, and creates the bucket of the records and the
// dead-letter stream if the servers have none. It blocks for some round trips, and for at most 30 s
// if the servers do not answer, for instance because they elect a leader. The error is of kind io. The connection must stay open while the store is used.
func Open(ctx context.Context, conn *cluster.Conn, c Config) (*Store, error) {
	c.Retention = max(cmp.Or(c.Retention, DefaultRetention), time.Second)
	c.Jobs, c.Bytes = cmp.Or(c.Jobs, DefaultJobs), cmp.Or(c.Bytes, DefaultBytes)
	c.DedupeWindow, c.AckWait = cmp.Or(c.DedupeWindow, DefaultDedupeWindow), cmp.Or(c.AckWait, DefaultAckWait)
	c.Begins = cmp.Or(c.Begins, DefaultBegins)
	s := &Store{
		config: c, nc: conn.NATS(), logger: c.Logger, drains: make(map[string]*drainState),
		queues: make(map[string]*committer), webhooks: make(map[string]time.Time),
	}
	s.saved = &committer{store: s, stream: "KV_" + recordBucket}
	if s.logger == nil {
		s.logger = slog.New(slog.DiscardHandler)
	}
	var err error
	if s.js, err = jetstream.New(s.nc); err == nil {
		ctx, cancel := bounded(ctx, submitPatience)
		defer cancel()
		err = s.persevere(ctx, func() error { return s.create(ctx) })
	}
	if err != nil {
		return nil, storeError(ctx, err, "open the jobs")
	}
	return s, nil
}

// create opens the bucket and the stream that all pipelines share.
func (s *Store) create(ctx context.Context) (err error) {
	s.records, err = s.js.KeyValue(ctx, recordBucket)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		s.records, err = s.js.CreateOrUpdateKeyValue(ctx, jetstream.KeyValueConfig{
			Bucket: recordBucket, Description: "the states and results of gophersnake jobs",
			MaxBytes: s.config.Bytes, LimitMarkerTTL: time.Second, Replicas: s.replicas(),
		})
		if err == nil && s.replicas() == 1 {
			s.allowBatches(ctx)
		}
	}
	if err != nil {
		return err
	}
	_, err = s.js.Stream(ctx, deadStream)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		_, err = s.js.CreateStream(ctx, jetstream.StreamConfig{
			Name: deadStream, Description: "gophersnake jobs that failed, with their errors", Subjects: []string{subjectOfDead("*", "*")},
			MaxMsgsPerSubject: 1, MaxAge: s.config.Retention, MaxBytes: s.config.Bytes / 4, Replicas: s.replicas(), AllowDirect: true,
		})
	}
	if err != nil {
		return err
	}
	values := func(bucket, description string, age time.Duration) *wire.Values {
		return &wire.Values{JS: s.js, Hint: "see jobs.Config.Retention and Bytes", Config: jetstream.ObjectStoreConfig{
			Bucket: bucket, Description: description, TTL: age, MaxBytes: s.config.Bytes, Replicas: s.replicas(),
		}}
	}
	s.inputs = values(inputBucket, "inputs of gophersnake jobs that are larger than a message", 0)
	s.results = values(resultBucket, "results of gophersnake jobs that are larger than a message", s.config.Retention)
	return nil
}

// allowBatches makes the stream of the records take batches. Servers older than 2.12 have none.
func (s *Store) allowBatches(ctx context.Context) {
	stream, err := s.js.Stream(ctx, "KV_"+recordBucket)
	if err == nil {
		config := stream.CachedInfo().Config
		config.AllowAtomicPublish = true
		_, err = s.js.UpdateStream(ctx, config)
	}
	if err != nil {
		s.logger.Debug("the records take no batches", "error", err)
	}
}

// replicas returns the wanted number of replicas.
func (s *Store) replicas() int {
	if s.config.Replicas > 0 {
		return s.config.Replicas
	}
	if s.nc.ConnectedClusterName() != "" && len(s.nc.Servers()) >= 3 {
		return 3
	}
	return 1
}

// Pipelines returns the names of the pipelines that have a queue.
func (s *Store) Pipelines(ctx context.Context) ([]string, error) {
	var names []string
	lister := s.js.StreamNames(ctx, jetstream.WithStreamListSubject(subjectOfJob("*", "*", "*")))
	for name := range lister.Name() {
		if token, ok := strings.CutPrefix(name, queuePrefix); ok {
			names = append(names, wire.Untoken(token))
		}
	}
	return names, storeError(ctx, lister.Err(), "list the pipelines")
}

// queueConfig returns the configuration of a pipeline's stream.
func (s *Store) queueConfig(pipeline string) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name: queueName(pipeline), Description: "queued jobs of the pipeline " + pipeline, Subjects: []string{subjectOfJob(pipeline, "*", "*")},
		Retention: jetstream.WorkQueuePolicy, Discard: jetstream.DiscardNew, DiscardNewPerSubject: true, MaxMsgsPerSubject: 1,
		MaxMsgs: s.config.Jobs, MaxBytes: s.config.Bytes, Duplicates: s.config.DedupeWindow, Replicas: s.replicas(), AllowDirect: true,
		AllowAtomicPublish: s.replicas() == 1,
	}
}

// openQueue returns the consumers of a pipeline's stream, the most urgent priority first. It
// creates what is missing. Settings that differ from the wanted ones, because another version
// or configuration of the program has created them, are changed, and the log says so.
func (s *Store) openQueue(ctx context.Context, pipeline string) (consumers []jetstream.Consumer, err error) {
	stream, err := s.migrateQueue(ctx, pipeline)
	if err != nil {
		return nil, err
	}
	for _, priority := range priorities {
		consumer, err := s.migrateConsumer(ctx, stream, jetstream.ConsumerConfig{
			Durable: string(priority), FilterSubject: subjectOfJob(pipeline, "*", string(priority)),
			AckPolicy: jetstream.AckExplicitPolicy, AckWait: s.config.AckWait, MaxDeliver: -1, MaxAckPending: -1,
		})
		if err != nil {
			return nil, fmt.Errorf("the consumer %s of the stream %s: %w", priority, queueName(pipeline), err)
		}
		consumers = append(consumers, consumer)
	}
	return consumers, nil
}

func (s *Store) migrateQueue(ctx context.Context, pipeline string) (jetstream.Stream, error) {
	want := s.queueConfig(pipeline)
	stream, err := s.js.Stream(ctx, want.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return s.js.CreateOrUpdateStream(ctx, want)
	}
	if err != nil {
		return nil, err
	}
	have := stream.CachedInfo().Config
	if have.Retention != want.Retention {
		return nil, fmt.Errorf("the stream %s is not a work queue; another program has created it", want.Name)
	}
	if have.MaxMsgs == want.MaxMsgs && have.MaxBytes == want.MaxBytes && have.Duplicates == want.Duplicates {
		return stream, nil
	}
	s.logger.Warn("the queue had other limits; they are changed", "pipeline", pipeline,
		"jobs", have.MaxMsgs, "bytes", have.MaxBytes, "dedupe_window", have.Duplicates,
		"new_jobs", want.MaxMsgs, "new_bytes", want.MaxBytes, "new_dedupe_window", want.Duplicates)
	have.MaxMsgs, have.MaxBytes, have.Duplicates = want.MaxMsgs, want.MaxBytes, want.Duplicates
	return s.js.UpdateStream(ctx, have)
}

// migrateConsumer returns a consumer with the wanted settings. NATS can change some of those of
// an existing consumer. For others it is created again, which loses nothing: a job stays in the
// stream until its outcome is stored, and one that runs is left to its machine.
func (s *Store) migrateConsumer(ctx context.Context, stream jetstream.Stream, want jetstream.ConsumerConfig) (jetstream.Consumer, error) {
	consumer, err := stream.Consumer(ctx, want.Durable)
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		return stream.CreateOrUpdateConsumer(ctx, want)
	}
	if err != nil {
		return nil, err
	}
	have := consumer.CachedInfo().Config
	fixed := have.AckPolicy == want.AckPolicy && have.DeliverPolicy == want.DeliverPolicy && have.ReplayPolicy == want.ReplayPolicy
	isWanted := fixed && have.AckWait == want.AckWait && have.MaxDeliver == want.MaxDeliver && have.MaxAckPending == want.MaxAckPending &&
		have.FilterSubject == want.FilterSubject && len(have.BackOff) == 0
	if isWanted {
		return consumer, nil
	}
	s.logger.Warn("a consumer had other settings; they are changed", "stream", stream.CachedInfo().Config.Name, "consumer", want.Durable,
		"ack_wait", have.AckWait, "max_deliver", have.MaxDeliver, "new_ack_wait", want.AckWait, "created_again", !fixed)
	want.PauseUntil = have.PauseUntil
	if fixed {
		if consumer, err = stream.UpdateConsumer(ctx, want); err == nil {
			return consumer, nil
		}
	}
	if err := stream.DeleteConsumer(ctx, want.Durable); err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
		return nil, err
	}
	return stream.CreateOrUpdateConsumer(ctx, want)
}

// isTransient reports whether an operation may succeed when it is made again, because a server
// was restarted or a leader is elected.
func isTransient(err error) bool {
	if api, ok := errors.AsType[*jetstream.APIError](err); ok {
		return api.Code == 503 && !isFull(err) || api.ErrorCode == codeInProcess
	}
	for _, transient := range []error{
		nats.ErrTimeout, nats.ErrNoResponders, nats.ErrDisconnected, nats.ErrConnectionReconnecting, nats.ErrReconnectBufExceeded,
		jetstream.ErrNoStreamResponse, jetstream.ErrNoHeartbeat, context.DeadlineExceeded,
	} {
		if errors.Is(err, transient) {
			return true
		}
	}
	return false
}

// codeInProcess is the code of the error of a message whose id is that of one that the servers are
// about to store. Published again, it is known.
const codeInProcess = 10158

// storeError converts an error of NATS. It returns nil for nil.
func storeError(ctx context.Context, err error, operation string) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return runner.Wrap(context.Cause(ctx), runner.KindOther, operation)
	}
	e := runner.Wrap(err, runner.KindIO, operation)
	e.BreakerExempt = true
	switch {
	case errors.Is(err, jetstream.ErrJetStreamNotEnabled), errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount):
		return e.WithHint("jobs need JetStream on the NATS servers, and in their account")
	case isFull(err):
		return e.WithHint("the streams of the NATS server are full, or its disk; see jobs.Config.Jobs and Bytes")
	case errors.Is(err, nats.ErrNoResponders), errors.Is(err, jetstream.ErrNoStreamResponse):
		return e.WithHint("no NATS server with these streams answers; a server whose disk is full stops to serve them")
	}
	return e
}

// isFull reports whether a limit of a stream, an account or a disk was reached.
func isFull(err error) bool {
	api, ok := errors.AsType[*jetstream.APIError](err)
	if !ok {
		return false
	}
	switch api.ErrorCode {
	case 10023, 10028, 10047, 10077: // insufficient resources, memory or storage exceeded, store failed
		return true
	}
	return false
}

// isQueued reports whether a message was refused because its job is in the stream.
func isQueued(err error) bool {
	api, ok := errors.AsType[*jetstream.APIError](err)
	return ok && api.ErrorCode == 10077 && strings.Contains(api.Description, "per subject")
}
