package jobs_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/runner/cluster"
	"github.com/gophersnake/gophersnake/runner/cluster/internal/clustertest"
	"github.com/gophersnake/gophersnake/runner/cluster/jobs"
)

// chaosVariable is how long TestChaos submits jobs, such as 5m, at 20,000 a minute. Without it, the
// test has its short form:
//
//	GOPHERSNAKE_JOBS_CHAOS=5m go test -run TestChaos -v -timeout 60m ./runner/cluster/jobs
const chaosVariable = "GOPHERSNAKE_JOBS_CHAOS"

// chaosPlan is what happens in TestChaos, and when.
type chaosPlan struct {
	jobs   int
	length time.Duration // of the submission, at least
	// killEvery is the time between two kills of machines, and serverEvery that between two kills
	// of NATS servers. For the time cut, one pair of hosts is cut from each other, and later one host from all.
	killEvery, serverEvery, cut time.Duration
	kills                       int // of machines, at least
	serverKills                 int // at most
}

func planOfChaos(t *testing.T) chaosPlan {
	t.Helper()
	text := os.Getenv(chaosVariable)
	if text == "" {
		return chaosPlan{jobs: 1500, length: 12 * time.Second, killEvery: 2 * time.Second, serverEvery: 4 * time.Second, serverKills: 1, cut: 2 * time.Second, kills: 2}
	}
	length, err := time.ParseDuration(text)
	require.NoError(t, err, chaosVariable)
	return chaosPlan{
		jobs: int(length.Minutes() * 20_000), length: length, killEvery: 5 * time.Second, serverEvery: time.Minute, serverKills: 1000,
		cut: 20 * time.Second, kills: int(length / (6 * time.Second)),
	}
}

// chaosPipelines are the pipelines of TestChaos.
var chaosPipelines = []string{"work", "once", "doomed", "large"}

// chaos is three hosts, each of which has a NATS server and a machine. Cables connect each two of
// them, and each with the test.
type chaos struct {
	chaosPlan
	t       *testing.T
	folder  string // with the ledgers of the machines
	hosts   []*clustertest.Host
	cables  map[[2]int]*clustertest.Cable // by the hosts, of which the test is -1
	servers []*clustertest.Server
	store   *jobs.Store

	submitted, ended       atomic.Int64
	killed, serversStarted atomic.Int64

	mu       sync.Mutex
	refs     map[jobs.Ref]bool      // of the submitted jobs
	outcomes map[jobs.Ref]*jobs.Job // as they were when they ended
}

// TestChaos submits jobs to three machines, two of which are killed by SIGKILL at random and
// started again, while NATS servers are killed and the network is cut. Each job must have exactly
// one outcome, the right one, as the ledgers of the nodes show; no job of a pipeline that is not
// idempotent may begin twice.
func TestChaos(t *testing.T) {
	if !clustertest.InOwnNetwork(t) {
		return
	}
	c := &chaos{
		chaosPlan: planOfChaos(t), t: t, folder: t.TempDir(), cables: make(map[[2]int]*clustertest.Cable),
		refs: make(map[jobs.Ref]bool), outcomes: make(map[jobs.Ref]*jobs.Job),
	}
	c.build()
	watching, stopWatching := context.WithCancel(t.Context())
	defer stopWatching()
	for _, pipeline := range chaosPipelines {
		go c.watch(watching, pipeline)
	}
	started := time.Now()
	disorder, order := context.WithCancel(t.Context())
	defer order()
	var machines, disturbing sync.WaitGroup
	stopped := make(chan struct{})
	up := make(chan bool, 3)
	victims := []chan bool{make(chan bool), make(chan bool)}
	for i := range 3 {
		var kill <-chan bool
		if i < 2 {
			kill = victims[i]
		}
		machines.Go(func() { c.runMachine(i, kill, stopped, sync.OnceFunc(func() { up <- true })) })
	}
	for range 3 {
		<-up
	}
	disturbing.Go(func() { c.killMachines(disorder, victims) })
	disturbing.Go(func() { c.killServers(disorder) })
	disturbing.Go(func() { c.cutNetwork(disorder) })
	logging, stopLogging := context.WithCancel(t.Context())
	defer stopLogging()
	go c.log(logging)
	c.submitAll()
	c.await("kills", func() bool { return c.kills <= int(c.killed.Load()) })
	order()
	disturbing.Wait()
	submitted := time.Since(started)
	c.awaitAll()
	all := time.Since(started)
	c.check()
	close(stopped)
	machines.Wait()
	t.Logf("%d jobs submitted in %v, all ended after %v; %d kills of machines, %d of NATS servers, the network cut for %v twice",
		c.submitted.Load(), submitted.Round(time.Second), all.Round(time.Second), c.killed.Load(), c.serversStarted.Load(), c.cut)
}

// The ports of each host's NATS server.
const (
	clientPort = 4222
	routePort  = 6222
)

// build lays the cables, and starts the servers.
func (c *chaos) build() {
	for i := range 3 {
		c.hosts = append(c.hosts, clustertest.NewHost(c.t, i))
		c.cables[[2]int{-1, i}] = clustertest.Lay(c.t, 10+i, nil, c.hosts[i])
		for j := range i {
			c.cables[[2]int{j, i}] = clustertest.Lay(c.t, 1+j+i, c.hosts[j], c.hosts[i])
		}
	}
	for i := range 3 {
		c.servers = append(c.servers, clustertest.StartServer(c.t, clustertest.Settings{
			Name: fmt.Sprintf("s%d", i), Listen: "0.0.0.0", Port: clientPort, ClusterPort: routePort, StateDir: c.t.TempDir(),
			Routes: strings.Join(c.urls(i, routePort)[1:], ","), SyncAlways: true,
		}, c.hosts[i].Exec()...))
	}
	conn, err := cluster.Connect(c.t.Context(), cluster.Config{URLs: c.urls(-1, clientPort)})
	require.NoError(c.t, err)
	c.t.Cleanup(conn.Close)
	c.await("the store", func() bool {
		c.store, err = jobs.Open(c.t.Context(), conn, jobs.Config{})
		return err == nil
	})
}

// urls are those of the servers as a host sees them, its own first; the test is -1.
func (c *chaos) urls(host, port int) (urls []string) {
	if host >= 0 {
		urls = []string{fmt.Sprintf("nats://127.0.0.1:%d", port)}
	}
	for i := range 3 {
		switch {
		case host < i:
			urls = append(urls, fmt.Sprintf("nats://%s:%d", c.cables[[2]int{host, i}].Far, port))
		case host > i:
			urls = append(urls, fmt.Sprintf("nats://%s:%d", c.cables[[2]int{i, host}].Near, port))
		}
	}
	return urls
}

// await waits until a condition holds.
func (c *chaos) await(what string, condition func() bool) {
	c.t.Helper()
	require.Eventually(c.t, condition, 10*time.Minute, 100*time.Millisecond, what)
}

// log logs how far the test is now and then, until the context ends.
func (c *chaos) log(ctx context.Context) {
	for ticker := time.NewTicker(15 * time.Second); ; {
		select {
		case <-ctx.Done():
			ticker.Stop()
			return
		case <-ticker.C:
			c.t.Logf("%d submitted, %d ended, %d kills, %d of servers", c.submitted.Load(), c.ended.Load(), c.killed.Load(), c.serversStarted.Load())
		}
	}
}

// runMachine runs a machine on a host, and kills it and starts it again when it is told to, until
// the end.
func (c *chaos) runMachine(i int, kill <-chan bool, stopped <-chan struct{}, ready func()) {
	node := func(workers int, more string) string {
		return fmt.Sprintf("nodes: [{id: ledger, node_type: ledger, params: {folder: %q}, workers: %d%s}]", c.folder, workers, more)
	}
	s := clustertest.Settings{
		Name: fmt.Sprintf("m%d", i), URLs: c.urls(i, clientPort), AckWait: 5 * time.Second,
		Pipelines: map[string]string{"work": node(2, ""), "once": node(2, ", idempotent: false"), "doomed": node(1, ""), "large": node(1, "")},
	}
	for {
		p, err := clustertest.TryStart(c.t, "machine", s, c.hosts[i].Exec()...)
		if err != nil {
			c.t.Log("start a machine again:", err)
			continue
		}
		ready()
		select {
		case <-stopped:
			p.Kill()
			return
		case <-kill:
			p.Kill()
			c.killed.Add(1)
		}
	}
}

// killMachines kills one of the victims after the other, at random, until the context ends. One
// that is still starting is spared.
func (c *chaos) killMachines(ctx context.Context, victims []chan bool) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(c.killEvery * time.Duration(80+rand.IntN(40)) / 100):
		}
		first := rand.IntN(2)
		select {
		case victims[first] <- true:
		default:
			select {
			case victims[1-first] <- true:
			default:
			}
		}
	}
}

// killServers kills one NATS server after the other, and starts it again, until the context ends.
func (c *chaos) killServers(ctx context.Context) {
	for i := range c.serverKills {
		select {
		case <-ctx.Done():
			return
		case <-time.After(c.serverEvery):
		}
		if !assert.NoError(c.t, c.servers[i%3].Restart()) {
			return
		}
		c.serversStarted.Add(1)
	}
}

// cutNetwork cuts a pair of hosts from each other, and later the host whose machine is not killed
// from all others.
func (c *chaos) cutNetwork(ctx context.Context) {
	for _, cut := range [][][2]int{{{0, 1}}, {{0, 2}, {1, 2}, {-1, 2}}} {
		select {
		case <-ctx.Done():
			c.t.Error("the test was too short to cut the network")
			return
		case <-time.After(c.length / 4):
		}
		for _, key := range cut {
			c.cables[key].Cut()
		}
		time.Sleep(c.cut)
		for _, key := range cut {
			c.cables[key].Join()
		}
	}
}

// submitters is how many jobs are submitted at once, and backlog how many are queued at most.
const (
	submitters = 64
	backlog    = 5000
)

// submitAll queues all jobs, evenly over the time and the kills.
func (c *chaos) submitAll() {
	started := time.Now()
	var next atomic.Int64
	var wg sync.WaitGroup
	for range submitters {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < c.jobs; i = int(next.Add(1)) - 1 {
				time.Sleep(time.Until(started.Add(c.length * time.Duration(i) / time.Duration(c.jobs))))
				for late := time.Now(); c.isAhead(i) && time.Since(late) < time.Minute; {
					time.Sleep(50 * time.Millisecond)
				}
				c.submit(i)
			}
		})
	}
	wg.Wait()
}

// isAhead reports whether the job with a number has to wait, because too many others do, or so that
// the kills are spread over all jobs.
func (c *chaos) isAhead(i int) bool {
	return c.submitted.Load()-c.ended.Load() > backlog || int(c.killed.Load()) < c.kills*i/c.jobs-1
}

// submit queues the job with a number. Every tenth is submitted twice, as a submitter does that did
// not hear of its success.
func (c *chaos) submit(i int) {
	ref := jobs.Ref{Pipeline: "work", ID: fmt.Sprintf("%06d", i)}
	switch n := i % 100; {
	case n < 70:
	case n < 72:
		ref.ID += "-fail"
	case n < 95:
		ref.Pipeline = "once"
	case n < 96:
		ref.Pipeline, ref.ID = "once", ref.ID+"-fail"
	case n < 98:
		ref.Pipeline, ref.ID = "doomed", ref.ID+"-fail"
	case n < 99:
		ref.Pipeline, ref.ID = "large", ref.ID+"-large"
	}
	input := ref.ID
	if i%1000 == 99 {
		input += " " + strings.Repeat("x", 600_000)
	}
	c.mu.Lock()
	c.refs[ref] = true
	c.mu.Unlock()
	for range 1 + i%10/9 {
		for {
			_, _, err := c.store.Submit(c.t.Context(), ref.Pipeline, input, jobs.WithID(ref.ID))
			if err == nil {
				break
			}
			c.t.Log("submit again:", err)
		}
	}
	c.submitted.Add(1)
}

// watch notes the outcomes of the jobs of a pipeline as they are stored. None may change.
func (c *chaos) watch(ctx context.Context, pipeline string) {
	for ctx.Err() == nil {
		err := c.store.Watch(ctx, pipeline, func(j *jobs.Job) bool {
			if j.State.Ended() {
				c.note(j)
			}
			return true
		})
		if err != nil && ctx.Err() == nil {
			c.t.Log("watch again:", err)
		}
	}
}

func (c *chaos) note(j *jobs.Job) {
	c.mu.Lock()
	defer c.mu.Unlock()
	before := c.outcomes[j.Ref]
	if before == nil {
		c.outcomes[j.Ref] = j
		c.ended.Add(1)
		return
	}
	if before.State != j.State || !before.Ended.Equal(j.Ended) || before.Machine != j.Machine || before.Begins != j.Begins {
		c.t.Errorf("the job %s has ended twice: %s and %s", j.Ref, describe(before), describe(j))
	}
}

// awaitAll waits until the queues are empty.
func (c *chaos) awaitAll() {
	for _, pipeline := range chaosPipelines {
		c.await("the queue of "+pipeline, func() bool {
			n, err := c.store.Count(c.t.Context(), pipeline)
			return err == nil && n.Waiting+n.Given == 0
		})
	}
}

// all returns the submitted jobs, sorted.
func (c *chaos) all() []jobs.Ref {
	c.mu.Lock()
	defer c.mu.Unlock()
	refs := make([]jobs.Ref, 0, len(c.refs))
	for ref := range c.refs {
		refs = append(refs, ref)
	}
	slices.SortFunc(refs, func(a, b jobs.Ref) int { return strings.Compare(a.String(), b.String()) })
	return refs
}
