package jobs_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/runner/cluster"
	"github.com/gophersnake/gophersnake/runner/cluster/internal/clustertest"
	"github.com/gophersnake/gophersnake/runner/cluster/jobs"
)

// chaosVariable is how long TestChaos lasts, such as 5m. Without it, the test is skipped:
//
//	GOPHERSNAKE_JOBS_CHAOS=5m go test -run TestChaos -v -timeout 30m ./runner/cluster/jobs
const chaosVariable = "GOPHERSNAKE_JOBS_CHAOS"

// chaos is three NATS servers and three machines, all of which are killed at random.
type chaos struct {
	t       *testing.T
	urls    []string
	servers []*clustertest.Server
	folder  string // with the file of the jobs that nodes have begun
	store   *jobs.Store

	mu          sync.Mutex
	submitted   map[string]bool // by PIPELINE/ID: must the job fail?
	kills       int
	serverKills int
}

// TestChaos submits jobs while machines and NATS servers are killed by SIGKILL and started
// again. Each job must have exactly one outcome, the right one, and no job of a pipeline that is
// not idempotent may begin twice.
func TestChaos(t *testing.T) {
	length, err := time.ParseDuration(os.Getenv(chaosVariable))
	if err != nil {
		t.Skip("it takes minutes; set " + chaosVariable + "=5m")
	}
	c := &chaos{t: t, folder: t.TempDir(), submitted: make(map[string]bool)}
	c.servers, c.urls = clustertest.StartServers(t, 3, clustertest.Settings{SyncAlways: true})
	conn, err := cluster.Connect(t.Context(), cluster.Config{URLs: c.urls})
	require.NoError(t, err)
	defer conn.Close()
	require.Eventually(t, func() bool {
		c.store, err = jobs.Open(t.Context(), conn, jobs.Config{Bytes: 256 << 20})
		return err == nil
	}, time.Minute, 100*time.Millisecond)
	ctx, cancel := context.WithTimeout(t.Context(), length)
	defer cancel()
	var wg sync.WaitGroup
	var ready sync.WaitGroup
	ready.Add(1)
	stopped := make(chan struct{})
	for i := range 3 {
		wg.Go(func() { c.runMachine(ctx, fmt.Sprintf("m%d", i), stopped, sync.OnceFunc(ready.Done), i == 0) })
	}
	ready.Wait()
	wg.Go(func() { c.killServers(ctx) })
	var submitting sync.WaitGroup
	for i := range 8 {
		submitting.Go(func() { c.submit(ctx, i) })
	}
	submitting.Wait()
	c.awaitAll()
	close(stopped)
	wg.Wait()
	c.report()
}

// killServers kills one NATS server after the other, and starts it again, until the context ends.
func (c *chaos) killServers(ctx context.Context) {
	for i := 0; ctx.Err() == nil; i++ {
		select {
		case <-ctx.Done():
		case <-time.After(20 * time.Second):
			c.serverKills++
			if !assert.NoError(c.t, c.servers[i%3].Restart()) {
				return
			}
		}
	}
}

// runMachine runs a machine, and kills it at random until the context ends. Then it keeps it
// until it is stopped.
func (c *chaos) runMachine(ctx context.Context, name string, stopped <-chan struct{}, ready func(), first bool) {
	line := fmt.Sprintf("nodes: [{id: ledger, node_type: ledger, params: {folder: %q}, workers: 2", c.folder)
	s := clustertest.Settings{Name: name, URLs: c.urls, AckWait: 3 * time.Second, Begins: 1 << 20, Pipelines: map[string]string{
		"work": line + "}]", "once": line + ", idempotent: false}]",
	}}
	for {
		p, err := clustertest.TryStart(c.t, "machine", s)
		if err != nil {
			continue // the servers elect a leader
		}
		if first {
			ready()
		}
		select {
		case <-ctx.Done():
			<-stopped
			p.Kill()
			return
		case <-time.After(time.Duration(4+rand.IntN(8)) * time.Second):
			p.Kill()
			c.mu.Lock()
			c.kills++
			c.mu.Unlock()
		}
	}
}

// submit queues jobs, some of which must fail, until the context ends. Each is submitted twice now
// and then, as a submitter does that did not hear of its success.
func (c *chaos) submit(ctx context.Context, worker int) {
	for i := 0; ctx.Err() == nil; i++ {
		id, fails := fmt.Sprintf("%d-%d", worker, i), i%37 == 36
		if fails {
			id += "-fail"
		}
		pipeline := []string{"work", "once"}[i%2]
		for range 1 + i%10/9 {
			for {
				_, _, err := c.store.Submit(c.t.Context(), pipeline, id, jobs.WithID(id))
				if err == nil {
					break
				}
				c.t.Log("submit again:", err)
			}
		}
		c.mu.Lock()
		c.submitted[pipeline+"/"+id] = fails
		c.mu.Unlock()
		counts, err := c.store.Count(ctx, pipeline)
		for ctx.Err() == nil && (err != nil || counts.Waiting > 200) {
			time.Sleep(50 * time.Millisecond)
			counts, err = c.store.Count(ctx, pipeline)
		}
	}
}

// awaitAll waits until the queues are empty.
func (c *chaos) awaitAll() {
	for _, pipeline := range []string{"work", "once"} {
		require.Eventually(c.t, func() bool {
			n, err := c.store.Count(c.t.Context(), pipeline)
			return err == nil && n.Waiting+n.Given == 0
		}, 3*time.Minute, 200*time.Millisecond, pipeline)
	}
}

// report compares the ledger of the nodes with the outcomes of the jobs.
func (c *chaos) report() {
	text, err := os.ReadFile(filepath.Join(c.folder, "begun"))
	require.NoError(c.t, err)
	begun := make(map[string]int)
	for line := range strings.Lines(string(text)) {
		begun[strings.TrimSpace(line)]++
	}
	outcomes := make(map[string]int)
	dead := make(map[string]uint64)
	for name, fails := range c.submitted {
		ref, err := jobs.ParseRef(name)
		require.NoError(c.t, err)
		j, err := c.store.Get(c.t.Context(), ref)
		if !assert.NoError(c.t, err, "%s is lost", name) {
			continue
		}
		v, failed := c.store.Result(c.t.Context(), ref)
		switch {
		case j.State == jobs.Done && !fails:
			assert.NoError(c.t, failed)
			assert.Equal(c.t, ref.ID, v, name)
			outcomes[ref.Pipeline+" done"]++
		case j.State == jobs.Failed && j.MayHaveRun && ref.Pipeline == "once":
			outcomes["once may have run"]++
			dead[ref.Pipeline]++
		case j.State == jobs.Failed && fails:
			outcomes[ref.Pipeline+" failed"]++
			dead[ref.Pipeline]++
		default:
			assert.Failf(c.t, "a wrong outcome", "%s is %s: %v", name, j.State, j.Err)
		}
		if ref.Pipeline == "once" {
			assert.LessOrEqual(c.t, begun[ref.ID], 1, "%s has begun twice", name)
			assert.True(c.t, begun[ref.ID] == 1 || j.MayHaveRun, "%s has not begun", name)
		}
	}
	again := 0
	for _, n := range begun {
		again += n - 1
	}
	for _, pipeline := range []string{"work", "once"} {
		n, err := c.store.Count(c.t.Context(), pipeline)
		require.NoError(c.t, err)
		assert.Equal(c.t, dead[pipeline], n.Dead, "dead letters of %s", pipeline)
	}
	c.t.Logf("%d jobs, %d kills of machines, %d of NATS servers, %d jobs begun again; %v", len(c.submitted), c.kills, c.serverKills, again, outcomes)
}
