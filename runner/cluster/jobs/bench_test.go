package jobs_test

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/cluster"
	"github.com/gophersnake/gophersnake/runner/cluster/internal/clustertest"
	"github.com/gophersnake/gophersnake/runner/cluster/jobs"
)

// BenchmarkJobs submits small jobs of an echo in Python, with 64 in flight, and waits until they
// have ended. The servers sync each write. Run it with a number of jobs:
//
//	go test -run '^$' -bench Jobs -benchtime 5000x ./runner/cluster/jobs
func BenchmarkJobs(b *testing.B) {
	for _, servers := range []int{1, 3} {
		for _, node := range []string{"echo", "echo_async"} {
			b.Run(fmt.Sprintf("servers=%d/%s", servers, node), func(b *testing.B) { benchmarkJobs(b, servers, node) })
		}
	}
}

func benchmarkJobs(b *testing.B, servers int, node string) {
	_, urls := clustertest.StartServers(b, servers, clustertest.Settings{SyncAlways: true})
	open := func() *jobs.Store {
		conn, err := cluster.Connect(b.Context(), cluster.Config{URLs: urls})
		require.NoError(b, err)
		b.Cleanup(conn.Close)
		var store *jobs.Store
		require.Eventually(b, func() bool {
			store, err = jobs.Open(b.Context(), conn, jobs.Config{})
			return err == nil
		}, time.Minute, 100*time.Millisecond)
		return store
	}
	machines, _ := strconv.Atoi(os.Getenv("MACHINES"))
	for range max(machines, 1) {
		r, err := clustertest.NewRunner("nodes: [{id: echo, workers: 2, node_type: " + node + "}]")
		require.NoError(b, err)
		b.Cleanup(func() { _ = r.Close(context.Background()) })
		server, err := jobs.Start(b.Context(), open(), map[string]*runner.Runner{"echo": r})
		require.NoError(b, err)
		b.Cleanup(server.Close)
	}
	store := open()
	b.ResetTimer()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		n := 0
		err := store.Watch(b.Context(), "echo", func(j *jobs.Job) bool {
			if j.State.Ended() {
				n++
			}
			return n < b.N
		})
		if err != nil {
			b.Error(err)
		}
	}()
	started := time.Now()
	var submitting sync.WaitGroup
	for i := range 64 {
		submitting.Go(func() {
			for j := i; j < b.N; j += 64 {
				if _, _, err := store.Submit(b.Context(), "echo", j); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	submitting.Wait()
	b.ReportMetric(float64(b.N)/time.Since(started).Seconds(), "submits/s")
	<-ended
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "jobs/s")
}
