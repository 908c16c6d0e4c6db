package runner_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/internal/testkit"
	"github.com/gophersnake/gophersnake/runner/manifest"
)

// recorder keeps the events of a runner.
type recorder struct {
	mu     sync.Mutex
	events []runner.Event
}

func (r *recorder) record(e runner.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, e)
}

// of returns the events of one type.
func of[E runner.Event](r *recorder) []E {
	r.mu.Lock()
	defer r.mu.Unlock()
	var found []E
	for _, e := range r.events {
		if e, ok := e.(E); ok {
			found = append(found, e)
		}
	}
	return found
}

// awaitDeaths waits until so many deaths of workers were reported, and fails if they are
// more: a death is reported beside the error of the call that it ended, not before it.
func awaitDeaths(t testing.TB, events *recorder, count int) {
	t.Helper()
	testkit.Eventually(t, func() bool { return len(of[runner.WorkerDied](events)) >= count })
	require.Len(t, of[runner.WorkerDied](events), count)
}

// start runs a pipeline of the nodes in testdata, whose manifest is text.
func start(t testing.TB, text string, opts ...runner.Option) *runner.Runner {
	t.Helper()
	r, err := load(t, text, opts...)
	require.NoError(t, err)
	require.NoError(t, r.Start(t.Context()))
	return r
}

func load(t testing.TB, text string, opts ...runner.Option) (*runner.Runner, error) {
	t.Helper()
	base, err := filepath.Abs("testdata")
	require.NoError(t, err)
	return loadIn(t, base, text, opts...)
}

// loadIn is load for another folder. It sets the number of spares to 0 unless the
// text sets it, because most tests count the workers.
func loadIn(t testing.TB, base, text string, opts ...runner.Option) (*runner.Runner, error) {
	t.Helper()
	p, err := manifest.Parse("test.yaml", []byte("version: v1\npython: nodes.py\n"+text), base)
	require.NoError(t, err)
	for i := range p.Nodes {
		if !strings.Contains(text, "spare:") {
			p.Nodes[i].Workers.Spare = 0
		}
	}
	r, err := runner.New(p, opts...)
	if err == nil {
		t.Cleanup(func() { assert.NoError(t, r.Close(context.Background())) })
	}
	return r, err
}

// single returns a manifest with one node.
func single(nodeType string, more ...string) string {
	text := fmt.Sprintf("nodes:\n  - id: %s\n    node_type: %[1]s\n", nodeType)
	for _, line := range more {
		text += "    " + line + "\n"
	}
	return text
}

func TestAPythonNodeReturnsTheValueThatItGets(t *testing.T) {
	t.Parallel()
	r := start(t, single("echo"))
	tensor, err := ipc.NewTensor([]float32{1, 2, 3, 4}, 2, 2)
	require.NoError(t, err)
	for _, v := range []any{
		nil, true, int64(-3), 1.5, "höhe", []byte("raw"), []any{int64(1), nil}, map[string]any{"k": []any{"v"}},
		time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC), tensor,
		&ipc.Audio{Samples: make([]float32, 32000), Rate: 16000, Channels: 2},
		&ipc.Image{Pixels: make([]byte, 12), Format: "rgb8", Width: 2, Height: 2},
	} {
		got, err := r.Run(t.Context(), v)
		require.NoError(t, err)
		assert.Equal(t, v, got)
	}
}

func TestEveryKindOfNode(t *testing.T) {
	t.Parallel()
	for nodeType, c := range map[string]struct{ in, want any }{
		"now":         {nil, "now"},
		"count":       {3, []any{int64(0), int64(1), int64(2)}},
		"later":       {1, int64(2)},
		"count_later": {2, []any{int64(0), int64(1)}},
		"add":         {1, int64(2)},
	} {
		t.Run(nodeType, func(t *testing.T) {
			got, err := start(t, single(nodeType)).Run(t.Context(), c.in)
			require.NoError(t, err)
			assert.Equal(t, c.want, got)
		})
	}
}

func TestAClassIsSetUpOnceAndClosed(t *testing.T) {
	t.Parallel()
	log := filepath.Join(t.TempDir(), "log")
	events := &recorder{}
	r := start(t, single("Counter", "params: {start: 10, log: "+log+"}"), runner.WithEvents(events.record))
	for want := int64(11); want < 14; want++ {
		got, err := r.Run(t.Context(), nil)
		require.NoError(t, err)
		assert.Equal(t, want, got)
	}
	require.Len(t, of[runner.WorkerStarted](events), 1)
	progress := of[runner.SetupProgress](events)
	require.Len(t, progress, 1)
	assert.Equal(t, "loading", progress[0].Message)
	require.NoError(t, r.Close(t.Context()))
	assert.FileExists(t, log)
	assert.Empty(t, of[runner.WorkerDied](events))
	_, err := r.Run(t.Context(), nil)
	assert.ErrorContains(t, err, "the runner is closed")
	assert.ErrorIs(t, err, runner.ErrClosed)
	assert.ErrorContains(t, r.Start(t.Context()), "the runner is closed", "it was started, but stays closed")
}

func TestMapsKeepTheirOrderIfAsked(t *testing.T) {
	input := ipc.Object{{Key: "z", Value: int64(1)}, {Key: "b", Value: ipc.Object{{Key: "y", Value: nil}, {Key: "x", Value: "t"}}}, {Key: "a", Value: []any{ipc.Object{}}}}
	unordered := map[string]any{"z": int64(1), "b": map[string]any{"y": nil, "x": "t"}, "a": []any{map[string]any{}}}
	const chain = "nodes: [{id: one, node_type: echo}, {id: two, node_type: echo}]\nconnections: [{from: one, to: two}]"
	r := start(t, chain, runner.WithOrderedMaps())
	got, err := r.Run(t.Context(), input)
	require.NoError(t, err)
	assert.Equal(t, input, got)
	shared, err := r.RunShared(t.Context(), input)
	require.NoError(t, err)
	assert.Equal(t, input, shared.Value)
	shared.Release()
	stream, err := r.Stream(t.Context())
	require.NoError(t, err)
	require.NoError(t, stream.Send(input))
	stream.CloseSend()
	item, err := stream.Recv()
	require.NoError(t, err)
	assert.Equal(t, input, item.Value)
	require.NoError(t, stream.Close())

	got, err = start(t, "nodes: [{id: one, node_type: echo}, {id: two, node_type: echo}]", runner.WithOrderedMaps()).Run(t.Context(), input)
	require.NoError(t, err)
	assert.Equal(t, ipc.Object{{Key: "one", Value: input}, {Key: "two", Value: input}}, got)

	got, err = start(t, chain).Run(t.Context(), input)
	require.NoError(t, err)
	assert.Equal(t, unordered, got, "without the option, Go values stay what they are")
	var seen any
	see := func(_ context.Context, in runner.Input) (any, error) { seen = in.Value; return nil, nil }
	_, err = start(t, "nodes: [{id: one, node_type: echo}, {id: two, node_type: see}]\nconnections: [{from: one, to: two}]",
		runner.WithNode("see", see), runner.WithOrderedMaps()).Run(t.Context(), input)
	require.NoError(t, err)
	assert.Equal(t, unordered, seen, "and so do those that Go nodes get")
}

const diamond = `
nodes:
  - {id: source, node_type: echo}
  - {id: one, node_type: add, params: {amount: 1}}
  - {id: ten, node_type: add, params: {amount: 10}}
  - {id: mix, node_type: mix, params: {scale: 0.5}}
connections:
  - {from: source, to: one}
  - {from: source, to: ten}
  - {from: one, to: mix.left}
  - {from: ten, to: mix.right}
`

func TestFanOutAndFanIn(t *testing.T) {
	t.Parallel()
	got, err := start(t, diamond).Run(t.Context(), 1)
	require.NoError(t, err)
	assert.Equal(t, 6.5, got)
}

// Each branch waits for the other one.
func TestBranchesRunAtTheSameTime(t *testing.T) {
	t.Parallel()
	meet := make(chan struct{})
	branch := func(ctx context.Context, in runner.Input) (any, error) {
		select {
		case meet <- struct{}{}:
		case <-meet:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		return in.Value, nil
	}
	r := start(t, `
nodes: [{id: a, node_type: branch}, {id: b, node_type: branch}]
`, runner.WithNode("branch", branch))
	got, err := r.Run(t.Context(), "v")
	require.NoError(t, err)
	assert.Equal(t, map[string]any{"a": "v", "b": "v"}, got)
}

func TestTheFirstFailureEndsTheOtherBranches(t *testing.T) {
	t.Parallel()
	r := start(t, `
nodes: [{id: bad, node_type: bad, retry: none}, {id: slow, node_type: slow}]
`,
		runner.WithNode("bad", func(context.Context, runner.Input) (any, error) { return nil, fmt.Errorf("bad luck") }),
		runner.WithNode("slow", func(ctx context.Context, _ runner.Input) (any, error) { <-ctx.Done(); return nil, ctx.Err() }))
	_, err := r.Run(t.Context(), nil)
	assert.ErrorIs(t, err, runner.KindExecution)
	assert.ErrorContains(t, err, "bad luck")
}

func TestGoNodesBesidePythonNodes(t *testing.T) {
	t.Parallel()
	r := start(t, `
nodes:
  - {id: double, node_type: double, params: {by: 3}}
  - {id: add, node_type: add}
  - {id: text, node_type: text}
connections: [{from: double, to: add}, {from: add, to: text}]
`,
		runner.WithNode("double", func(_ context.Context, in runner.Input) (any, error) {
			return in.Value.(int64) * in.Params["by"].(int64), nil
		}),
		runner.WithNode("text", func(_ context.Context, in runner.Input) (any, error) {
			return fmt.Sprintf("<%v>", in.Value), nil
		}))
	got, err := r.Run(t.Context(), 5)
	require.NoError(t, err)
	assert.Equal(t, "<16>", got)
}

func TestAPanicInAGoNodeIsItsError(t *testing.T) {
	t.Parallel()
	r := start(t, single("bad", "retry: none"), runner.WithNode("bad", func(context.Context, runner.Input) (any, error) { panic("oh") }))
	_, err := r.Run(t.Context(), nil)
	assert.ErrorIs(t, err, runner.KindExecution)
	assert.ErrorContains(t, err, "panicked: oh")
}

func TestManyRunsAtOnce(t *testing.T) {
	t.Parallel()
	r := start(t, diamond+"\n")
	var running sync.WaitGroup
	for i := range 100 {
		running.Go(func() {
			got, err := r.Run(t.Context(), i)
			assert.NoError(t, err)
			assert.Equal(t, float64(2*i+11)/2, got)
		})
	}
	running.Wait()
}

func TestWorkersGrowToTheMaximum(t *testing.T) {
	t.Parallel()
	events := &recorder{}
	r := start(t, single("pid", "workers: {min: 1, max: 3}"), runner.WithEvents(events.record))
	var running sync.WaitGroup
	for range 50 {
		running.Go(func() { _, err := r.Run(t.Context(), nil); assert.NoError(t, err) })
	}
	running.Wait()
	started := len(of[runner.WorkerStarted](events))
	assert.GreaterOrEqual(t, started, 1)
	assert.LessOrEqual(t, started, 3)
}

func TestCloseWaitsForRunsAndCanBeRepeated(t *testing.T) {
	t.Parallel()
	r := start(t, single("wait"))
	started := filepath.Join(t.TempDir(), "started")
	done := make(chan error, 1)
	go func() {
		_, err := r.Run(context.Background(), map[string]any{"started": started, "seconds": 0.3})
		done <- err
	}()
	testkit.Eventually(t, testkit.Exists(started))
	require.NoError(t, r.Close(t.Context()))
	select {
	case err := <-done:
		assert.NoError(t, err)
	default:
		t.Error("Close returned before the run did")
	}
	assert.NoError(t, r.Close(t.Context()))
}

func TestWrongParamsAreFoundBeforeAnythingRuns(t *testing.T) {
	t.Parallel()
	r, err := load(t, `
nodes:
  - {id: one, node_type: add, params: {amout: 1}}
  - {id: two, node_type: add, params: {amount: many}}
  - {id: three, node_type: ad}
`)
	require.NoError(t, err)
	_, err = r.Run(t.Context(), 1)
	require.ErrorIs(t, err, runner.KindManifest)
	assert.ErrorContains(t, err, `amount`)
	for _, id := range []string{`"one"`, `"two"`, `"three"`} {
		assert.ErrorContains(t, err, "in node "+id)
	}
}

func TestANodeWithoutInputsTakesNoConnection(t *testing.T) {
	t.Parallel()
	r, err := load(t, "nodes: [{id: first, node_type: echo}, {id: second, node_type: now}]\nconnections: [{from: first, to: second}]")
	require.NoError(t, err)
	_, err = r.Run(t.Context(), 1)
	require.ErrorIs(t, err, runner.KindManifest)
	assert.ErrorContains(t, err, `the result of "first" is connected to it`)
	_, err = r.Describe(t.Context())
	assert.ErrorIs(t, err, runner.KindManifest)
}

func TestAnUnknownNodeTypeNeedsCode(t *testing.T) {
	t.Parallel()
	p, err := manifest.Parse("t.yaml", []byte("version: v1\nnodes: [{id: a, node_type: A}]"), t.TempDir())
	require.NoError(t, err)
	_, err = runner.New(p)
	assert.ErrorIs(t, err, runner.KindManifest)
	assert.ErrorContains(t, err, `there is no node type "A"`)
}

func TestDescribe(t *testing.T) {
	t.Parallel()
	r, err := load(t, diamond)
	require.NoError(t, err)
	all, err := r.Describe(t.Context())
	require.NoError(t, err)
	require.Len(t, all, 4)
	assert.Equal(t, "mix", all[3].Name)
	assert.Equal(t, "Mix two inputs.", all[3].Doc)
	require.Len(t, all[3].Inputs, 2)
	assert.Equal(t, "left", all[3].Inputs[0].Name)
}

func TestLogsPrintsAndChildrenReachTheLog(t *testing.T) {
	t.Parallel()
	var log lockedBuffer
	r := start(t, single("noisy"), runner.WithLogger(hclog.New(&hclog.LoggerOptions{Output: &log, Level: hclog.Info})))
	for _, what := range []string{"print", "fd 1", "logging", "subprocess"} {
		_, err := r.Run(t.Context(), what)
		require.NoError(t, err)
	}
	for _, line := range []string{"hello from print", "hello from C", "hello from a child", "[WARN]  noisy.model: loaded 3 layers:", "layers=3"} {
		assert.Eventually(t, func() bool { return log.contains(line) }, 10*time.Second, time.Millisecond, line)
	}
}

func TestFaultsOfSeveralNodesAreOneError(t *testing.T) {
	t.Parallel()
	p, err := manifest.Parse("t.yaml", []byte("version: v1\nnodes: [{id: a, node_type: A}, {id: b, node_type: B}]"), t.TempDir())
	require.NoError(t, err)
	_, err = runner.New(p)
	require.IsType(t, &runner.Error{}, err, "New")
	var e, second *runner.Error
	require.ErrorAs(t, err, &e)
	assert.Equal(t, runner.KindManifest, e.Kind)
	for _, text := range []string{`there is no node type "A"`, `there is no node type "B"`, `in node "a"`, `in node "b"`} {
		assert.ErrorContains(t, err, text)
	}
	require.Len(t, e.Faults(), 2)
	require.ErrorAs(t, e.Faults()[1], &second)
	assert.Equal(t, "b", second.Node)
	assert.Nil(t, second.Faults())

	r, err := load(t, "nodes: [{id: one, node_type: ad}, {id: two, node_type: ad}]")
	require.NoError(t, err)
	assert.IsType(t, &runner.Error{}, r.Start(t.Context()), "Start")
	_, err = r.Describe(t.Context())
	assert.IsType(t, &runner.Error{}, err, "Describe")
}

func TestDescribeDoesNotBelieveANode(t *testing.T) {
	base := t.TempDir()
	huge, err := os.ReadFile("testdata/crashes/start/describes_a_huge_batch.py")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(base, "nodes.py"), huge, 0o600))
	endless := []byte("import os\nwhile True: os.write(4, b'x' * 65536)\n") // 4 is its copy of standard output
	require.NoError(t, os.WriteFile(filepath.Join(base, "endless.py"), endless, 0o600))
	describe := func(file string) error {
		r, err := loadIn(t, base, "nodes:\n  - {id: n, node_type: It, python: "+file+"}\n")
		require.NoError(t, err)
		_, err = r.Describe(t.Context())
		return err
	}
	err = describe("nodes.py")
	assert.ErrorContains(t, err, "batch is 4611686018427387904, not from 0 to 4096")
	assert.Equal(t, runner.KindTransport, runner.KindOf(err))
	err = describe("endless.py")
	assert.Equal(t, runner.KindPythonVM, runner.KindOf(err), "the output is bounded: %+v", err)
}
