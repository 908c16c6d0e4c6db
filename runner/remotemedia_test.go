package runner_test

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/internal/isolation"
)

// remoteMediaRequirements returns the line of a manifest that installs the package from PyPI,
// or without it what nodes need if our stand-in takes its place. The test is skipped if
// there is no wheel of one of its dependencies for the processor or a new interpreter.
func remoteMediaRequirements(t *testing.T, which string) string {
	t.Helper()
	if which == "stand-in" {
		return "requirements: [numpy]\n"
	}
	const client = "remotemedia-client==0.2.0"
	py, err := runner.FindInterpreter(t.Context())
	require.NoError(t, err)
	_, err = runner.EnsureEnvironment(t.Context(), []string{client})
	if err != nil && (strings.HasPrefix(py.Version, "3.15") || runtime.GOARCH != "amd64") {
		t.Skipf("%s cannot be installed: %v", client, err)
	}
	require.NoError(t, err)
	return "requirements: [" + client + "]\n"
}

func remoteMediaDir(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("testdata/remotemedia")
	require.NoError(t, err)
	return dir
}

// remoteMedia starts a pipeline of one node of testdata/remotemedia/nodes.py.
func remoteMedia(t *testing.T, requirements, nodeType string, events *recorder, more ...string) *runner.Runner {
	t.Helper()
	text := "version: v1\npython: nodes.py\n" + requirements + single(nodeType, append(more, "workers: {spare: 0, max: 1}", "retry: none")...)
	r := parse(t, text, remoteMediaDir(t), runner.WithEvents(events.record))
	require.NoError(t, r.Start(t.Context()))
	return r
}

// streamed sends values to a stream, and returns the results of each sink in order.
func streamed(t *testing.T, r *runner.Runner, in ...any) map[string][]any {
	t.Helper()
	s, err := r.Stream(t.Context())
	require.NoError(t, err)
	defer s.Close()
	go func() {
		for _, v := range in {
			if s.Send(v) != nil {
				return // Recv returns the error
			}
		}
		s.CloseSend()
	}()
	got := make(map[string][]any)
	for item, err := range s.All() {
		require.NoError(t, err, "%+v", err)
		got[item.Node] = append(got[item.Node], item.Value)
	}
	return got
}

func stereo(samples ...float32) *ipc.Audio {
	return &ipc.Audio{Samples: samples, Rate: 8000, Channels: 2}
}

func envelope(kind string, more ...any) map[string]any {
	m := map[string]any{"__runtime_data__": kind}
	for i := 0; i < len(more); i += 2 {
		m[more[i].(string)] = more[i+1]
	}
	return m
}

func tuple(items ...any) map[string]any { return map[string]any{"__tuple__": items} }

func remoteMediaTensor(t *testing.T) *ipc.Tensor {
	t.Helper()
	tensor, err := ipc.NewTensor([]float32{1, 2, 3, 4}, 2, 2)
	require.NoError(t, err)
	return tensor
}

// remoteMediaForms are nodes of each form, and what a stream of them returns.
func remoteMediaForms(t *testing.T) []struct {
	nodeType, params string
	in, want         []any
} {
	int16s, err := ipc.NewTensor([]int16{0, 32767}, 1, 2)
	require.NoError(t, err)
	frame := &ipc.Image{Pixels: []byte{1, 2, 3, 4, 5, 6}, Format: "rgb8", Width: 2, Height: 1}
	annotated := envelope("audio", "data", stereo(1, -1), "metadata", map[string]any{"speaker": "Ada"})
	echoed := []any{
		"text", map[string]any{"json": []any{int64(1), true, nil}}, stereo(1, 2), frame, remoteMediaTensor(t), annotated, int64(7),
		envelope("text", "data", "# title", "channel", "ui", "language", "en", "session_id", "s-1", "timestamp", 12.5),
		envelope("file", "path", "/tmp/x", "size", int64(3)),
		envelope("tensor", "data", remoteMediaTensor(t), "metadata", map[string]any{"layer": int64(3)}),
		envelope("video", "data", []byte("encoded"), "format", "YUV420", "width", int64(4), "height", int64(2), "codec", int64(2), "is_keyframe", true),
		map[string]any{"__aux_port__": "voice", "payload": map[string]any{"text": "hi"}},
	}
	return []struct {
		nodeType, params string
		in, want         []any
	}{
		{"upper", "", []any{"a", "b"}, []any{"upper True A", "upper True B"}},
		{"Words", `{separator: "-"}`, []any{"a-b", "c"}, []any{"a", "b", "c"}},
		{"Gain", "{gain: 2}", []any{stereo(1, -1, 0.5, 0), annotated}, []any{
			stereo(2, -2, 1, 0),
			envelope("audio", "data", stereo(2, -2), "metadata", map[string]any{"speaker": "Ada"}),
		}},
		{"Echo", "", echoed, echoed},
		{"Echo", "", []any{envelope("control", "message_type", "CancelSpeculation", "segment_id", "seg"), "messages"},
			[]any{map[string]any{"messages": []any{"seg"}}}},
		{"Scale", "{factor: 3}", []any{2, "ab"}, []any{int64(6), "ababab"}},
		{"Collect", "", []any{"x", nil, "y"}, []any{map[string]any{"items": []any{"x", nil, "y"}, "begun": true}}},
		{"Letters", "", []any{"ab", "c"}, []any{"a", "b", "c"}},
		{"Pairs", "", []any{"a", "b", "c"}, []any{tuple("a", "b"), tuple("b", "c"), map[string]any{"left": "c"}}},
		{"Ticks", "{count: 2}", []any{nil}, []any{int64(0), int64(1)}},
		{"Remember", "", []any{"x", "y", envelope("text", "data", "z", "session_id", "other")}, []any{int64(1), int64(2), int64(1)}},
		{"Swap", "", []any{stereo(1, 2, 3, 4), annotated}, []any{
			stereo(2, 1, 4, 3), envelope("audio", "data", stereo(-1, 1), "metadata", map[string]any{"speaker": "Ada"}),
		}},
		{"Int16", "", []any{&ipc.Audio{Samples: []float32{0, 1}, Rate: 8000, Channels: 1}}, []any{tuple(int16s, int64(8000))}},
		{"shout", `{mark: "?"}`, []any{"hey"}, []any{"hey?", "shout"}},
		{"Plain", "", []any{1}, []any{int64(101), "flushed"}},
		{"twice", "", []any{2}, []any{[]any{int64(2), int64(2)}}},
		{"Registered", "", []any{"x"}, []any{map[string]any{"by": "Registered", "data": "x"}}},
		{"listed", `{prefix: "> "}`, []any{"x"}, []any{"> x"}},
	}
}

func TestNodesInTheAPIOfRemoteMediaRun(t *testing.T) {
	for _, name := range []string{"stand-in", "package"} {
		for i, c := range remoteMediaForms(t) {
			if name == "package" && i%3 > 0 {
				continue // the package is slow to import
			}
			t.Run(fmt.Sprintf("%s/%s", name, c.nodeType), func(t *testing.T) {
				t.Parallel()
				var params []string
				if c.params != "" {
					params = []string{"params: " + c.params}
				}
				events := &recorder{}
				r := remoteMedia(t, remoteMediaRequirements(t, name), c.nodeType, events, params...)
				for range 2 { // each stream has an instance of its own
					assert.Equal(t, c.want, streamed(t, r, c.in...)[c.nodeType])
				}
				if len(c.in) == 1 {
					got, err := r.Run(t.Context(), c.in[0])
					require.NoError(t, err)
					assert.Equal(t, c.want, got)
				}
				if c.nodeType == "upper" {
					progress := of[runner.SetupProgress](events)
					require.NotEmpty(t, progress)
					assert.Equal(t, "loading_model: half of it", progress[0].Message)
				}
				assert.Empty(t, of[runner.WorkerDied](events))
			})
		}
	}
}

func TestItemsCallTheMethodsOfANodeOfRemoteMedia(t *testing.T) {
	call := func(name string, id int, args ...any) map[string]any {
		payload := map[string]any{"corr_id": id, "args": args, "kwargs": map[string]any{}}
		return map[string]any{"__aux_port__": name, "payload": payload}
	}
	text := "version: v1\npython: calls.py\n" + remoteMediaRequirements(t, "package") + single("Calls", "workers: {spare: 0, max: 1}")
	r := parse(t, text, remoteMediaDir(t))
	got := streamed(t, r, call("add", 1, 2, 3), call("count", 2, 2), call("tell", 3, "word"), call("unknown", 4), "text")["Calls"]
	var replies []string
	for _, reply := range got[:len(got)-1] {
		m := reply.(map[string]any)
		assert.Equal(t, "rpc", m["channel"])
		replies = append(replies, m["data"].(string))
	}
	reply := func(id int, kind, data string) string {
		if data != "" {
			data = `, "data": ` + data
		}
		return fmt.Sprintf(`{"__aux_port__": "__reply__", "payload": {"corr_id": %d, "kind": "%s"%s}}`, id, kind, data)
	}
	assert.Equal(t, []string{
		reply(1, "value", "5"), reply(2, "value", "0"), reply(2, "value", "1"), reply(2, "end", ""),
		reply(4, "error", `"no @rpc method 'unknown' on Calls"`),
	}, replies)
	assert.Equal(t, map[string]any{"told": []any{"word"}, "got": "text"}, got[len(got)-1])
}

func TestNodesOfRemoteMediaRunForkedAndIsolated(t *testing.T) {
	for name, lines := range map[string][]string{
		"forked":   {"workers: {spare: 0, fork_server: true}"},
		"isolated": {"workers: {spare: 0}", "isolation: strict"},
	} {
		t.Run(name, func(t *testing.T) {
			if missing := new(isolation.Profile).Missing(); name == "isolated" && len(missing) > 0 {
				t.Skip(missing)
			}
			text := "version: v1\npython: nodes.py\n" + remoteMediaRequirements(t, "stand-in") + single("Words", append(lines, `params: {separator: "-"}`)...)
			r := parse(t, text, remoteMediaDir(t))
			for range 2 {
				assert.Equal(t, []any{"a", "b", "c"}, streamed(t, r, "a-b", "c")["Words"])
			}
		})
	}
}

func TestWhatTheAdapterOfRemoteMediaCannotDoIsAnError(t *testing.T) {
	for _, c := range []struct {
		nodeType, params string
		in               any
		kind             runner.Kind
		want             string
	}{
		{"Half", "", "x", runner.KindManifest, "Half: a process that takes a stream of items must be an async generator"},
		{"Missing", "", "x", runner.KindManifest, "Missing requires 'no-such-package>=1.0' (python_requires), but no-such-package is not installed"},
		{"upper", "params: {loud: true}", "x", runner.KindManifest, "upper has no parameter 'loud'"},
		{"listed", "", &ipc.Image{Pixels: []byte{1}, Format: "gray8", Width: 1, Height: 1}, runner.KindExecution, "VideoFormat has no gray8"},
		{"listed", "", tuple("a", "b"), runner.KindExecution, "a tuple has no form as RuntimeData"},
		{"Publishes", "", "x", runner.KindExecution, "publish_to_node_port('other', 'port') cannot reach another node"},
		{"Scale", "", envelope("control", "message_type", "BatchHint"), runner.KindExecution, "a control message for a class without process_control_message"},
		{"Pairs", "", "boom", runner.KindExecution, "no pairs of boom"},
	} {
		t.Run(c.nodeType+" "+c.want, func(t *testing.T) {
			t.Parallel()
			text := "version: v1\npython: nodes.py\n" + remoteMediaRequirements(t, "stand-in") + single(c.nodeType, c.params, "workers: {spare: 0}")
			r := parse(t, text, remoteMediaDir(t))
			_, err := r.Run(t.Context(), c.in)
			assert.ErrorIs(t, err, c.kind)
			assert.ErrorContains(t, err, c.want)
			if c.kind == runner.KindManifest {
				_, err := r.Describe(t.Context())
				assert.ErrorContains(t, err, c.want)
			}
		})
	}
}

// The node types of the package, as installed, that need no model.
func TestNodesOfRemoteMediasPackageRunUnchanged(t *testing.T) {
	remoteMediaRequirements(t, "package")
	for _, c := range []struct {
		manifest string
		in       []any
		want     map[string][]any
	}{
		{"values.yaml", []any{ipc.JSON(remoteMediaInput), ipc.JSON(remoteMediaInput)}, remoteMediaValues()},
		{"lists.yaml", []any{[]any{5}, []any{6}}, map[string][]any{
			"multiply": {[]any{int64(15)}, []any{int64(18)}},
			"add":      {[]any{int64(6)}, []any{int64(7)}},
			"stream":   {tuple(int64(15)), tuple(int64(21))},
		}},
		{"texts.yaml", []any{"ab"}, map[string][]any{"string": {"ab"}, "data": {"Processed 'ab' in slow mode"}}},
		{"audio.yaml", []any{loud(), loud()}, remoteMediaAudio(t)},
	} {
		t.Run(c.manifest, func(t *testing.T) {
			p, err := runner.Load(filepath.Join(remoteMediaDir(t), c.manifest))
			require.NoError(t, err)
			r, err := runner.New(p)
			require.NoError(t, err)
			defer func() { assert.NoError(t, r.Close(t.Context())) }()
			got := streamed(t, r, c.in...)
			for id, want := range c.want {
				assert.Equal(t, want, got[id], id)
			}
			for id, values := range got {
				assert.Contains(t, c.want, id, "%v", values)
			}

			ran, err := r.Run(t.Context(), c.in[0])
			require.NoError(t, err)
			for id, want := range c.want {
				if id != "buffer" && id != "batcher" { // they keep the first item back
					assert.Equal(t, want[0], ran.(map[string]any)[id].([]any)[0], id)
				}
			}
		})
	}
}

// loud is 300 frames of two channels.
func loud() *ipc.Audio {
	samples := make([]float32, 600)
	for i := range samples {
		samples[i] = 0.5 - float32(i%2)
	}
	return stereo(samples...)
}

// remoteMediaInput has its keys in an order, because some nodes return its text.
const remoteMediaInput = `{"args": [1, 2], "end": 3, "operation": "add", "operations": ["uppercase"], "start": 1, "text": "a b.", "value": 3}`

// remoteMediaValues is what the nodes of values.yaml make of two inputs.
func remoteMediaValues() map[string][]any {
	in := map[string]any{
		"value": int64(3), "operation": "add", "args": []any{int64(1), int64(2)}, "text": "a b.",
		"operations": []any{"uppercase"}, "start": int64(1), "end": int64(3),
	}
	by := func(name string, more map[string]any) map[string]any {
		more["processed_by"], more["node_config"] = name+"["+name+"]", map[string]any{}
		return more
	}
	calculated := by("CalculatorNode", map[string]any{"operation": "add", "args": in["args"], "result": int64(3)})
	coded := by("CodeExecutorNode", map[string]any{"executed_code": "result = 40 + 2", "input": nil, "result": int64(42)})
	text := by("TextProcessorNode", map[string]any{
		"original_text": "a b.", "operations": in["operations"], "results": map[string]any{"uppercase": "A B."},
	})
	index := func(i int64) map[string]any {
		return map[string]any{"original": int64(3), "index": i, "count": int64(3)}
	}
	value := func(v int64) map[string]any { return map[string]any{"value": v} }
	collected := []any{
		`{"args":`, `[1,`, `2],`, `"end":`, `3, "operation":`, `"add",`, `"operations":`, `["uppercase"],`, `"start":`, `1, "text":`, `"a b.`, `", "value":`,
	}
	const encoded = remoteMediaInput
	twice := func(v ...any) []any { return slices.Concat(v, v) }
	return map[string][]any{
		"passthrough":      twice(in),
		"buffer":           {[]any{in, in}, []any{}},
		"calculator":       twice(calculated),
		"code":             twice(coded),
		"sink":             twice(in),
		"bridge":           twice(in),
		"multiply":         twice(value(12)),
		"expander":         twice(map[string]any{"value": int64(3), "index": int64(0)}, map[string]any{"value": int64(4), "index": int64(1)}),
		"filter":           twice(in),
		"batcher":          {map[string]any{"batch": []any{in, in}, "size": int64(2)}},
		"range":            twice(value(1), value(2)),
		"transform_expand": twice(map[string]any{"text": strings.ToUpper(strings.ReplaceAll(encoded, `"`, `'`)), "transform": "upper"}),
		"counter":          {map[string]any{"count": int64(8), "input": in}, map[string]any{"count": int64(9), "input": in}},
		"conditional":      twice(index(0), index(1), index(2)),
		"chained":          twice(map[string]any{"stage": int64(3), "value": int64(256), "final": true}),
		"error_prone":      twice(map[string]any{"value": int64(3), "status": "ok"}),
		"text":             twice(text),
		"data_transform":   twice(in),
		"format":           twice(in),
		"collector":        twice(collected...),
		"echo":             {"Echo #1: " + encoded, "Echo #2: " + encoded},
		"processor":        {"[test_processor #1] " + encoded, "[test_processor #2] " + encoded},

		"multiprocess_passthrough": twice(in),
	}
}

// remoteMediaAudio is what the nodes of audio.yaml make of two recordings.
func remoteMediaAudio(t *testing.T) map[string][]any {
	t.Helper()
	in := loud()
	flat := make([]float32, 600)
	converted := make([]int16, 600)
	for i := range flat {
		flat[i] = 0.5 - float32(i/300)
		converted[i] = int16(flat[i] * 32768)
	}
	one, err := ipc.NewTensor(flat, 600)
	require.NoError(t, err)
	int16s, err := ipc.NewTensor(converted, 2, 300)
	require.NoError(t, err)
	vad := map[string]any{"is_speech": false, "speech_frames": int64(0), "total_frames": int64(1)}
	heard := map[string]any{"is_speech": false, "speech_ratio": 0.0, "avg_energy": 0.0, "frame_duration_ms": int64(30)}
	return map[string][]any{
		"transform":       {in, in},
		"buffer":          {in, in},
		"resampler":       {in, in},
		"extract":         {one, one},
		"resample":        {in, in},
		"vad":             {envelope("audio", "data", in, "metadata", vad), envelope("audio", "data", in, "metadata", vad)},
		"convert":         {tuple(int16s, int64(8000)), tuple(int16s, int64(8000))},
		"detector":        {tuple(in, heard), tuple(in, heard)},
		"video_buffer":    {in, in},
		"video_transform": {in, in},
		"video_resizer":   {in, in},

		"multiprocess_passthrough": {in, in},
	}
}

// remoteMediaNotes say how node types of the package run that the tests above do not run, or
// why they cannot run if their own error does not say it.
var remoteMediaNotes = map[string]string{
	"ProsodyVad":               "runs differently: without onnxruntime and torch its results are those of its own fallback",
	"StatefulCounter":          "refused: its initialize awaits the method of Node, which is no coroutine; it fails in its own pipelines, too",
	"GRPCStreamSource":         "refused: its initialize awaits the method of Node, which is no coroutine; it fails in its own pipelines, too",
	"UltravoxNode":             "refused: its initialize awaits the method of Node, which is no coroutine; it fails in its own pipelines, too",
	"DataSourceNode":           "runs differently: nothing in a worker calls push_data, so it ends without an item after its timeout",
	"BidirectionalNode":        "runs differently: nothing in a worker calls its methods, so it ends without an item after its timeout",
	"TrackSource":              "runs differently: it takes frames of PyAV, which cannot be sent, and ignores all else; a recording needs none of it",
	"AudioTrackSource":         "runs differently: it takes frames of PyAV, which cannot be sent, and ignores all else; a recording needs none of it",
	"VideoTrackSource":         "runs differently: it takes frames of PyAV, which cannot be sent, and ignores all else; an image needs none of it",
	"MediaReaderNode":          "refused: it yields frames of PyAV, which cannot be sent",
	"LocalMediaReaderNode":     "refused: it yields frames of PyAV, which cannot be sent",
	"MediaWriterNode":          "refused: it takes frames of PyAV, which cannot be sent",
	"RemoteExecutionNode":      "refused: its param remote_config is an object, and params are plain values",
	"TextTransformNode":        "refused: its param transform_func is a function, and params are plain values",
	"WhisperXTranscriber":      "runs with the package whisperx in the requirements; without it, its first item fails",
	"RustWhisperTranscriber":   "runs with its package in the requirements; without it, its first item fails",
	"KimodoMotionNode":         "refused: its initialize needs an installation of its own",
	"LeRobotSO101Node":         "refused: its initialize needs the description of a robot",
	"WhisperTranscriptionNode": "refused: without torch and transformers in the requirements",

	"RemoteObjectExecutionNode":   "refused: its param obj_to_execute is an object, and params are plain values",
	"SerializedClassExecutorNode": "starts, not tested: it takes objects that cloudpickle has made",
	"TransformersPipelineNode":    "refused: without transformers in the requirements",
}

// surveyed is one node type of the package, as testdata/remotemedia/survey.py finds it.
type surveyed struct {
	Module string `json:"module"`
	Name   string `json:"name"`
	Base   string `json:"base"`
	Form   string `json:"form"`
	Error  string `json:"error"`
}

func (s *surveyed) result(tested map[string]bool) string {
	note := remoteMediaNotes[s.Name]
	switch {
	case tested[s.Module+"."+s.Name]:
		return "runs, tested"
	case note != "":
		return note
	case s.Error != "":
		reason, _, _ := strings.Cut(s.Error, " (add it")
		return "refused: " + strings.TrimPrefix(reason, "params: ")
	}
	return "?"
}

// remoteMediaTested returns the classes that the manifests in testdata run.
func remoteMediaTested(t *testing.T) map[string]bool {
	t.Helper()
	classes := map[string]string{"test_processor": "TestProcessorNode", "passthrough": "PassthroughNode"}
	tested := make(map[string]bool)
	for _, name := range []string{"values.yaml", "lists.yaml", "audio.yaml", "texts.yaml"} {
		p, err := runner.Load(filepath.Join(remoteMediaDir(t), name))
		require.NoError(t, err)
		for _, n := range p.Nodes {
			module, _, _ := strings.Cut(n.Python, ":")
			class := n.Type
			if named, ok := classes[class]; ok {
				class = named
			}
			tested[module+"."+class] = true
		}
	}
	return tested
}

// isTested reports whether a class is run, also under the package that exports it.
func (s *surveyed) isTested(tested map[string]bool) bool {
	return tested[s.Module+"."+s.Name] || tested["remotemedia.nodes."+s.Name] && s.Name != "MultiplyNode"
}

func TestTheTableOfRemoteMediasNodeTypesIsUpToDate(t *testing.T) {
	text := "version: v1\npython: survey.py\n" + remoteMediaRequirements(t, "package") + single("survey", "workers: {spare: 0}")
	r := parse(t, text, remoteMediaDir(t))
	params := map[string]any{"AudioBuffer": map[string]any{"buffer_size_samples": 1}}
	rows, err := runner.Call[map[string]any, []surveyed](t.Context(), r, params)
	require.NoError(t, err)
	tested := remoteMediaTested(t)
	var b strings.Builder
	b.WriteString("| node type | module in `remotemedia` | base | `process` | result |\n| --- | --- | --- | --- | --- |\n")
	ran := 0
	for _, row := range rows {
		if row.isTested(tested) {
			tested[row.Module+"."+row.Name] = true
			ran++
		}
		result := row.result(tested)
		assert.NotEqual(t, "?", result, "%s.%s starts, but nothing says whether it runs", row.Module, row.Name)
		base := row.Base
		if base == "" {
			base = "–"
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", row.Name, strings.TrimPrefix(row.Module, "remotemedia."), base, code(row.Form), cell(result))
	}
	assert.GreaterOrEqual(t, ran, 20, "node types that the tests run")

	const name = "docs/remotemedia-nodes.md"
	page, err := os.ReadFile(name)
	require.NoError(t, err)
	head, rest, found := strings.Cut(string(page), "<!-- table -->\n")
	require.True(t, found)
	if *update {
		require.NoError(t, os.WriteFile(name, []byte(head+"<!-- table -->\n"+b.String()), 0o644))
		return
	}
	assert.Equal(t, rest, b.String(), "run this test with -update")
}
