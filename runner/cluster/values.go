package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"github.com/gophersnake/gophersnake/runner"
)

// valueBucket is the bucket of the object store for values that are larger than a message.
const valueBucket = "gophersnake-values"

// The defaults of the value store.
const (
	DefaultValueAge   = 10 * time.Minute
	DefaultValueBytes = 1 << 30
)

// valueStore keeps the contents of frames that are larger than a message of the server may be.
// The sender stores one and sends its name, and the receiver deletes it when it has it. What
// neither side deletes, because it died, the server deletes when it reaches the age of the
// bucket. The bucket is in the memory of the server: its values are of use only while a
// call waits for them, so nothing is gained by writing them to a disk.
type valueStore struct {
	js    jetstream.JetStream
	bytes int64
	age   time.Duration

	mu     sync.Mutex
	bucket jetstream.ObjectStore // nil until it is needed
}

// open returns the bucket, and creates it if the server has none.
func (s *valueStore) open(ctx context.Context) (jetstream.ObjectStore, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bucket != nil {
		return s.bucket, nil
	}
	bucket, err := s.js.ObjectStore(ctx, valueBucket)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		bucket, err = s.js.CreateObjectStore(ctx, jetstream.ObjectStoreConfig{
			Bucket: valueBucket, Description: "values of gophersnake calls that are larger than a message",
			TTL: s.age, MaxBytes: s.bytes, Storage: jetstream.MemoryStorage,
		})
	}
	if errors.Is(err, jetstream.ErrBucketExists) { // another program was faster, with other settings
		bucket, err = s.js.ObjectStore(ctx, valueBucket)
	}
	if err != nil {
		return nil, err
	}
	s.bucket = bucket
	return bucket, nil
}

// put stores the content of a frame and returns its name.
func (s *valueStore) put(ctx context.Context, content []byte) (string, error) {
	name := nuid.Next()
	err := s.use(ctx, func(bucket jetstream.ObjectStore) error {
		_, err := bucket.PutBytes(ctx, name, content)
		return err
	})
	if err != nil {
		s.drop(name) // if ctx has ended, the server may have it nevertheless
		return "", s.failed(ctx, err, fmt.Sprintf("store a value of %d bytes", len(content)))
	}
	return name, nil
}

// takeTimeout bounds how long a value may take to arrive.
const takeTimeout = 30 * time.Second

// take returns a content and deletes it.
func (s *valueStore) take(ctx context.Context, name string) ([]byte, error) {
	content, err := s.get(ctx, name)
	if err != nil {
		return nil, s.failed(ctx, err, "read a value from the object store")
	}
	s.drop(name)
	return content, nil
}

// get returns a content. nats.go reads until the deadline of its context, even if that is
// canceled before, so get does not wait for it then.
func (s *valueStore) get(ctx context.Context, name string) ([]byte, error) {
	type result struct {
		content []byte
		err     error
	}
	done := make(chan result, 1)
	go func() {
		ctx, cancel := context.WithTimeout(ctx, takeTimeout)
		defer cancel()
		var r result
		r.err = s.use(ctx, func(bucket jetstream.ObjectStore) (err error) {
			r.content, err = bucket.GetBytes(ctx, name)
			return err
		})
		done <- r
	}()
	select {
	case r := <-done:
		return r.content, r.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// dropTimeout bounds the deletion of a value. One that cannot be deleted ends by its age.
const dropTimeout = 5 * time.Second

// drop deletes a content. It may have been deleted already.
func (s *valueStore) drop(name string) {
	ctx, cancel := context.WithTimeout(context.Background(), dropTimeout)
	defer cancel()
	_ = s.use(ctx, func(bucket jetstream.ObjectStore) error { return bucket.Delete(ctx, name) })
}

// use calls an operation with the bucket. If the server has lost the bucket, because it was
// started again, use creates the bucket and calls the operation once more.
func (s *valueStore) use(ctx context.Context, operation func(jetstream.ObjectStore) error) error {
	bucket, err := s.open(ctx)
	if err != nil {
		return err
	}
	err = operation(bucket)
	if !errors.Is(err, jetstream.ErrStreamNotFound) && !errors.Is(err, jetstream.ErrNoStreamResponse) {
		return err
	}
	s.mu.Lock()
	s.bucket = nil
	s.mu.Unlock()
	if bucket, err = s.open(ctx); err != nil {
		return err
	}
	return operation(bucket)
}

// failed converts an error of the object store.
func (s *valueStore) failed(ctx context.Context, err error, operation string) error {
	if ctx.Err() != nil {
		return runner.Wrap(context.Cause(ctx), runner.KindOther, "")
	}
	e := runner.Wrap(err, runner.KindIO, operation)
	e.BreakerExempt = true
	switch {
	case errors.Is(err, jetstream.ErrJetStreamNotEnabled), errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount),
		errors.Is(err, nats.ErrNoResponders), errors.Is(err, jetstream.ErrNoStreamResponse):
		return e.WithHint("the value is larger than a message of the NATS server; enable JetStream there, or raise max_payload")
	case errors.Is(err, jetstream.ErrObjectNotFound):
		return e.WithHint(fmt.Sprintf("values are kept for %v; see Config.ValueAge", s.age))
	}
	return e.WithHint(fmt.Sprintf("the bucket %s takes at most %d bytes; see Config.ValueBytes", valueBucket, s.bytes))
}
