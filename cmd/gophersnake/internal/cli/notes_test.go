package cli

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/fixtures"
)

func TestValidateNotesFieldsWithoutEffect(t *testing.T) {
	pipeline := fixtures.Pipeline(t, "defaults: {rate: 16000}\nnodes: [{id: n, node_type: echo, fast_path: true}]")
	const text = "defaults: has no effect: gophersnake has options of its command line instead"
	got := command(t, "validate", "--static", pipeline)
	require.Zero(t, got.code, got.err)
	assert.Regexp(t, `(?m)^note: .*:\d+:11: `+text+`$`, got.err)
	got = command(t, "validate", "--static", "--output", "json", pipeline)
	require.Zero(t, got.code, got.err)
	assert.Contains(t, got.out, `"notes"`)
	assert.Contains(t, got.out, `"path": "defaults"`)
	assert.Empty(t, got.err)
}
