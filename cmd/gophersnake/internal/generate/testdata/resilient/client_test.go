package resilient

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/runner"
)

func TestTheClientCallsPython(t *testing.T) {
	pipeline, err := runner.Load("../../../../examples/resilient")
	require.NoError(t, err)
	r, err := runner.New(pipeline)
	require.NoError(t, err)
	defer r.Close(context.Background())
	c, err := New(t.Context(), r)
	require.NoError(t, err)

	got, err := c.Run(t.Context(), Order{Mode: new("crash"), Times: new(int64(1))})
	require.NoError(t, err)
	assert.Equal(t, int64(1), got.(map[string]any)["failures"])
	_, err = c.Fragile(t.Context(), Order{Mode: new("permanent")})
	assert.ErrorIs(t, err, runner.KindExecution)
	assert.ErrorContains(t, err, "article 4711 is not in the catalog")
}
