package wire

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

// Values is a bucket of the object store for contents that are larger than a message of the
// server may be. The sender stores one and sends its name; the receiver takes it. What neither
// side deletes, because it died, the server deletes when it reaches the age of the bucket. Its
// methods are safe for concurrent use.
type Values struct {
	JS jetstream.JetStream
	// Config is that of the bucket, for the first program that needs it.
	Config jetstream.ObjectStoreConfig
	// Hint says which settings change the age and the size of the bucket.
	Hint string

	mu     sync.Mutex
	bucket jetstream.ObjectStore // nil until it is needed
}

// open returns the bucket, and creates it if the server has none.
func (s *Values) open(ctx context.Context) (jetstream.ObjectStore, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bucket != nil {
		return s.bucket, nil
	}
	bucket, err := s.JS.ObjectStore(ctx, s.Config.Bucket)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		bucket, err = s.JS.CreateObjectStore(ctx, s.Config)
	}
	if errors.Is(err, jetstream.ErrBucketExists) { // another program was faster, with other settings
		bucket, err = s.JS.ObjectStore(ctx, s.Config.Bucket)
	}
	if err != nil {
		return nil, err
	}
	s.bucket = bucket
	return bucket, nil
}

// putTimeout bounds the storing of a value whose sender has left.
const putTimeout = time.Minute

// Put stores a content and returns its name. The content must not be changed any more. If ctx
// ends first, Put returns at once, and the value is deleted when it has been stored: a deletion
// before that could find nothing, and the value would stay.
func (s *Values) Put(ctx context.Context, content []byte) (string, error) {
	name, done := nuid.Next(), make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), putTimeout)
		defer cancel()
		done <- s.PutAs(ctx, name, content)
	}()
	select {
	case err := <-done:
		return name, err
	case <-ctx.Done():
		go func() {
			if <-done == nil { // else nothing is stored
				s.Drop(name)
			}
		}()
		return "", s.failed(ctx, ctx.Err(), "")
	}
}

// PutAs stores a content under a name that no other content has.
func (s *Values) PutAs(ctx context.Context, name string, content []byte) error {
	err := s.use(ctx, func(jetstream.ObjectStore) error { return putObject(ctx, s.JS, s.Config.Bucket, name, content) })
	if err != nil {
		return s.failed(ctx, err, fmt.Sprintf("store a value of %d bytes", len(content)))
	}
	return nil
}

// Take returns a content and deletes it.
func (s *Values) Take(ctx context.Context, name string) ([]byte, error) {
	content, err := s.Get(ctx, name)
	if err == nil {
		s.Drop(name)
	}
	return content, err
}

// takeTimeout bounds how long a value may take to arrive.
const takeTimeout = 30 * time.Second

// Get returns a content. nats.go reads until the deadline of its context, even if that is
// canceled before, so Get does not wait for it then.
func (s *Values) Get(ctx context.Context, name string) ([]byte, error) {
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
	var r result
	select {
	case r = <-done:
	case <-ctx.Done():
		r.err = ctx.Err()
	}
	if r.err != nil {
		return nil, s.failed(ctx, r.err, "read a value from the object store")
	}
	return r.content, nil
}

// dropTimeout bounds the deletion of a value. One that cannot be deleted ends by its age.
const dropTimeout = 5 * time.Second

// Drop deletes a content. It may have been deleted already.
func (s *Values) Drop(name string) {
	ctx, cancel := context.WithTimeout(context.Background(), dropTimeout)
	defer cancel()
	_ = s.Delete(ctx, name)
}

// Delete deletes a content. It returns nil if there is none.
func (s *Values) Delete(ctx context.Context, name string) error {
	err := s.use(ctx, func(bucket jetstream.ObjectStore) error { return bucket.Delete(ctx, name) })
	if errors.Is(err, jetstream.ErrObjectNotFound) {
		err = nil
	}
	return err
}

// namesTimeout bounds a list of the contents. nats.go waits for ever if the last ones are deleted
// meanwhile.
const namesTimeout = time.Minute

// Names calls each with the names of the contents and the times when they were stored.
func (s *Values) Names(ctx context.Context, each func(name string, stored time.Time)) error {
	ctx, cancel := context.WithTimeout(ctx, namesTimeout)
	defer cancel()
	return s.use(ctx, func(bucket jetstream.ObjectStore) error {
		all, err := bucket.List(ctx)
		if errors.Is(err, jetstream.ErrNoObjectsFound) {
			return nil
		}
		for _, info := range all {
			each(info.Name, info.ModTime)
		}
		return err
	})
}

// use calls an operation with the bucket. If the server has lost the bucket, because it was
// started again, use creates the bucket and calls the operation once more.
func (s *Values) use(ctx context.Context, operation func(jetstream.ObjectStore) error) error {
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
func (s *Values) failed(ctx context.Context, err error, operation string) error {
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
		return e.WithHint(fmt.Sprintf("the values of the bucket %s are kept for %v; %s", s.Config.Bucket, s.Config.TTL, s.Hint))
	}
	return e.WithHint(fmt.Sprintf("the bucket %s takes at most %d bytes; %s", s.Config.Bucket, s.Config.MaxBytes, s.Hint))
}
