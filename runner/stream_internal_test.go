package runner

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner/manifest"
)

// constant is a runner of a Go node that gives nil.
func constant(t *testing.T) *Runner {
	t.Helper()
	p := &manifest.Pipeline{Version: manifest.Version, Nodes: []manifest.Node{manifest.NewNode("n", "N")}}
	r, err := New(p, WithNode("N", func(context.Context, Input) (any, error) { return nil, nil }))
	require.NoError(t, err)
	require.NoError(t, r.Start(t.Context()))
	return r
}

func TestAStreamThatOpensWhileTheRunnerEndsThemEnds(t *testing.T) {
	r := constant(t)
	r.endStreams()
	s := r.openStream(t.Context(), 0)
	_, err := s.Recv()
	require.ErrorContains(t, err, "the runner is closed")
	require.NoError(t, r.Close(t.Context()))
}

// A worker's values are checked before they go on, so that one which cannot be read
// is put into the stream behind its back.
func TestAValueThatCannotBeReadIsAnError(t *testing.T) {
	unreadable := value{payload: ipc.Payload{Body: []byte{0xc1}}, encoded: true}
	r := constant(t)
	defer r.Close(t.Context())
	s, err := r.Stream(t.Context())
	require.NoError(t, err)
	s.mu.Lock()
	push(s.out, unreadable)
	s.mu.Unlock()
	_, err = s.Recv()
	require.ErrorIs(t, err, KindMarshaling)
	_, again := s.Recv()
	assert.ErrorIs(t, again, err)
	require.NoError(t, s.Close())

	_, err = r.gatherBy(t.Context(), nil, func(value) (any, error) { return unreadable.decode("result") })
	require.ErrorIs(t, err, KindMarshaling)
	assert.Equal(t, "n", err.(*Error).Node)
}
