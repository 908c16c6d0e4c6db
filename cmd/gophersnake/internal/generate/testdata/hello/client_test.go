package hello

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/runnertest"
)

func TestTheClientCallsPython(t *testing.T) {
	pipeline, err := runner.Load("../../../../examples/hello")
	require.NoError(t, err)
	r, err := runner.New(pipeline)
	require.NoError(t, err)
	defer r.Close(context.Background())
	c, err := New(t.Context(), r)
	require.NoError(t, err)

	got, err := c.Run(t.Context(), new("Ada"))
	require.NoError(t, err)
	assert.Equal(t, "GOOD MORNING, ADA!", got)
	got, err = c.Run(t.Context(), nil)
	require.NoError(t, err)
	assert.Equal(t, "GOOD MORNING, WORLD!", got)
	got, err = c.Greet(t.Context(), new("Ada"))
	require.NoError(t, err)
	assert.Equal(t, "Good morning, Ada!", got)

	s, err := c.Stream(t.Context())
	require.NoError(t, err)
	require.NoError(t, s.Send(new("Bob")))
	s.CloseSend()
	got, err = s.Recv()
	require.NoError(t, err)
	assert.Equal(t, "GOOD MORNING, BOB!", got)
}

func TestTheClientCallsGoFunctions(t *testing.T) {
	pipeline, err := runner.Load("../../../../examples/hello")
	require.NoError(t, err)
	r, err := runner.New(pipeline, runner.WithNode("greet", runnertest.Return("hi")), runner.WithNode("shout", runnertest.Return("HI")))
	require.NoError(t, err)
	defer r.Close(context.Background())
	c, err := New(t.Context(), r)
	require.NoError(t, err)
	got, err := c.Run(t.Context(), nil)
	require.NoError(t, err)
	assert.Equal(t, "HI", got)
}
