package runner

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner/internal/flow"
	"github.com/gophersnake/gophersnake/runner/manifest"
)

// constant returns a runner with a Go node whose value is nil.
func constant(t *testing.T) *Runner {
	t.Helper()
	p := &manifest.Pipeline{Version: manifest.Version, Nodes: []manifest.Node{manifest.NewNode("n", "N")}}
	r, err := New(p, WithNode("N", func(context.Context, Input) (any, error) { return nil, nil }))
	require.NoError(t, err)
	require.NoError(t, r.Start(t.Context()))
	return r
}

func TestAStreamThatIsOpenedWhileTheRunnerStopsStreamsIsStopped(t *testing.T) {
	r := constant(t)
	r.endStreams()
	s := r.openStream(t.Context(), r.plan, streamOptions{}, nil)
	_, err := s.Recv()
	require.ErrorContains(t, err, "the runner is closed")
	require.NoError(t, r.Close(t.Context()))
}

// unreadable is a node whose values cannot be decoded. The host checks the values of
// workers when they arrive, so no Python node can take its place.
type unreadable struct{ flow.Node }

func (unreadable) Kind() flow.Kind { return flow.Single }
func (unreadable) Probing() bool   { return false }
func (unreadable) Call(context.Context, flow.Inputs) (flow.Value, error) {
	return flow.Value{Payload: ipc.Payload{Body: []byte{0xc1}}, Encoded: true}, nil
}

func TestAValueThatCannotBeReadIsAnError(t *testing.T) {
	r := constant(t)
	defer r.Close(t.Context())
	r.plan = flow.NewPlan([]flow.Step{{ID: "n", Node: unreadable{}}}, nil, largestQueue)
	s, err := r.Stream(t.Context())
	require.NoError(t, err)
	require.NoError(t, s.Send(nil))
	_, err = s.Recv()
	require.ErrorIs(t, err, KindMarshaling)
	_, again := s.Recv()
	assert.ErrorIs(t, again, err)
	require.NoError(t, s.Close())

	_, err = r.gather(t.Context(), nil, nil)
	require.ErrorIs(t, err, KindMarshaling)
	assert.Equal(t, "n", AsError(err).Node)
	for name, run := range map[string]func() error{
		"Run":       func() error { _, err := r.Run(t.Context(), nil); return err },
		"RunShared": func() error { _, err := r.RunShared(t.Context(), nil); return err },
	} {
		err := run()
		require.ErrorIs(t, err, KindMarshaling, name)
		assert.IsType(t, &Error{}, err, name)
	}
}
