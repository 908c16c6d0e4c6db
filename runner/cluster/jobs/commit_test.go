package jobs_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/runner/cluster/internal/clustertest"
	"github.com/gophersnake/gophersnake/runner/cluster/jobs"
	"github.com/gophersnake/gophersnake/runner/internal/testkit"
)

// submitAtOnce submits n jobs, each of them some times, and returns how often a job was known.
func (s *site) submitAtOnce(round, n, times int) (known int) {
	s.t.Helper()
	var mu sync.Mutex
	var wg sync.WaitGroup
	for i := range n * times {
		wg.Go(func() {
			_, isKnown, err := s.Submit(s.t.Context(), "echo", i/times, jobs.WithID(fmt.Sprintf("%d-%d", round, i/times)))
			assert.NoError(s.t, err)
			if isKnown {
				mu.Lock()
				defer mu.Unlock()
				known++
			}
		})
	}
	wg.Wait()
	return known
}

// batched returns how many messages of a stream were published in batches.
func (s *site) batched(name, subject string) (n int) {
	s.t.Helper()
	js, err := jetstream.New(s.conn.NATS())
	require.NoError(s.t, err)
	stream, err := js.Stream(s.t.Context(), name)
	require.NoError(s.t, err)
	info, err := stream.Info(s.t.Context(), jetstream.WithSubjectFilter(subject))
	require.NoError(s.t, err)
	for subject := range info.State.Subjects {
		msg, err := stream.GetLastMsgForSubject(s.t.Context(), subject)
		require.NoError(s.t, err)
		if msg.Header.Get("Nats-Batch-Id") != "" {
			n++
		}
	}
	return n
}

func TestWhatIsStoredAtOnceIsABatchAndARefusedBatchLosesNothing(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.serve("echo", clustertest.EchoPipeline).Close()
	const n = 50
	rounds := 0
	testkit.Eventually(t, func() bool {
		assert.Zero(t, s.submitAtOnce(rounds, n, 1))
		rounds++
		return s.batched("gophersnake-jobs-echo", "gophersnake.jobs.>") > 0
	})
	assert.Equal(t, n, s.submitAtOnce(rounds, n, 2), "a batch with the same job twice is refused")
	rounds++
	c, err := s.Count(t.Context(), "echo")
	require.NoError(t, err)
	assert.EqualValues(t, n*rounds, c.Waiting)
	s.serve("echo", strings.Replace(clustertest.EchoPipeline, "node_type: echo", "node_type: echo_async", 1))
	for round := range rounds {
		for i := range n {
			assert.EqualValues(t, i, s.result(jobs.Ref{Pipeline: "echo", ID: fmt.Sprintf("%d-%d", round, i)}))
		}
	}
	testkit.Eventually(t, s.isEmpty("echo"))
	assert.Positive(t, s.batched("KV_gophersnake-jobs", "$KV.>"))
}
