package runner_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/internal/testkit"
)

var (
	hostileTime = flag.Duration("hostile", 0, "how long hostile workers run; 0 means one batch of rounds")
	hostileSeed = flag.Uint64("hostile.seed", 1, "the seed of the first round with hostile workers")
)

const (
	// hostileContext is the time that callers give to their calls, and hostileClose to Close.
	hostileContext, hostileClose = 2 * time.Second, time.Second
	// hostileStart is the time that a round gives to Start: the interpreter is probed, too.
	hostileStart = 10 * time.Second
	// lateBy is how much later a call of a healthy node may return on a busy machine.
	lateBy = time.Second
	// endsWithin is how long a call of a hostile node may take after its context ended: the
	// grace period of a canceled call, that of an interpreter to die of SIGABRT, the five
	// seconds that a reaper has to report, and the time that a dead process's output is read.
	endsWithin = 8 * time.Second
	// hostileMemory bounds the private memory of the host, in bytes. One connection may
	// claim 64 MiB before the bytes arrive; the race detector multiplies that.
	hostileMemory = 1 << 30
	// roundTime is how long the callers of a round make calls.
	roundTime = 2 * time.Second
	// batch is how many rounds run at the same time, each with a runner of its own.
	batch = 3
)

// hostilePython creates a virtual environment whose interpreter runs testdata/fuzzer
// instead of the worker's package, if the environment has HOSTILE_FOLDER.
func hostilePython(t *testing.T) string {
	t.Helper()
	python := testkit.Python(t)
	out, err := exec.Command(python, "-c", "import msgpack, os; print(os.path.dirname(os.path.dirname(msgpack.__file__)))").Output()
	require.NoError(t, err)
	folder, err := filepath.Abs("testdata/fuzzer")
	require.NoError(t, err)
	venv := filepath.Join(t.TempDir(), "venv")
	output, err := exec.Command(python, "-m", "venv", "--without-pip", venv).CombinedOutput()
	require.NoError(t, err, "%s", output)
	packages, err := filepath.Glob(filepath.Join(venv, "lib/python*/site-packages"))
	require.NoError(t, err)
	require.Len(t, packages, 1)
	lines := strings.TrimSpace(string(out)) + "\n" + folder + "\nimport start\n"
	require.NoError(t, os.WriteFile(filepath.Join(packages[0], "hostile.pth"), []byte(lines), 0o600))
	return filepath.Join(venv, "bin/python")
}

// hostileNode returns a node of a manifest whose worker is testdata/fuzzer. Its workers count
// in files in the folder.
func hostileNode(folder, id, kind, env, more string) string {
	return fmt.Sprintf("  - {id: %s, node_type: echo, retry: none, breaker: none, timeout: 3s, setup_timeout: 3s, "+
		"env: {PYTHONDONTWRITEBYTECODE: '1', HOSTILE_NODE: %s, HOSTILE_FOLDER: %q, %s}, %s}\n", id, kind, folder, env, more)
}

// servedForked returns how many calls the forked workers of a hostile node have answered
// that had not done anything wrong.
func servedForked(t *testing.T, folder string) int64 {
	counted, err := os.Stat(filepath.Join(folder, "served"))
	if errors.Is(err, os.ErrNotExist) {
		return 0
	}
	require.NoError(t, err)
	return counted.Size()
}

// A siege is what a test of hostile workers watches.
type siege struct {
	t      *testing.T
	python string

	calls, ok, slowest atomic.Int64 // of healthy nodes; the slowest in nanoseconds
	hostileSlowest     atomic.Int64
	hostileOK          atomic.Int64
	hostileFailed      atomic.Int64
	servedForked       atomic.Int64 // calls that honest forked workers have answered
	dumped             sync.Once
}

// within checks that a function returns within a time. It reports all goroutines if not.
func (s *siege) within(limit time.Duration, what string, do func()) {
	started, done := time.Now(), make(chan struct{})
	go func() {
		defer close(done)
		do()
	}()
	select {
	case <-done:
		return
	case <-time.After(limit):
	}
	s.dump()
	select {
	case <-done:
		s.t.Errorf("%s took %v, more than %v", what, time.Since(started), limit)
	case <-time.After(testkit.Long):
		s.t.Errorf("%s has not returned after %v", what, time.Since(started))
	}
}

// dump logs all goroutines, once.
func (s *siege) dump() {
	s.dumped.Do(func() {
		var all bytes.Buffer
		_ = pprof.Lookup("goroutine").WriteTo(&all, 1)
		s.t.Logf("%s", all.Bytes())
	})
}

// healthy starts a runner with nodes of the real package, and calls them until the returned
// function is called. Each call must return in time, with the right value if it succeeds.
func (s *siege) healthy() (stop func()) {
	// The calls of a batch must not depend on how fast a busy machine starts workers.
	r := start(s.t, "nodes:\n  - {id: echo, node_type: echo, workers: {min: 2, max: 2}}\n")
	many := start(s.t, single("count"))
	done := make(chan struct{})
	var callers sync.WaitGroup
	large := make([]float32, 100_000)
	for i := range large {
		large[i] = float32(i)
	}
	tensor, err := ipc.NewTensor(large, len(large))
	require.NoError(s.t, err)
	for i, c := range []struct {
		runner   *runner.Runner
		in, want any
	}{{r, "small", "small"}, {r, tensor, tensor}, {many, 3, []any{int64(0), int64(1), int64(2)}}} {
		callers.Go(func() {
			for {
				select {
				case <-done:
					return
				case <-time.After(5 * time.Millisecond):
				}
				s.call(fmt.Sprintf("call of healthy node %d", i), c.runner, c.in, c.want)
			}
		})
	}
	return func() {
		close(done)
		callers.Wait()
		for _, each := range []*runner.Runner{r, many} {
			s.within(testkit.Long, "Close of a healthy runner", func() { assert.NoError(s.t, each.Close(context.Background())) })
		}
	}
}

func (s *siege) call(what string, r *runner.Runner, in, want any) {
	s.within(hostileContext+lateBy, what, func() {
		ctx, cancel := context.WithTimeout(context.Background(), hostileContext)
		defer cancel()
		started := time.Now()
		got, err := r.Run(ctx, in)
		raise(&s.slowest, int64(time.Since(started)))
		s.calls.Add(1)
		if err == nil {
			s.ok.Add(1)
			assert.Equal(s.t, want, got)
		} else {
			assert.ErrorIs(s.t, err, context.DeadlineExceeded)
		}
	})
}

func raise(most *atomic.Int64, value int64) {
	for old := most.Load(); value > old && !most.CompareAndSwap(old, value); old = most.Load() {
	}
}

// round runs a pipeline with hostile workers that the seed determines, and closes it.
func (s *siege) round(seed uint64) {
	chance := rand.New(rand.NewPCG(seed, 1))
	pick := func(from ...string) string { return from[chance.IntN(len(from))] }
	kind := pick("value", "value", "generator", "stateful")
	folders := map[string]string{"h": s.t.TempDir(), "g": s.t.TempDir()}
	node := func(id string) string {
		return hostileNode(folders[id], id, kind, fmt.Sprintf("HOSTILE_SEED: '%d %s'", seed, id),
			fmt.Sprintf("workers: {min: 1, max: 3, scale_after: 10ms, spare: %s, fork_server: %s}, limits: {%s}, idempotent: %s",
				pick("0", "1"), pick("true", "false"), pick("result: 4MiB", "result: 100KiB", "resident: 1GiB", "open_files: 200"), pick("true", "false")))
	}
	text := "nodes:\n" + node("h")
	switch pick("one", "two", "real") {
	case "two":
		text += node("g") + "connections: [{from: h, to: g}]\n"
	case "real":
		text += "  - {id: g, node_type: echo, retry: none, breaker: none}\nconnections: [{from: h, to: g}]\n"
	}
	shared := int64(64 << 20)
	if pick("shared", "shared", "shared", "not") == "not" {
		shared = 0
	}
	logger := hclog.New(&hclog.LoggerOptions{Output: io.Discard, Level: hclog.Trace, JSONFormat: chance.IntN(2) == 0})
	r, err := load(s.t, text, runner.WithPython(s.python), runner.WithSystemPython(), runner.WithSharedMemory(shared),
		runner.WithLogger(logger), runner.WithEvents(func(e runner.Event) { _ = fmt.Sprintf("%+v", e) }))
	if !assert.NoError(s.t, err, text) {
		return
	}
	for started, tries := false, 0; !started && tries < 3; tries++ {
		s.within(hostileStart+endsWithin, fmt.Sprintf("round %d: Start", seed), func() {
			ctx, cancel := context.WithTimeout(context.Background(), hostileStart)
			defer cancel()
			started = r.Start(ctx) == nil
		})
	}
	var callers sync.WaitGroup
	ends := time.Now().Add(roundTime)
	for i := range 6 {
		callers.Go(func() {
			c := hostileCaller{s, r, rand.New(rand.NewPCG(seed, uint64(i+2))), fmt.Sprintf("round %d: ", seed)}
			for time.Now().Before(ends) && !s.t.Failed() {
				c.act(kind)
			}
		})
	}
	callers.Wait()
	s.within(hostileClose+endsWithin, fmt.Sprintf("round %d: Close", seed), func() {
		ctx, cancel := context.WithTimeout(context.Background(), hostileClose)
		defer cancel()
		assert.NoError(s.t, r.Close(ctx))
	})
	for _, folder := range folders {
		s.servedForked.Add(servedForked(s.t, folder))
	}
}

// hostileCaller makes calls of a pipeline with hostile workers.
type hostileCaller struct {
	*siege
	runner *runner.Runner
	chance *rand.Rand
	prefix string
}

// act does one thing with the pipeline.
func (c *hostileCaller) act(kind string) {
	timeout := hostileContext
	if c.chance.IntN(4) == 0 {
		timeout = time.Duration(c.chance.IntN(300)) * time.Millisecond
	}
	action := c.chance.IntN(10)
	started := time.Now()
	c.within(timeout+endsWithin, fmt.Sprintf("%saction %d of %s with a context of %v", c.prefix, action, kind, timeout), func() {
		ctx, cancel := context.WithTimeout(context.Background(), timeout)
		defer cancel()
		var err error
		switch action {
		case 0:
			err = c.runner.Reload(ctx)
		case 1, 2, 3:
			err = c.stream(ctx)
		case 4, 5:
			var shared *runner.Shared
			if shared, err = c.runner.RunShared(ctx, c.input()); err == nil {
				shared.Release()
			}
		default:
			_, err = c.runner.Run(ctx, c.input())
		}
		_ = c.runner.Health()
		_ = c.runner.Metrics()
		if err == nil {
			c.hostileOK.Add(1)
		} else {
			c.hostileFailed.Add(1)
			_ = fmt.Sprintf("%+v", err)
			time.Sleep(10 * time.Millisecond) // workers that cannot start need no calls
		}
	})
	raise(&c.hostileSlowest, int64(time.Since(started)-timeout))
}

func (c *hostileCaller) input() any {
	if c.chance.IntN(2) == 0 {
		return map[string]any{"k": []any{1, "v", nil}}
	}
	size := []int{1, 1 << 14, 1 << 18, 1 << 20}[c.chance.IntN(4)]
	tensor, err := ipc.NewTensor(make([]byte, size), size)
	assert.NoError(c.t, err)
	return tensor
}

// stream sends some items through the pipeline and receives what returns.
func (c *hostileCaller) stream(ctx context.Context) error {
	s, err := c.runner.Stream(ctx)
	if err != nil {
		return err
	}
	defer s.Close()
	items := 1 + c.chance.IntN(30)
	inputs := make([]any, items)
	for i := range inputs {
		inputs[i] = c.input()
	}
	go feedUntilEnd(s, inputs)
	leave := c.chance.IntN(20) == 0
	for {
		if _, err = s.Recv(); err != nil || leave {
			break
		}
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// privateMemory returns the resident memory of this process that no other process shares.
func privateMemory(t *testing.T) int64 {
	status, err := os.ReadFile("/proc/self/status")
	require.NoError(t, err)
	_, rest, _ := strings.Cut(string(status), "RssAnon:")
	kib, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
	require.NoError(t, err)
	return kib << 10
}

// watchMemory checks the memory of this process until the returned function is called,
// which returns the most that it had.
func (s *siege) watchMemory() (stop func() int64) {
	debug.FreeOSMemory() // that of earlier tests does not count
	before := privateMemory(s.t)
	done, ended := make(chan struct{}), make(chan struct{})
	most := before
	go func() {
		defer close(ended)
		for {
			select {
			case <-done:
				return
			case <-time.After(20 * time.Millisecond):
			}
			if now := privateMemory(s.t); now > most {
				most = now
			}
		}
	}()
	return func() int64 {
		close(done)
		<-ended
		assert.Less(s.t, most-before, int64(hostileMemory), "the memory of the host")
		return most - before
	}
}

func TestHostileWorkersHarmNobodyElse(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	s := &siege{t: t, python: hostilePython(t)}
	run := func(seed uint64) {
		stop := s.healthy()
		var rounds sync.WaitGroup
		for i := range batch {
			rounds.Go(func() { s.round(seed + uint64(i)) })
		}
		rounds.Wait()
		stop()
	}
	run(1 << 40) // what is created once in a process
	stopMemory := s.watchMemory()
	before := holding(t)
	seed := *hostileSeed
	for ends := time.Now().Add(*hostileTime); !t.Failed(); {
		run(seed)
		assertHolding(t, before)
		if t.Failed() {
			s.dump()
		}
		seed += batch
		if !time.Now().Before(ends) {
			break
		}
	}
	most := stopMemory()
	runtime.GC()
	t.Logf("rounds %d to %d: %d of %d calls of healthy nodes succeeded, the slowest took %v; %d calls of hostile nodes succeeded and %d failed, "+
		"honest forked workers answered %d, at most %v after their contexts; the host took %d MiB", *hostileSeed, seed-1, s.ok.Load(), s.calls.Load(), time.Duration(s.slowest.Load()),
		s.hostileOK.Load(), s.hostileFailed.Load(), s.servedForked.Load(), time.Duration(s.hostileSlowest.Load()), most>>20)
	assert.Greater(t, s.ok.Load(), s.calls.Load()/2, "healthy nodes work")
	assert.Positive(t, s.servedForked.Load(), "honest workers are forked, and serve calls")
}
