package jobs_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/runner/cluster/jobs"
)

// ledger is what the nodes of all machines have noted, independently of the records of jobs.
type ledger struct {
	begins map[string]int             // by the id of the job
	ends   map[string]map[string]bool // the tokens of the executions that have ended
}

// readLedger reads the ledgers of the machines.
func readLedger(c *chaos) ledger {
	l := ledger{begins: make(map[string]int), ends: make(map[string]map[string]bool)}
	files, err := filepath.Glob(filepath.Join(c.folder, "ledger-*"))
	require.NoError(c.t, err)
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(c.t, err)
		for line := range strings.Lines(string(text)) {
			fields := strings.Fields(line)
			require.Len(c.t, fields, 3, line)
			switch id := fields[1]; fields[0] {
			case "begin":
				l.begins[id]++
			case "end":
				if l.ends[id] == nil {
					l.ends[id] = make(map[string]bool)
				}
				l.ends[id][fields[2]] = true
			}
		}
	}
	return l
}

// check compares the ledgers of the nodes with the outcomes of all jobs.
func (c *chaos) check() {
	l := readLedger(c)
	records := make(map[jobs.Ref]*jobs.Job)
	for _, pipeline := range chaosPipelines {
		require.NoError(c.t, c.store.List(c.t.Context(), pipeline, func(j *jobs.Job) bool {
			records[j.Ref] = j
			return true
		}))
	}
	refs := c.all()
	assert.Len(c.t, records, len(refs), "records of jobs")
	var mu sync.Mutex
	counts := make(map[string]int)
	dead := make(map[string]bool)
	var wg sync.WaitGroup
	for part := range slices.Chunk(refs, len(refs)/16+1) {
		wg.Go(func() {
			for _, ref := range part {
				what, isDead := c.checkJob(ref, records[ref], l)
				mu.Lock()
				counts[ref.Pipeline+": "+what]++
				if isDead {
					dead[ref.String()] = true
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	c.checkDead(dead)
	again := 0
	for _, n := range l.begins {
		again += n - 1
	}
	for _, what := range slices.Sorted(maps.Keys(counts)) {
		c.t.Logf("%6d %s", counts[what], what)
	}
	c.t.Logf("%6d times a job was begun again, as the ledgers of the nodes say", again)
}

// checkJob checks the outcome of one job, and returns it in words, and whether the job must have a
// dead letter.
func (c *chaos) checkJob(ref jobs.Ref, j *jobs.Job, l ledger) (what string, isDead bool) {
	if j == nil {
		c.t.Errorf("the job %s is lost; it has begun %d times", ref, l.begins[ref.ID])
		return "lost", false
	}
	c.mu.Lock()
	before := c.outcomes[ref]
	c.mu.Unlock()
	if before != nil && (before.State != j.State || !before.Ended.Equal(j.Ended)) {
		c.t.Errorf("the outcome of %s has changed from %s to %s", ref, describe(before), describe(j))
	}
	begins, ends := l.begins[ref.ID], l.ends[ref.ID]
	if ref.Pipeline == "once" && begins > 1 {
		c.t.Errorf("the job %s has begun %d times: %s", ref, begins, describe(j))
	}
	fails := strings.HasSuffix(ref.ID, "-fail")
	switch {
	case j.State == jobs.Done && !fails && begins > 0:
		c.checkResult(ref, ends)
		return "done", false
	case j.State == jobs.Failed && j.MayHaveRun && ref.Pipeline == "once":
		assert.ErrorContains(c.t, j.Err, "may have run")
		if begins == 0 {
			return "may have run, and has not", true
		}
		return "may have run, and has begun", true
	case j.State == jobs.Failed && fails && !j.MayHaveRun && begins > 0:
		assert.ErrorContains(c.t, j.Err, "the job fails")
		return "failed as it must", true
	}
	c.t.Errorf("the job %s is %s, and has begun %d times", ref, describe(j), begins)
	return "wrong", j.State == jobs.Failed
}

// checkResult checks that the result of a job is that of an execution that has ended.
func (c *chaos) checkResult(ref jobs.Ref, ends map[string]bool) {
	v, err := c.store.Result(c.t.Context(), ref)
	if !assert.NoError(c.t, err, "%s", ref) {
		return
	}
	result, _ := v.(map[string]any)
	token, _ := result["token"].(string)
	fill, _ := result["fill"].([]byte)
	if result["job"] != ref.ID || !ends[token] || (len(fill) > 0) != (ref.Pipeline == "large") {
		c.t.Errorf("the result of %s is that of %v by %s, with %d bytes; the executions were %v", ref, result["job"], token, len(fill), ends)
	}
}

// checkDead checks that the dead letters are those of the failed jobs, and that the queues are
// empty.
func (c *chaos) checkDead(want map[string]bool) {
	js := c.jetStream()
	stream, err := js.Stream(c.t.Context(), "gophersnake-dead")
	require.NoError(c.t, err)
	info, err := stream.Info(c.t.Context(), jetstream.WithSubjectFilter("gophersnake.dead.>"))
	require.NoError(c.t, err)
	letters := make(map[string]bool)
	for subject, n := range info.State.Subjects {
		parts := strings.Split(subject, ".")
		letters[parts[2]+"/"+parts[3]] = true
		assert.Equal(c.t, uint64(1), n, subject)
	}
	for name := range want {
		if !letters[name] {
			c.t.Errorf("the job %s has failed without a dead letter", name)
		}
	}
	for name := range letters {
		if !want[name] {
			c.t.Errorf("the job %s has not failed, but has a dead letter", name)
		}
	}
	for _, pipeline := range chaosPipelines {
		queue, err := js.Stream(c.t.Context(), "gophersnake-jobs-"+pipeline)
		require.NoError(c.t, err)
		assert.Zero(c.t, queue.CachedInfo().State.Msgs, pipeline)
	}
	left := map[string]uint64{}
	for _, bucket := range []string{"inputs", "results"} {
		if stream, err := js.Stream(c.t.Context(), "OBJ_gophersnake-job-"+bucket); assert.NoError(c.t, err) {
			if info, err := stream.Info(c.t.Context(), jetstream.WithSubjectFilter("$O.*.M.>")); assert.NoError(c.t, err) {
				left[bucket] = uint64(len(info.State.Subjects))
			}
		}
	}
	c.t.Logf("%d dead letters; objects, with markers of deleted ones: %v", len(letters), left)
}

// jetStream returns a connection of the test's own.
func (c *chaos) jetStream() jetstream.JetStream {
	conn, err := nats.Connect(strings.Join(c.urls(-1, clientPort), ","))
	require.NoError(c.t, err)
	c.t.Cleanup(conn.Close)
	js, err := jetstream.New(conn)
	require.NoError(c.t, err)
	return js
}

func describe(j *jobs.Job) string {
	return fmt.Sprintf("%s on %s, begun %d times, last at %v, ended at %v, may have run: %t, error: %v",
		j.State, j.Machine, j.Begins, j.Begun, j.Ended, j.MayHaveRun, j.Err)
}
