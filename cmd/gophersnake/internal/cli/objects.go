package cli

import (
	"context"
	"errors"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/input"
	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/program"
	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/cluster"
	"github.com/gophersnake/gophersnake/runner/cluster/jobs"
)

// jobsLink is the connection of a command to the jobs, which is opened when it is needed first.
type jobsLink struct {
	app    *app
	client *program.JobsClient
	store  *jobs.Store
	conn   *cluster.Conn // nil until then
}

// open returns the jobs.
func (l *jobsLink) open(ctx context.Context) (*jobs.Store, error) {
	if l.conn != nil {
		return l.store, nil
	}
	store, conn, err := l.client.Open(ctx, l.app.App)
	if err != nil {
		return nil, err
	}
	l.store, l.conn = store, conn
	return store, nil
}

func (l *jobsLink) close() {
	if l.conn != nil {
		l.conn.Close()
	}
}

// bucket opens a bucket of the object store, for inputs.
func (l *jobsLink) bucket(ctx context.Context, name string) (input.Bucket, error) {
	if _, err := l.open(ctx); err != nil {
		return nil, err
	}
	js, err := jetstream.New(l.conn.NATS())
	if err != nil {
		return nil, runner.Wrap(err, runner.KindIO, "open the bucket "+name)
	}
	store, err := js.ObjectStore(ctx, name)
	switch {
	case errors.Is(err, jetstream.ErrBucketNotFound), errors.Is(err, jetstream.ErrInvalidStoreName):
		return nil, runner.Wrap(err, runner.KindIO, "there is no bucket "+name).WithHint("nats object ls lists the buckets; if this is text, write it as JSON")
	case err != nil:
		return nil, runner.Wrap(err, runner.KindIO, "open the bucket "+name)
	}
	return &bucket{ctx, store, name}, nil
}

// bucket is a bucket of the object store. Its context is that of the command.
type bucket struct {
	ctx   context.Context
	store jetstream.ObjectStore
	name  string
}

// Names implements [input.Bucket].
func (b *bucket) Names() (names []string, err error) {
	objects, err := b.store.List(b.ctx)
	if errors.Is(err, jetstream.ErrNoObjectsFound) {
		return nil, nil
	}
	if err != nil {
		return nil, runner.Wrap(err, runner.KindIO, "list the bucket "+b.name)
	}
	for _, object := range objects {
		names = append(names, object.Name)
	}
	return names, nil
}

// Read implements [input.Bucket].
func (b *bucket) Read(name string) ([]byte, error) {
	data, err := b.store.GetBytes(b.ctx, name)
	if err != nil {
		return nil, runner.Wrap(err, runner.KindIO, "read the object "+b.name+"/"+name)
	}
	return data, nil
}
