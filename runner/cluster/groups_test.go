package cluster_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/cluster"
	"github.com/gophersnake/gophersnake/runner/cluster/internal/clustertest"
	"github.com/gophersnake/gophersnake/runner/internal/testkit"
)

// together makes calls at once, and returns when all have ended.
func together(n int, call func(i int)) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { call(i) })
	}
	wg.Wait()
}

// ghost announces a machine that is none, with room for all calls of the pipeline echo. Its name is
// its id.
func ghost(t *testing.T, conn *nats.Conn, id string, readsGroups bool) {
	t.Helper()
	doc, err := json.Marshal(map[string]any{
		"protocol": 1, "oldest": 1, "machine": id, "name": id, "pipeline": "echo", "groups": readsGroups,
		"targets": []map[string]any{{"node": "", "ready": true, "slots": 1 << 20}},
	})
	require.NoError(t, err)
	require.NoError(t, conn.Publish("gophersnake.beat.echo", doc))
	require.NoError(t, conn.Flush())
}

// TestCallsOfAGroupEndEachOnItsOwn has results, errors and large values at the same time.
func TestCallsOfAGroupEndEachOnItsOwn(t *testing.T) {
	t.Parallel()
	url := localURL(t)
	answer := func(_ context.Context, in runner.Input) (any, error) {
		text := in.Value.(string)
		if strings.HasPrefix(text, "refuse ") {
			return nil, runner.NewError(runner.KindExecution, text)
		}
		return text, nil
	}
	r, err := clustertest.NewRunner("nodes: [{id: go, node_type: go}]", runner.WithNode("go", answer))
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, r.Close(context.Background())) })
	machine := connect(t, url)
	m, err := cluster.Announce(t.Context(), machine, map[string]*runner.Runner{"go": r})
	require.NoError(t, err)
	t.Cleanup(m.Close)
	c := dial(t, connect(t, url), "go", 1)
	calls := 0
	before := machine.NATS().Stats().InMsgs
	testkit.Eventually(t, func() bool {
		together(64, func(i int) {
			sent := fmt.Sprint(calls, " ", i)
			switch i % 8 {
			case 1:
				sent = "refuse " + sent
			case 2:
				sent += strings.Repeat("x", 8<<10)
			}
			v, err := c.Run(t.Context(), sent)
			if i%8 == 1 {
				assert.ErrorContains(t, err, sent)
			} else if assert.NoError(t, err) {
				assert.Equal(t, sent, v)
			}
		})
		calls += 64
		return machine.NATS().Stats().InMsgs-before < uint64(calls)*3/4
	}, "calls go in groups")
}

// TestAGroupThatNoMachineGetsIsCalledElsewhere has a machine that has just ended, and a node that is
// not idempotent.
func TestAGroupThatNoMachineGetsIsCalledElsewhere(t *testing.T) {
	t.Parallel()
	url := localURL(t)
	announce(t, connect(t, url), map[string]string{"echo": "nodes: [{id: echo, node_type: echo, idempotent: false}]"})
	other := connect(t, url).NATS()
	c := dial(t, connect(t, url), "echo", 1)
	for round := range 5 {
		id := fmt.Sprint("ghost", round)
		ghost(t, other, id, true)
		testkit.Eventually(t, func() bool { return len(c.Machines()) == 2 }, "the machine is known")
		together(64, func(i int) {
			v, err := c.Run(t.Context(), i)
			if assert.NoError(t, err) {
				assert.EqualValues(t, i, v)
			}
		})
		assert.Len(t, c.Machines(), 1)
	}
}

// TestGroupsGoOnlyToMachinesThatReadThem has machines of two versions, which count the messages.
func TestGroupsGoOnlyToMachinesThatReadThem(t *testing.T) {
	t.Parallel()
	url := localURL(t)
	other := connect(t, url).NATS()
	kinds := func(id string) (calls, groups *atomic.Int64) {
		calls, groups = new(atomic.Int64), new(atomic.Int64)
		_, err := other.Subscribe(cluster.RunSubject("echo", id), func(msg *nats.Msg) {
			switch msg.Data[1] {
			case cluster.KindCall:
				calls.Add(1)
			case cluster.KindCalls:
				groups.Add(1)
			}
		})
		require.NoError(t, err)
		_, err = other.Subscribe("gophersnake.alive."+id, func(msg *nats.Msg) { _ = msg.Respond(nil) })
		require.NoError(t, err)
		return calls, groups
	}
	client := func(id string, readsGroups bool) (call func(n int)) {
		conn := connect(t, url)
		announced := make(chan *cluster.Client)
		go func() {
			c, err := cluster.Dial(t.Context(), conn, "echo")
			assert.NoError(t, err)
			announced <- c
		}()
		var c *cluster.Client
		testkit.Eventually(t, func() bool {
			ghost(t, other, id, readsGroups)
			select {
			case c = <-announced:
				return true
			default:
				return false
			}
		}, "the machine is known")
		require.NotNil(t, c)
		t.Cleanup(c.Close)
		return func(n int) {
			ctx, cancel := context.WithCancel(t.Context())
			var begun sync.WaitGroup
			begun.Add(n)
			go func() { begun.Wait(); assert.NoError(t, conn.NATS().Flush()); cancel() }()
			together(n, func(int) {
				begun.Done()
				_, err := c.Run(ctx, "none answers")
				assert.ErrorIs(t, err, context.Canceled)
			})
		}
	}
	calls, groups := kinds("old")
	call := client("old", false)
	testkit.Eventually(t, func() bool { call(64); return calls.Load() > 256 }, "calls")
	assert.Zero(t, groups.Load())

	_, groups = kinds("new")
	again := client("new", true)
	testkit.Eventually(t, func() bool { again(64); return groups.Load() > 0 }, "groups of calls")
}

// TestAClientThatReadsNoGroupsGetsAnAnswerForEachCall has a client of an older version, and groups
// that are damaged.
func TestAClientThatReadsNoGroupsGetsAnAnswerForEachCall(t *testing.T) {
	t.Parallel()
	url := localURL(t)
	announceGo(t, connect(t, url), map[string]string{"echo": "go"})
	c := dial(t, connect(t, url), "echo", 1)
	subject := cluster.RunSubject("echo", c.Machines()[0].ID)
	nc := connect(t, url).NATS()
	inbox := nc.NewInbox()
	answers := make(chan *nats.Msg, 256)
	_, err := nc.ChanSubscribe(inbox+".>", answers)
	require.NoError(t, err)
	frame, err := cluster.CallFrame("a")
	require.NoError(t, err)
	damaged := [][]byte{
		cluster.GroupFrame("a b", string(frame)), cluster.GroupFrame("a.b", string(frame)), cluster.GroupFrame("x\r\nPUB y 0\r\n", string(frame)),
		cluster.GroupFrame("", string(frame)), cluster.GroupFrame("a", ""), cluster.GroupFrame("a", string(cluster.GroupFrame("b", string(frame)))),
		cluster.GroupFrame("a", string(frame[:len(frame)-1])), cluster.GroupFrame("a", string(frame))[:9], append(cluster.GroupFrame(), 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01),
	}
	for _, data := range damaged {
		require.NoError(t, nc.PublishRequest(subject, inbox+".damaged", data))
	}
	want := make(map[string]bool)
	for i := range 128 {
		name := inbox + fmt.Sprintf(".n%d", i)
		want[name] = true
		if i%2 == 0 {
			require.NoError(t, nc.PublishRequest(subject, name, frame))
			continue
		}
		require.NoError(t, nc.PublishRequest(subject, inbox+".group", cluster.GroupFrame(fmt.Sprintf("n%d", i), string(frame))))
	}
	for len(want) > 0 {
		select {
		case msg := <-answers:
			if strings.HasSuffix(msg.Subject, ".a") {
				assert.NotEqual(t, cluster.KindResult, msg.Data[1])
				continue
			}
			require.True(t, want[msg.Subject], msg.Subject)
			assert.Equal(t, cluster.KindResult, msg.Data[1])
			delete(want, msg.Subject)
		case <-time.After(testkit.Long):
			t.Fatal("no answer to ", want)
		}
	}
}
