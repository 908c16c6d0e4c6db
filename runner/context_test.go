package runner_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/runner"
)

const contextCode = `
import logging, os
import gophersnake
from gophersnake import node

@node
def look(x):
    logging.getLogger("mine").warning("looked %s", x)
    if x == "crash" and not os.path.exists("died"):
        open("died", "w").close()
        os._exit(3)
    left = gophersnake.deadline()
    return [gophersnake.node_id(), gophersnake.call_id(), gophersnake.attempt(), left]
`

func TestANodeReadsTheContextOfItsCall(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(base, "nodes.py"), []byte(contextCode), 0o600))
	var text logBuffer
	logger := hclog.New(&hclog.LoggerOptions{Output: &text, JSONFormat: true})
	r, err := loadIn(t, base, "nodes:\n  - {id: here, node_type: look, timeout: 1000s, "+
		"retry: {fixed: 1ms, max_attempts: 2}}\n", runner.WithLogger(logger))
	require.NoError(t, err)
	require.NoError(t, r.Start(t.Context()))
	look := func(ctx context.Context, x string) []any {
		out, err := r.Run(ctx, x)
		require.NoError(t, err)
		found, ok := out.([]any)
		require.True(t, ok && len(found) == 4, "%v", out)
		assert.Equal(t, "here", found[0])
		return found
	}
	first := look(t.Context(), "plain")
	assert.EqualValues(t, 1, first[2])
	assert.InDelta(t, 900, first[3], 100, "the timeout of the node")

	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Second)
	defer cancel()
	second := look(ctx, "early")
	assert.EqualValues(t, 1, second[2])
	assert.InDelta(t, 400, second[3], 100, "the deadline of the caller")

	assert.EqualValues(t, 2, look(t.Context(), "crash")[2], "the worker ended in the first attempt")
	require.NoError(t, r.Close(t.Context()))
	records := text.records(t)
	assert.EqualValues(t, first[1], records["looked plain"]["call"])
	assert.EqualValues(t, second[1], records["looked early"]["call"])
}
