package jobs_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/cluster"
	"github.com/gophersnake/gophersnake/runner/cluster/internal/clustertest"
	"github.com/gophersnake/gophersnake/runner/cluster/jobs"
	"github.com/gophersnake/gophersnake/runner/internal/testkit"
)

func TestMain(m *testing.M) {
	clustertest.Main(m, map[string]func(clustertest.Settings) error{"machine": beMachine})
}

// beMachine serves jobs until its standard input ends. Then it closes without waiting.
func beMachine(s clustertest.Settings) error {
	ctx := context.Background()
	conn, err := cluster.Connect(ctx, cluster.Config{URLs: s.URLs})
	if err != nil {
		return err
	}
	logger := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	store, err := jobs.Open(ctx, conn, jobs.Config{AckWait: s.AckWait, Begins: s.Begins, Logger: logger})
	if err != nil {
		return err
	}
	runners := make(map[string]*runner.Runner)
	for name, text := range s.Pipelines {
		if runners[name], err = clustertest.NewRunner(text); err != nil {
			return err
		}
	}
	opts := []jobs.ServerOption{jobs.WithName(s.Name)}
	if s.Webhooks {
		w := webhooks()
		w.Timeout = time.Second
		opts = append(opts, jobs.WithWebhooks(w))
	}
	server, err := jobs.Start(ctx, store, runners, opts...)
	if err != nil {
		return err
	}
	fmt.Println("ready")
	_, _ = io.Copy(io.Discard, os.Stdin)
	server.Close()
	for _, r := range runners {
		err = errors.Join(err, r.Close(ctx))
	}
	conn.Close()
	return err
}

// machine starts a machine as a process.
func machine(t *testing.T, s clustertest.Settings) *clustertest.Process {
	t.Helper()
	s.AckWait = cmp.Or(s.AckWait, quickAckWait)
	return clustertest.Start(t, "machine", s)
}

// quickAckWait is how long machines may be silent in these tests.
const quickAckWait = time.Second

// site is a NATS server in this process, and the jobs in it.
type site struct {
	*jobs.Store
	t    *testing.T
	conn *cluster.Conn
	url  string
}

func newSite(t *testing.T, config ...jobs.Config) *site {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "state")
	conn, err := cluster.Connect(t.Context(), cluster.Config{StateDir: dir, SyncInterval: -1})
	require.NoError(t, err)
	t.Cleanup(conn.Close)
	s := &site{t: t, conn: conn}
	s.url, err = cluster.LocalURL(dir)
	require.NoError(t, err)
	c := jobs.Config{}
	if len(config) > 0 {
		c = config[0]
	}
	c.AckWait = cmp.Or(c.AckWait, quickAckWait)
	s.Store, err = jobs.Open(t.Context(), conn, c)
	require.NoError(t, err)
	return s
}

// serve takes jobs for one pipeline in this process.
func (s *site) serve(name, text string, opts ...runner.Option) *jobs.Server {
	s.t.Helper()
	r, err := clustertest.NewRunner(text, opts...)
	require.NoError(s.t, err)
	s.t.Cleanup(func() { assert.NoError(s.t, r.Close(context.Background())) })
	server, err := jobs.Start(s.t.Context(), s.Store, map[string]*runner.Runner{name: r})
	require.NoError(s.t, err)
	s.t.Cleanup(server.Close)
	return server
}

func (s *site) submit(pipeline string, input any, opts ...jobs.SubmitOption) jobs.Ref {
	s.t.Helper()
	ref, known, err := s.Submit(s.t.Context(), pipeline, input, opts...)
	require.NoError(s.t, err)
	assert.False(s.t, known)
	return ref
}

// await returns a job that has ended.
func (s *site) await(ref jobs.Ref) *jobs.Job {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), testkit.Long)
	defer cancel()
	j, err := s.Wait(ctx, ref)
	if err != nil {
		now, reading := s.Get(s.t.Context(), ref)
		s.t.Logf("the job is %+v, %v", now, reading)
	}
	require.NoError(s.t, err)
	return j
}

// result returns the result of a job when it is done.
func (s *site) result(ref jobs.Ref) any {
	s.t.Helper()
	j := s.await(ref)
	require.Equal(s.t, jobs.Done, j.State, "%+v", j.Err)
	v, err := s.Result(s.t.Context(), ref)
	require.NoError(s.t, err)
	return v
}

// isEmpty reports whether the queue of a pipeline is empty.
func (s *site) isEmpty(pipeline string) func() bool {
	return func() bool {
		c, err := s.Count(s.t.Context(), pipeline)
		return err == nil && c.Waiting+c.Given == 0
	}
}

// acks collects the subjects of what machines say to the server about jobs, by its text.
func (s *site) acks(text string) <-chan string {
	s.t.Helper()
	conn, err := nats.Connect(s.url)
	require.NoError(s.t, err)
	s.t.Cleanup(conn.Close)
	subjects := make(chan string, 1000)
	_, err = conn.Subscribe("$JS.ACK.>", func(m *nats.Msg) {
		if strings.HasPrefix(string(m.Data), text) {
			subjects <- m.Subject
		}
	})
	require.NoError(s.t, err)
	require.NoError(s.t, conn.Flush())
	return subjects
}

// receive returns the next value of a channel.
func receive[T any](t *testing.T, from <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-from:
	case <-time.After(testkit.Long):
		require.FailNow(t, "nothing comes")
	}
	return v
}

// flaky returns a node that fails a number of times, and then returns how often it was called.
func flaky(failures int) runner.NodeFunc {
	calls := 0
	return func(context.Context, runner.Input) (any, error) {
		if calls++; calls <= failures {
			return nil, runner.NewError(runner.KindTransport, "flaky")
		}
		return calls, nil
	}
}

// reporting returns a node that reports its progress and waits.
func reporting(reported chan<- bool, proceed <-chan bool) runner.NodeFunc {
	return func(ctx context.Context, _ runner.Input) (any, error) {
		jobs.Report(ctx, jobs.Progress{Fraction: 0.5, Message: "half"})
		reported <- true
		<-proceed
		return "done", nil
	}
}
