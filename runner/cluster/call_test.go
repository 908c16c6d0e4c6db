package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/cluster"
	"github.com/gophersnake/gophersnake/runner/cluster/internal/clustertest"
	"github.com/gophersnake/gophersnake/runner/internal/testkit"
)

func TestACallCarriesValuesThereAndBack(t *testing.T) {
	conn := localConn(t)
	announce(t, conn, map[string]string{"echo": clustertest.EchoPipeline})
	c := dial(t, conn, "echo", 1)
	tensor, err := ipc.NewTensor([]float32{1, 2, 3, 4}, 2, 2)
	require.NoError(t, err)
	for _, v := range []any{nil, true, int64(-3), uint64(1 << 63), 2.5, "text", []byte{1, 2}, []any{int64(1), "a"},
		map[string]any{"a": int64(1), "b": []any{}}, tensor, time.Unix(1, 2000).UTC(), ipc.JSON(`{"b": 1, "a": 2}`)} {
		got, err := c.Run(t.Context(), v)
		require.NoError(t, err)
		assert.Equal(t, v, got)
	}
	got, err := c.Node("echo").Call(t.Context(), "node")
	require.NoError(t, err)
	assert.Equal(t, "node", got)
	typed, err := cluster.Call[map[string]int, map[string]int](t.Context(), c, map[string]int{"a": 1})
	require.NoError(t, err)
	assert.Equal(t, map[string]int{"a": 1}, typed)
}

func TestAnErrorIsTheOneOfTheLocalRunner(t *testing.T) {
	conn := localConn(t)
	announce(t, conn, map[string]string{"fail": clustertest.FailPipeline, "die": clustertest.DiePipeline}, cluster.WithName("m1"))
	for _, name := range []string{"fail", "die"} {
		t.Run(name, func(t *testing.T) {
			local, err := clustertest.NewRunner(map[string]string{"fail": clustertest.FailPipeline, "die": clustertest.DiePipeline}[name])
			require.NoError(t, err)
			defer local.Close(context.Background())
			_, here := local.Run(t.Context(), "x")
			_, there := dial(t, conn, name, 1).Run(t.Context(), "x")
			var want, got *runner.Error
			require.ErrorAs(t, here, &want)
			require.ErrorAs(t, there, &got)
			assert.Equal(t, "m1", got.Metadata["machine"])
			assert.Equal(t, want.Retryable(), got.Retryable())
			assert.Equal(t, want.Traceback, got.Traceback)
			assert.Equal(t, want.Chained, got.Chained)
			assert.Equal(t, want.Signal, got.Signal)
			if name == "fail" { // nothing in it differs between two processes
				want = want.WithMetadata("machine", "m1").WithPID(got.PID)
				want.PID = got.PID
				assert.Equal(t, fmt.Sprintf("%+v", want), fmt.Sprintf("%+v", got))
			}
		})
	}
}

func TestAnInputThatCannotBeCarriedIsRefusedBeforeItIsSent(t *testing.T) {
	conn := localConn(t)
	announce(t, conn, map[string]string{"echo": clustertest.EchoPipeline})
	_, err := dial(t, conn, "echo", 1).Run(t.Context(), map[string]any{"a": []any{make(chan int)}})
	var e *runner.Error
	require.ErrorAs(t, err, &e)
	assert.Equal(t, runner.KindMarshaling, e.Kind)
	assert.Equal(t, "input.a[0]", e.Path)
}

func TestAnUnknownNodeIsRefusedWithTheNodesThatThereAre(t *testing.T) {
	conn := localConn(t)
	announce(t, conn, map[string]string{"echo": clustertest.EchoPipeline})
	_, err := dial(t, conn, "echo", 1).Node("eco").Call(t.Context(), 1)
	require.ErrorIs(t, err, runner.KindManifest)
	assert.ErrorContains(t, err, `no node "eco"`)
	assert.Equal(t, "its nodes are echo", runner.AsError(err).Hint)
}

func TestACallerThatLeavesCancelsTheRun(t *testing.T) {
	conn, folder := localConn(t), t.TempDir()
	m := announce(t, conn, map[string]string{"hold": clustertest.HoldPipeline(folder, 1, "")})
	c := dial(t, conn, "hold", 1)
	ctx, cancel := context.WithCancel(t.Context())
	done := goRun(ctx, c, "a")
	clustertest.AwaitBegun(t, folder, "a", 1)
	cancel()
	r := await(t, done)
	assert.ErrorIs(t, r.err, context.Canceled)
	// The worker is free again although nothing has released the call.
	drained, stop := context.WithTimeout(t.Context(), 30*time.Second)
	defer stop()
	require.NoError(t, m.Drain(drained))
}

func TestADeadlineCrossesTheWire(t *testing.T) {
	conn := localConn(t)
	seen := make(chan bool, 1)
	p, err := clustertest.NewRunner("nodes: [{id: go, node_type: go}]", runner.WithNode("go", func(ctx context.Context, _ runner.Input) (any, error) {
		_, ok := ctx.Deadline()
		seen <- ok
		return nil, nil
	}))
	require.NoError(t, err)
	defer p.Close(context.Background())
	m, err := cluster.Announce(t.Context(), conn, map[string]*runner.Runner{"go": p})
	require.NoError(t, err)
	defer m.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	_, err = dial(t, conn, "go", 1).Run(ctx, 1)
	require.NoError(t, err)
	assert.True(t, <-seen)
}

func TestHeadersAndTheRequestIDReachTheNode(t *testing.T) {
	conn := localConn(t)
	p, err := clustertest.NewRunner("nodes: [{id: go, node_type: go}]", runner.WithNode("go", func(ctx context.Context, _ runner.Input) (any, error) {
		return []any{cluster.IncomingHeader(ctx, "traceparent"), cluster.RequestID(ctx)}, nil
	}))
	require.NoError(t, err)
	defer p.Close(context.Background())
	m, err := cluster.Announce(t.Context(), conn, map[string]*runner.Runner{"go": p})
	require.NoError(t, err)
	defer m.Close()
	c := dial(t, conn, "go", 1)
	ctx := cluster.WithRequestID(cluster.WithHeader(t.Context(), "traceparent", "00-1-2-01"), "r1")
	got, err := c.Run(ctx, nil)
	require.NoError(t, err)
	assert.Equal(t, []any{"00-1-2-01", "r1"}, got)
	got, err = c.Run(t.Context(), nil)
	require.NoError(t, err)
	assert.NotEmpty(t, got.([]any)[1])
	_, err = c.Run(cluster.WithHeader(t.Context(), "Status", "503"), nil)
	assert.ErrorIs(t, err, runner.KindMarshaling)
}

func TestALargeValueGoesByTheObjectStoreAndNothingIsLeft(t *testing.T) {
	conn := localConn(t)
	announce(t, conn, map[string]string{"echo": clustertest.EchoPipeline})
	c := dial(t, conn, "echo", 1)
	data := make([]float32, 3<<20)
	for i := range data {
		data[i] = float32(i)
	}
	tensor, err := ipc.NewTensor(data, len(data))
	require.NoError(t, err)
	got, err := c.Run(t.Context(), tensor)
	require.NoError(t, err)
	assert.True(t, assert.ObjectsAreEqual(tensor, got))
	assert.Empty(t, storedValues(t, conn))
}

func TestAValueThatIsNotTakenEndsByItsAge(t *testing.T) {
	conn := localConn(t, func(c *cluster.Config) { c.ValueAge = 500 * time.Millisecond })
	name, err := cluster.PutValue(t.Context(), conn, []byte("a value whose receiver has died"))
	require.NoError(t, err)
	assert.Equal(t, []string{name}, storedValues(t, conn))
	testkit.Eventually(t, func() bool { return storedMessages(t, conn) == 0 })
}

func TestALargeValueWithoutAnObjectStoreIsAClearError(t *testing.T) {
	port := clustertest.FreePorts(t, 1)[0]
	clustertest.StartServer(t, clustertest.Settings{Name: "s", Port: port})
	conn := connect(t, fmt.Sprintf("nats://127.0.0.1:%d", port))
	announce(t, conn, map[string]string{"echo": clustertest.EchoPipeline})
	c := dial(t, conn, "echo", 1)
	_, err := c.Run(t.Context(), make([]byte, 2<<20))
	require.ErrorIs(t, err, runner.KindIO)
	assert.Contains(t, runner.AsError(err).Hint, "enable JetStream there, or raise max_payload")
	_, err = c.Run(t.Context(), "small")
	require.NoError(t, err)
}

func TestAClosedClientFailsItsCalls(t *testing.T) {
	conn, folder := localConn(t), t.TempDir()
	announce(t, conn, map[string]string{"hold": clustertest.HoldPipeline(folder, 1, "")})
	c := dial(t, conn, "hold", 1)
	done := goRun(t.Context(), c, "a")
	clustertest.AwaitBegun(t, folder, "a", 1)
	c.Close()
	r := await(t, done)
	require.ErrorContains(t, r.err, "the client is closed")
	_, err := c.Run(t.Context(), "b")
	require.ErrorContains(t, err, "the client is closed")
	var e *runner.Error
	assert.True(t, errors.As(err, &e))
}

func TestAMachineThatIsClosedFailsItsCalls(t *testing.T) {
	conn, folder := localConn(t), t.TempDir()
	m := announce(t, conn, map[string]string{"hold": clustertest.HoldPipeline(folder, 1, "")}, cluster.WithName("m1"))
	done := goRun(t.Context(), dial(t, conn, "hold", 1), "a")
	clustertest.AwaitBegun(t, folder, "a", 1)
	m.Close()
	r := await(t, done)
	require.ErrorIs(t, r.err, runner.KindTransport)
	assert.ErrorContains(t, r.err, "the machine was stopped during the call")
}
