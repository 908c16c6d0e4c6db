package jobs_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/cluster"
	"github.com/gophersnake/gophersnake/runner/cluster/internal/clustertest"
	"github.com/gophersnake/gophersnake/runner/cluster/jobs"
	"github.com/gophersnake/gophersnake/runner/internal/testkit"
)

// proxy is a way to a NATS server that can lose what the server says.
type proxy struct {
	url      string
	isLosing atomic.Bool
	// requests has an item for each time that the client says what is watched.
	watched  string
	requests chan bool
}

// newProxy starts a proxy to the server of a site.
func newProxy(s *site, watched string) *proxy {
	s.t.Helper()
	u, err := url.Parse(s.url)
	require.NoError(s.t, err)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(s.t, err)
	p := &proxy{watched: watched, requests: make(chan bool, 1000)}
	var copying sync.WaitGroup
	address := u.Host
	copying.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", address)
			if !assert.NoError(s.t, err) {
				return
			}
			s.t.Cleanup(func() { client.Close(); server.Close() })
			copying.Go(func() { p.copy(server, client, false) })
			copying.Go(func() { p.copy(client, server, true) })
		}
	})
	s.t.Cleanup(copying.Wait)
	s.t.Cleanup(func() { listener.Close() })
	u.Host = listener.Addr().String()
	p.url = u.String()
	return p
}

// copy copies one direction until it ends.
func (p *proxy) copy(to io.WriteCloser, from io.Reader, isAnswer bool) {
	defer to.Close()
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		if !isAnswer && bytes.Contains(buffer[:n], []byte(p.watched)) {
			p.requests <- true
		}
		if !isAnswer || !p.isLosing.Load() {
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// through opens the jobs of the site through a proxy.
func (s *site) through(p *proxy) *site {
	s.t.Helper()
	conn, err := cluster.Connect(s.t.Context(), cluster.Config{URLs: []string{p.url}})
	require.NoError(s.t, err)
	s.t.Cleanup(conn.Close)
	store, err := jobs.Open(s.t.Context(), conn, jobs.Config{AckWait: quickAckWait})
	require.NoError(s.t, err)
	return &site{Store: store, t: s.t, conn: conn, url: p.url}
}

func TestASubmissionWhoseAnswerIsLostIsMadeAgain(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.serve("echo", clustertest.EchoPipeline).Close()
	p := newProxy(s, " gophersnake.jobs.echo.")
	through := s.through(p)
	through.submit("echo", 1)
	receive(t, p.requests)
	p.isLosing.Store(true)
	done := make(chan error, 1)
	go func() {
		_, known, err := through.Submit(t.Context(), "echo", 2)
		assert.False(t, known)
		done <- err
	}()
	receive(t, p.requests)
	receive(t, p.requests)
	p.isLosing.Store(false)
	require.NoError(t, receive(t, done))
	c, err := s.Count(t.Context(), "echo")
	require.NoError(t, err)
	assert.EqualValues(t, 2, c.Waiting)
}

func TestALargeResultWaitsForServersThatDoNotAnswer(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	p := newProxy(s, "$O.gophersnake-job-results.M.")
	begun, proceed := make(chan bool), make(chan bool)
	large := bytes.Repeat([]byte("x"), 200_000)
	s.through(p).serve("large", "nodes: [{id: large, node_type: large}]", runner.WithNode("large", func(context.Context, runner.Input) (any, error) {
		begun <- true
		<-proceed
		return large, nil
	}))
	first := s.submit("large", 1) // creates the bucket
	receive(t, begun)
	proceed <- true
	s.result(first)
	for len(p.requests) > 0 {
		receive(t, p.requests)
	}
	ref := s.submit("large", 2)
	receive(t, begun)
	p.isLosing.Store(true)
	proceed <- true
	receive(t, p.requests)
	receive(t, p.requests) // the second try
	p.isLosing.Store(false)
	assert.Equal(t, large, s.result(ref))
	assert.Equal(t, 1, s.await(ref).Begins)
}

func TestAJobWaitsForItsLargeInput(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.serve("echo", clustertest.EchoPipeline)
	// As on a server that is behind the others, the input is there after the job.
	ref := jobs.Ref{Pipeline: "echo", ID: "early"}
	js, err := jetstream.New(s.conn.NATS())
	require.NoError(t, err)
	_, err = js.PublishMsg(t.Context(), jobs.AsideMessage(t, ref))
	require.NoError(t, err)
	testkit.Eventually(t, func() bool { j, err := s.Get(t.Context(), ref); return err == nil && j.State == jobs.Running })
	require.NoError(t, s.PutInput(t.Context(), ref, jobs.Content(t, "late")))
	assert.Equal(t, "late", s.result(ref))
}

func TestJobsAreNotKeptFromAnotherMachineBehindALongOne(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	begun, proceed := make(chan bool, 1), make(chan bool)
	node := func(_ context.Context, in runner.Input) (any, error) {
		if in.Value == "long" {
			begun <- true
			<-proceed
		}
		return in.Value, nil
	}
	serve := func() {
		r, err := clustertest.NewRunner("nodes: [{id: node, node_type: node}]", runner.WithNode("node", node))
		require.NoError(t, err)
		t.Cleanup(func() { assert.NoError(t, r.Close(context.Background())) })
		server, err := jobs.Start(t.Context(), s.Store, map[string]*runner.Runner{"node": r}, jobs.WithSlots("node", 1))
		require.NoError(t, err)
		t.Cleanup(server.Close)
	}
	serve()
	for i := range 50 { // their runs are short
		s.submit("node", i)
	}
	testkit.Eventually(t, s.isEmpty("node"))
	long := s.submit("node", "long")
	receive(t, begun)
	var refs []jobs.Ref
	for i := range 20 {
		refs = append(refs, s.submit("node", i))
	}
	serve()
	for _, ref := range refs {
		s.result(ref)
	}
	close(proceed)
	assert.Equal(t, "long", s.result(long))
}

func TestALargeResultIsWholeIfItsStreamComesBackMeanwhile(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	p := newProxy(s, "PUB $O.gophersnake-job-results.C.")
	large := make([]byte, 3<<20)
	for i := range large {
		large[i] = byte(i >> 16)
	}
	s.through(p).serve("large", "nodes: [{id: large, node_type: large}]", runner.WithNode("large", func(context.Context, runner.Input) (any, error) {
		return large, nil
	}))
	assert.Equal(t, large, s.result(s.submit("large", 1))) // creates the bucket
	js, err := jetstream.New(s.conn.NATS())
	require.NoError(t, err)
	store, err := js.ObjectStore(t.Context(), "gophersnake-job-results")
	require.NoError(t, err)
	status, err := store.Status(t.Context())
	require.NoError(t, err)
	require.NoError(t, js.DeleteObjectStore(t.Context(), "gophersnake-job-results"))
	for len(p.requests) > 0 {
		receive(t, p.requests)
	}
	ref := s.submit("large", 2)
	receive(t, p.requests)
	_, err = js.CreateObjectStore(t.Context(), jetstream.ObjectStoreConfig{Bucket: "gophersnake-job-results", TTL: status.TTL()})
	require.NoError(t, err)
	assert.True(t, bytes.Equal(large, s.result(ref).([]byte)))
}
