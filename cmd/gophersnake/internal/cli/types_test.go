package cli

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/fixtures"
)

func TestValidateComparesTheAnnotationsOfConnectedNodes(t *testing.T) {
	const begin, end = "version: v1\npython: nodes.py\nnodes: [{id: from, node_type: ", "}, {id: add, node_type: add}]\nconnections: [{from: from, to: add}]\n"
	fixtures.Chdir(t, map[string]string{
		"nodes.py": "from gophersnake import node\n@node\ndef shout(x) -> str: return str(x)\n@node\ndef measure(x) -> float: return 1.5\n" +
			"@node\ndef add(value: int) -> int: return value + 1\n@node\ndef same(x): return x\n",
		"never.yaml": begin + "shout" + end,
		"open.yaml":  begin + "measure" + end,
		"any.yaml":   begin + "same" + end,
	})
	got := command(t, "validate", "never.yaml", "open.yaml", "any.yaml")
	assert.Equal(t, 3, got.code)
	assert.Contains(t, got.err, `"from" returns str, which never fits the input "value" of "add", int: text instead of an integer`)
	assert.Contains(t, got.err, `warning: open.yaml: "from" returns float, which may not fit the input "value" of "add", int: a number instead of an integer`)
	assert.Equal(t, "ok open.yaml (2 nodes)\nok any.yaml (2 nodes)\n", got.out)

	got = command(t, "validate", "open.yaml", "--output", "json")
	var verdicts []verdict
	require.NoError(t, json.Unmarshal([]byte(got.out), &verdicts), got.out)
	require.Len(t, verdicts, 1)
	assert.True(t, verdicts[0].OK)
	assert.Len(t, verdicts[0].Warnings, 1)

	var nodes []map[string]any
	require.NoError(t, json.Unmarshal([]byte(succeed(t, "nodes", "nodes.py", "--output", "json")), &nodes))
	assert.Equal(t, map[string]any{"type": "integer"}, nodes[2]["output"])
	input := nodes[2]["inputs"].([]any)[0].(map[string]any)
	assert.Equal(t, map[string]any{"type": "integer"}, input["schema"])
	assert.Equal(t, map[string]any{}, nodes[3]["output"])
}
