package cli

import (
	"encoding/json"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/runner"
)

const (
	remoteMediaPipeline = "../../../../runner/testdata/remotemedia/values.yaml"
	remoteMediaInput    = `{"args": [1, 2], "end": 3, "operation": "add", "operations": ["uppercase"], "start": 1, "text": "a b.", "value": 3}`
)

// remoteMediaResults are some of the results; runner's tests compare all of them.
var remoteMediaResults = map[string]string{
	"calculator": `{"operation":"add","args":[1,2],"result":3,"processed_by":"CalculatorNode[CalculatorNode]","node_config":{}}`,
	"multiply":   `{"value":12}`,
	"chained":    `{"stage":3,"value":256,"final":true}`,
}

// needRemoteMedia skips the test if there is no wheel of a dependency of the package for the
// processor or a new interpreter.
func needRemoteMedia(t *testing.T) {
	t.Helper()
	py, err := runner.FindInterpreter(t.Context())
	require.NoError(t, err)
	_, err = runner.EnsureEnvironment(t.Context(), []string{"remotemedia-client==0.2.0"})
	if err != nil && (runtime.GOARCH != "amd64" || strings.HasPrefix(py.Version, "3.15")) {
		t.Skipf("remotemedia-client cannot be installed: %v", err)
	}
	require.NoError(t, err)
}

// The node types of remotemedia-client, as installed, by the commands run and stream.
func TestNodesOfRemoteMediaRunAndStream(t *testing.T) {
	needRemoteMedia(t)
	ran := command(t, "run", remoteMediaPipeline, remoteMediaInput)
	require.Zero(t, ran.code, ran.err)
	var results map[string][]json.RawMessage
	require.NoError(t, json.Unmarshal([]byte(ran.out), &results))
	assert.Len(t, results, 23)
	for id, values := range results {
		if id != "batcher" { // it waits for a second item
			assert.NotEmpty(t, values, id)
		}
		if want := remoteMediaResults[id]; want != "" {
			assert.JSONEq(t, want, string(values[0]), id)
		}
	}

	streamed := commandWithInput(t, remoteMediaInput+"\n"+remoteMediaInput+"\n", "stream", remoteMediaPipeline)
	require.Zero(t, streamed.code, streamed.err)
	seen := make(map[string]int)
	for line := range strings.Lines(streamed.out) {
		var record struct {
			Node   string
			Result json.RawMessage
		}
		require.NoError(t, json.Unmarshal([]byte(line), &record))
		seen[record.Node]++
		if want := remoteMediaResults[record.Node]; want != "" {
			assert.JSONEq(t, want, string(record.Result), record.Node)
		}
	}
	assert.Len(t, seen, 23)
	assert.Equal(t, 1, seen["batcher"])
	assert.Equal(t, 4, seen["range"])
}

func TestNodesListsAndDescribesThoseOfRemoteMedia(t *testing.T) {
	got := command(t, "nodes", "../../../../runner/testdata/remotemedia/listed.py")
	require.Zero(t, got.code, got.err)
	assert.Contains(t, got.out, "Listed  (data)")
	assert.Contains(t, got.out, "Registered with its file.")
}
