package jobs

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner/cluster/internal/wire"
)

// Message returns the message of a job, as a submitter publishes it.
func Message(t *testing.T, pipeline, id string) *nats.Msg {
	e := envelope{Pipeline: pipeline, ID: id, Priority: Normal, Submitted: time.Now(), Attempts: 1}
	msg, err := e.message(Content(t, 1))
	require.NoError(t, err)
	return msg
}

// Content returns a value as it is in a message.
func Content(t *testing.T, value any) []byte {
	p, err := ipc.Encode("input", value)
	require.NoError(t, err)
	return wire.AppendPayload(nil, p)
}

// AsideMessage returns the message of a job whose input is stored as PutInput does.
func AsideMessage(t *testing.T, ref Ref) *nats.Msg {
	e := envelope{Pipeline: ref.Pipeline, ID: ref.ID, Priority: Normal, Submitted: time.Now(), Attempts: 1, Stored: ref.key() + ".orphan"}
	msg, err := e.message(nil)
	require.NoError(t, err)
	return msg
}

// Sweep deletes the large inputs without a job that are older than an age.
func (s *Store) Sweep(ctx context.Context, age time.Duration) error { return s.sweep(ctx, age) }

// PutInput stores a large input, as a submitter does that dies before it queues the job.
func (s *Store) PutInput(ctx context.Context, ref Ref, content []byte) error {
	return s.inputs.PutAs(ctx, ref.key()+".orphan", content)
}

// WithClock sets the clock of the schedules, and how often the server looks at it.
func WithClock(now func() time.Time, tick time.Duration) ServerOption {
	return func(o *serverOptions) { o.clock, o.scheduleTick = now, tick }
}

// AddScheduleAt adds a schedule at a time.
func (s *Store) AddScheduleAt(ctx context.Context, c Schedule, now time.Time) error {
	return s.addSchedule(ctx, c, now)
}
