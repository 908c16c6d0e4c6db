package cluster_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/cluster"
	"github.com/gophersnake/gophersnake/runner/cluster/internal/clustertest"
	"github.com/gophersnake/gophersnake/runner/internal/testkit"
)

// The pipelines of streams.
const (
	ledgerPipeline  = "nodes: [{id: ledger, node_type: Ledger}]"
	counterPipeline = "nodes: [{id: counter, node_type: Counter}]"
	twicePipeline   = "nodes: [{id: twice, node_type: twice}, {id: ledger, node_type: Ledger}]\nconnections: [{from: twice, to: ledger}]"
)

// openStream opens a stream that is closed at the end of the test.
func openStream(t *testing.T, c *cluster.Client, opts ...cluster.StreamOption) *cluster.Stream {
	t.Helper()
	s, err := c.Stream(t.Context(), opts...)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, s.Close()) })
	return s
}

// feed sends the integers up to n, and calls at before each of them.
func feed(t *testing.T, s *cluster.Stream, n int, at func(i int)) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range n {
			at(i)
			if s.Send(i) != nil {
				return // Recv returns the reason
			}
		}
		s.CloseSend()
	}()
	t.Cleanup(func() {
		_ = s.Close()
		<-done
	})
}

func nothing(int) {}

// values receives all values.
func values(s *cluster.Stream) (all []any, err error) {
	for {
		item, err := s.Recv()
		if err == io.EOF { //nolint:errorlint // it is returned as it is
			return all, nil
		}
		if err != nil {
			return all, err
		}
		all = append(all, item.Value)
	}
}

// integers returns the integers up to n as they arrive.
func integers(n int) (all []any) {
	for i := range n {
		all = append(all, int64(i))
	}
	return all
}

// totals returns what the node Ledger yields for items.
func totals(items ...any) (all []any) {
	total := int64(0)
	for _, n := range items {
		total += n.(int64)
		all = append(all, []any{n, total})
	}
	return append(all, []any{"end", total})
}

// goMachine announces a pipeline of one node in Go.
func goMachine(t *testing.T, conn *cluster.Conn, fn runner.NodeFunc) *cluster.Machine {
	t.Helper()
	r, err := clustertest.NewRunner("nodes: [{id: go, node_type: go}]", runner.WithNode("go", fn))
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, r.Close(context.Background())) })
	m, err := cluster.Announce(t.Context(), conn, map[string]*runner.Runner{"go": r})
	require.NoError(t, err)
	t.Cleanup(m.Close)
	return m
}

func TestAStreamKeepsTheOrderOfManyItems(t *testing.T) {
	url := localURL(t)
	machine(t, url, "a", map[string]string{"echo": "nodes: [{id: echo, node_type: echo, workers: 2}]"})
	s := openStream(t, dial(t, connect(t, url), "echo", 1))
	feed(t, s, 10_000, nothing)
	got, err := values(s)
	require.NoError(t, err)
	assert.Equal(t, integers(10_000), got)
	_, err = s.Recv()
	assert.Equal(t, io.EOF, err)
	assert.ErrorContains(t, s.Send(1), "Send after CloseSend")
}

func TestLargeItemsOfAStreamGoByTheObjectStoreAndNothingIsLeft(t *testing.T) {
	conn := connect(t, localURL(t))
	announce(t, conn, map[string]string{"echo": clustertest.EchoPipeline})
	s := openStream(t, dial(t, conn, "echo", 1))
	large := make([]byte, 2<<20)
	for i := range byte(3) {
		large[0] = i
		require.NoError(t, s.Send(slices.Clone(large)))
	}
	s.CloseSend()
	for i := range byte(3) {
		item, err := s.Recv()
		require.NoError(t, err)
		large[0] = i
		assert.True(t, slices.Equal(large, item.Value.([]byte)))
		assert.Equal(t, "echo", item.Node)
	}
	_, err := s.Recv()
	require.Equal(t, io.EOF, err)
	assert.Empty(t, storedValues(t, conn))
}

// It runs by hand, many times: GOPHERSNAKE_LEFT=1 go test -race -run LargeItemsThat -count=50.
func TestLargeItemsThatNothingReceivesAreDeleted(t *testing.T) {
	if os.Getenv("GOPHERSNAKE_LEFT") == "" {
		t.Skip("set GOPHERSNAKE_LEFT to run it")
	}
	conn := connect(t, localURL(t))
	m := announce(t, conn, map[string]string{"echo": clustertest.EchoPipeline})
	s := openStream(t, dial(t, conn, "echo", 1))
	for range 3 {
		require.NoError(t, s.Send(make([]byte, 2<<20)))
	}
	_, err := s.Recv()
	require.NoError(t, err)
	require.NoError(t, s.Close())
	require.NoError(t, m.Drain(t.Context()))
	testkit.Eventually(t, func() bool { return len(storedValues(t, conn)) == 0 })
}

func TestTheFailureOfAStreamIsTheOneOfTheLocalRunner(t *testing.T) {
	conn := localConn(t)
	announce(t, conn, map[string]string{"fail": clustertest.FailPipeline}, cluster.WithName("m1"))
	local, err := clustertest.NewRunner(clustertest.FailPipeline)
	require.NoError(t, err)
	defer local.Close(context.Background())
	here, err := local.Stream(t.Context())
	require.NoError(t, err)
	defer here.Close()
	there := openStream(t, dial(t, conn, "fail", 1))
	require.NoError(t, here.Send("x"))
	require.NoError(t, there.Send("x"))
	_, want := here.Recv()
	_, got := there.Recv()
	e := runner.AsError(want).WithMetadata("machine", "m1")
	e.PID = runner.AsError(got).PID
	assert.Equal(t, fmt.Sprintf("%+v", e), fmt.Sprintf("%+v", runner.AsError(got)))
	assert.Equal(t, "0", runner.AsError(got).Metadata["delivered"])
	testkit.Eventually(t, func() bool { return there.Send("y") != nil }, "Send returns the failure")
}

func TestAnItemThatCannotBeCarriedDoesNotEndTheStream(t *testing.T) {
	conn := localConn(t)
	announce(t, conn, map[string]string{"echo": clustertest.EchoPipeline})
	s := openStream(t, dial(t, conn, "echo", 1))
	require.ErrorIs(t, s.Send(make(chan int)), runner.KindMarshaling)
	feed(t, s, 1, nothing)
	got, err := values(s)
	require.NoError(t, err)
	assert.Equal(t, integers(1), got)
}

func TestASlowConsumerStopsTheProducer(t *testing.T) {
	const window, items = 4, 200
	conn := localConn(t)
	var calls, sent atomic.Int64
	goMachine(t, conn, func(_ context.Context, in runner.Input) (any, error) {
		calls.Add(1)
		return in.Value, nil
	})
	s := openStream(t, dial(t, conn, "go", 1), cluster.WithWindow(window))
	feed(t, s, items, func(i int) { sent.Store(int64(i)) })
	item, err := s.Recv()
	require.NoError(t, err)
	assert.EqualValues(t, 0, item.Value)
	// What is between Send and Recv fills the windows: at each end of the connection in both
	// directions, before and behind the node, and one value that waits for credit.
	testkit.Eventually(t, func() bool { return calls.Load() >= window })
	assert.Less(t, calls.Load(), int64(3*window+4))
	assert.Less(t, sent.Load(), int64(6*window+4))
	got, err := values(s)
	require.NoError(t, err)
	assert.Equal(t, integers(items)[1:], got)
}

func TestAStreamThatIsClosedOrCanceledEndsOnItsMachine(t *testing.T) {
	for name, end := range map[string]func(s *cluster.Stream, cancel func()){
		"closed":   func(s *cluster.Stream, _ func()) { _ = s.Close() },
		"canceled": func(_ *cluster.Stream, cancel func()) { cancel() },
	} {
		t.Run(name, func(t *testing.T) {
			conn := localConn(t)
			begun, ended := make(chan struct{}), make(chan struct{})
			m := goMachine(t, conn, func(ctx context.Context, _ runner.Input) (any, error) {
				close(begun)
				<-ctx.Done()
				close(ended)
				return nil, ctx.Err()
			})
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			s, err := dial(t, conn, "go", 1).Stream(ctx)
			require.NoError(t, err)
			defer s.Close()
			require.NoError(t, s.Send(1))
			<-begun
			end(s, cancel)
			_, err = s.Recv()
			require.ErrorIs(t, err, runner.KindOther)
			select {
			case <-ended:
			case <-time.After(testkit.Long):
				t.Fatal("the machine goes on")
			}
			require.NoError(t, m.Drain(t.Context()))
		})
	}
}

func TestAStreamCarriesHeadersAndTheDeadline(t *testing.T) {
	conn := localConn(t)
	goMachine(t, conn, func(ctx context.Context, _ runner.Input) (any, error) {
		_, hasDeadline := ctx.Deadline()
		return []any{cluster.IncomingHeader(ctx, "traceparent"), cluster.RequestID(ctx), hasDeadline}, nil
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	s, err := dial(t, conn, "go", 1).Stream(cluster.WithRequestID(cluster.WithHeader(ctx, "traceparent", "00-1-2-01"), "r1"))
	require.NoError(t, err)
	defer s.Close()
	require.NoError(t, s.Send(1))
	item, err := s.Recv()
	require.NoError(t, err)
	assert.Equal(t, []any{"00-1-2-01", "r1", true}, item.Value)
}

func TestADrainLetsStreamsEnd(t *testing.T) {
	conn := localConn(t)
	m := announce(t, conn, map[string]string{"echo": clustertest.EchoPipeline})
	c := dial(t, conn, "echo", 1, cluster.WithWait(10*time.Millisecond))
	s := openStream(t, c)
	require.NoError(t, s.Send(0))
	drained := make(chan error, 1)
	go func() { drained <- m.Drain(t.Context()) }()
	testkit.Eventually(t, func() bool { return len(c.Machines()) == 0 })
	other := openStream(t, c)
	_, err := other.Recv()
	require.ErrorIs(t, err, runner.KindTransport)
	require.NoError(t, s.Send(1))
	s.CloseSend()
	got, err := values(s)
	require.NoError(t, err)
	assert.Equal(t, integers(2), got)
	require.NoError(t, <-drained)
}

// killed streams items through the first of two machines, and kills that in the middle.
func killed(t *testing.T, pipeline string, items int) ([]any, error) {
	t.Helper()
	url := localURL(t)
	pipelines := map[string]string{"p": pipeline}
	first := machine(t, url, "a", pipelines)
	c := dial(t, connect(t, url), "p", 1)
	s := openStream(t, c)
	require.NoError(t, s.Send(0)) // it has a machine
	machine(t, url, "b", pipelines)
	testkit.Eventually(t, func() bool { return len(c.Machines()) == 2 })
	feed(t, s, items, func(i int) {
		if i == items/2 {
			first.Kill()
		}
	})
	return values(s)
}

func TestAStreamContinuesOnAnotherMachine(t *testing.T) {
	const items = 1000
	sent := slices.Insert(integers(items), 0, any(int64(0)))
	var twice []any
	for _, n := range sent {
		twice = append(twice, n, n)
	}
	for name, c := range map[string]struct {
		pipeline string
		want     []any
	}{
		"without a state":    {clustertest.EchoPipeline, sent},
		"with a state":       {ledgerPipeline, totals(sent...)},
		"behind a generator": {twicePipeline, totals(twice...)},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := killed(t, c.pipeline, items)
			require.NoError(t, err)
			assert.Equal(t, c.want, got)
		})
	}
}

func TestAStreamWhoseStateIsLostEndsWithItsMachine(t *testing.T) {
	got, err := killed(t, counterPipeline, 1000)
	require.ErrorIs(t, err, runner.KindTransport)
	assert.ErrorContains(t, err, "machine a was lost during the stream: it has ended")
	e := runner.AsError(err)
	assert.Equal(t, fmt.Sprint(len(got)), e.Metadata["delivered"])
	assert.Equal(t, "true", e.Metadata["may_have_run"])
	assert.Contains(t, e.Hint, "snapshot() and restore()")
	assert.False(t, e.Retryable())
}

func TestAStreamContinuesWhenItsMachineIsClosed(t *testing.T) {
	conn := localConn(t)
	pipelines := map[string]string{"ledger": ledgerPipeline}
	first := announce(t, conn, pipelines)
	c := dial(t, conn, "ledger", 1)
	s := openStream(t, c)
	require.NoError(t, s.Send(1))
	_, err := s.Recv()
	require.NoError(t, err)
	announce(t, conn, pipelines)
	testkit.Eventually(t, func() bool { return len(c.Machines()) == 2 })
	first.Close()
	require.NoError(t, s.Send(2))
	s.CloseSend()
	got, err := values(s)
	require.NoError(t, err)
	assert.Equal(t, []any{[]any{int64(2), int64(3)}, []any{"end", int64(3)}}, got)
}

func TestAStreamOfAClientThatIsGoneEndsOnItsMachine(t *testing.T) {
	url := localURL(t)
	begun := make(chan struct{})
	m := goMachine(t, connect(t, url), func(ctx context.Context, _ runner.Input) (any, error) {
		close(begun)
		<-ctx.Done()
		return nil, ctx.Err()
	})
	conn := connect(t, url)
	s := openStream(t, dial(t, conn, "go", 1))
	require.NoError(t, s.Send(1))
	<-begun
	conn.Close() // without a word to the machine
	require.NoError(t, m.Drain(t.Context()))
	_, err := s.Recv()
	require.ErrorIs(t, err, runner.KindTransport)
}

func TestAStreamGoesOnWhenServersOfAClusterAreKilled(t *testing.T) {
	const items = 3000
	servers, urls := clustertest.StartServers(t, 3, clustertest.Settings{})
	clustertest.Start(t, "machine", clustertest.Settings{Name: "a", URLs: urls[1:], Pipelines: map[string]string{"counter": counterPipeline}})
	s := openStream(t, dial(t, connect(t, slices.Concat(urls[2:], urls[:2])...), "counter", 1))
	feed(t, s, items, func(i int) {
		if i == items/3 {
			require.NoError(t, servers[1].Restart()) // that of the machine
		}
		if i == 2*items/3 {
			require.NoError(t, servers[2].Restart()) // that of the client
		}
	})
	got, err := values(s)
	require.NoError(t, err)
	assert.Equal(t, integers(items + 1)[1:], got, "lost frames are sent again")
}

func TestAMachineGivesUpAStreamThatItsClientHasForgotten(t *testing.T) {
	cluster.SetStreamSilence(t, 300*time.Millisecond)
	conn := localConn(t)
	announce(t, conn, map[string]string{"echo": clustertest.EchoPipeline})
	c := dial(t, conn, "echo", 1)
	require.NoError(t, cluster.ForgetStream(conn, "echo", c.Machines()[0].ID))
	testkit.Eventually(t, func() bool { return finished(t, conn, "echo") == 1 })
}
