package cluster_test

import (
	"fmt"
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
	"github.com/gophersnake/gophersnake/runner/internal/progress"
)

const (
	workPipeline    = "nodes: [{id: work, node_type: work}]"
	chatterPipeline = "nodes: [{id: chatter, node_type: chatter}]"
)

// reports keeps what a context reports.
type reports struct {
	mu    sync.Mutex
	all   []string
	first chan struct{} // closed when the first one has come
}

func newReports() *reports { return &reports{first: make(chan struct{})} }

func (r *reports) note(p runner.Progress) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.all = append(r.all, p.String()); len(r.all) == 1 {
		close(r.first)
	}
}

// frames counts the progress frames that machines send.
func frames(t *testing.T, conn *cluster.Conn) *atomic.Int64 {
	t.Helper()
	var count atomic.Int64
	_, err := conn.NATS().Subscribe("_INBOX.>", func(m *nats.Msg) {
		if len(m.Data) > 2 && m.Data[1] == 38 {
			count.Add(1)
		}
	})
	require.NoError(t, err)
	require.NoError(t, conn.NATS().Flush())
	return &count
}

func TestARemoteCallReportsItsProgress(t *testing.T) {
	const elsewherePipeline = "nodes: [{id: work, node_type: work, host: m}]"
	url := localURL(t)
	conn := connect(t, url)
	clustertest.Start(t, "machine", clustertest.Settings{Name: "m", URLs: []string{url}, Pipelines: map[string]string{"p": elsewherePipeline}})
	c := dial(t, conn, "p", 1)
	for name, run := range map[string]func(t *testing.T, folder string, got *reports){
		"a run": func(t *testing.T, folder string, got *reports) {
			ctx, stop := runner.WithProgress(t.Context(), got.note)
			defer stop()
			done := goRun(ctx, c, folder)
			<-got.first
			clustertest.Release(t, folder)
			assert.Equal(t, result{"done", nil}, await(t, done))
		},
		"a node": func(t *testing.T, folder string, got *reports) {
			ctx, stop := runner.WithProgress(t.Context(), got.note)
			defer stop()
			go func() { <-got.first; clustertest.Release(t, folder) }()
			v, err := c.Node("work").Call(ctx, folder)
			require.NoError(t, err)
			assert.Equal(t, "done", v)
		},
		"a stream": func(t *testing.T, folder string, got *reports) {
			ctx, stop := runner.WithProgress(t.Context(), got.note)
			defer stop()
			s, err := c.Stream(ctx)
			require.NoError(t, err)
			require.NoError(t, s.Send(folder))
			<-got.first
			clustertest.Release(t, folder)
			item, err := s.Recv()
			require.NoError(t, err)
			assert.Equal(t, "done", item.Value)
			s.CloseSend()
			_, err = s.Recv()
			require.Error(t, err, "the end, before which the last report comes")
			require.NoError(t, s.Close())
		},
		"a node of a local pipeline": func(t *testing.T, folder string, got *reports) {
			r := elsewhere(t, url, elsewherePipeline)
			ctx, stop := runner.WithProgress(t.Context(), got.note)
			defer stop()
			go func() { <-got.first; clustertest.Release(t, folder) }()
			v, err := r.Run(ctx, folder)
			require.NoError(t, err)
			assert.Equal(t, "done", v)
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := newReports()
			run(t, t.TempDir(), got)
			assert.Equal(t, `node "work": half (50%)`, got.all[0])
			assert.Equal(t, `node "work": all (100%)`, got.all[len(got.all)-1])
		})
	}
}

func TestAMachineSendsProgressOnlyIfItIsWantedAndAtABoundedRate(t *testing.T) {
	conn := localConn(t)
	announce(t, conn, map[string]string{"chatter": chatterPipeline, "work": workPipeline})
	sent := frames(t, conn)
	c := dial(t, conn, "chatter", 1)
	_, err := c.Run(t.Context(), 0.2)
	require.NoError(t, err)
	assert.Zero(t, sent.Load(), "nobody has asked for it")
	got, started := newReports(), time.Now()
	ctx, stop := runner.WithProgress(t.Context(), got.note)
	steps, err := c.Run(ctx, 0.5)
	require.NoError(t, err)
	stop()
	assert.Equal(t, fmt.Sprintf(`node "chatter": step %d`, steps), got.all[len(got.all)-1], "the latest one counts")
	require.NoError(t, conn.NATS().Flush())
	assert.LessOrEqual(t, sent.Load(), int64(time.Since(started)/progress.Interval)+2)
	assert.NotZero(t, sent.Load())
}

func TestAWrongProgressFrameIsDropped(t *testing.T) {
	conn := localConn(t)
	announce(t, conn, map[string]string{"work": workPipeline})
	folder := t.TempDir()
	c := dial(t, conn, "work", 1)
	replies := make(chan string, 100)
	_, err := conn.NATS().Subscribe("gophersnake.call.>", func(m *nats.Msg) { replies <- m.Reply })
	require.NoError(t, err)
	got := newReports()
	ctx, stop := runner.WithProgress(t.Context(), got.note)
	done := goRun(ctx, c, folder)
	<-got.first
	reply := <-replies
	for _, content := range [][]byte{
		nil, {0}, {0, 0, 0}, []byte("\x00\x00\x00\xc0"), []byte("\x00\x00\x00\x81\xa8fraction\xa1x"), []byte("\x00\x00\x00\xdd\xff\xff\xff\xff"),
	} {
		require.NoError(t, conn.NATS().Publish(reply, append([]byte{1, 38, 0}, content...)))
	}
	require.NoError(t, conn.NATS().Publish(reply[:len(reply)-1]+"zzz", []byte{1, 38, 0, 0, 0, 0, 0x80})) // of no call
	require.NoError(t, conn.NATS().Flush())
	clustertest.Release(t, folder)
	assert.Equal(t, result{"done", nil}, await(t, done))
	stop()
	assert.Equal(t, `node "work": all (100%)`, got.all[len(got.all)-1])
}
