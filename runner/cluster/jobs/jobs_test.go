package jobs_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/cluster"
	"github.com/gophersnake/gophersnake/runner/cluster/internal/clustertest"
	"github.com/gophersnake/gophersnake/runner/cluster/jobs"
	"github.com/gophersnake/gophersnake/runner/internal/testkit"
)

func TestAJobRunsAndItsResultIsKept(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.serve("echo", clustertest.EchoPipeline)
	refs := make(map[int]jobs.Ref)
	for i := range 20 {
		refs[i] = s.submit("echo", map[string]any{"n": i})
	}
	for i, ref := range refs {
		assert.Equal(t, map[string]any{"n": int64(i)}, s.result(ref))
		j := s.await(ref)
		assert.Equal(t, 1, j.Begins)
		assert.NotEmpty(t, j.Machine)
	}
	testkit.Eventually(t, s.isEmpty("echo"))
	var listed int
	require.NoError(t, s.List(t.Context(), "echo", func(*jobs.Job) bool { listed++; return true }))
	assert.Equal(t, 20, listed)
	_, err := s.Get(t.Context(), jobs.Ref{Pipeline: "echo", ID: "other"})
	require.ErrorIs(t, err, jobs.ErrUnknown)
}

func TestALargeInputAndResultAreStoredAsideAndDeleted(t *testing.T) {
	t.Parallel()
	s := newSite(t, jobs.Config{Retention: 5 * time.Second})
	s.serve("echo", clustertest.EchoPipeline)
	large := bytes.Repeat([]byte("x"), 3<<20)
	ref := s.submit("echo", large)
	assert.Equal(t, large, s.result(ref))
	js, err := jetstream.New(s.conn.NATS())
	require.NoError(t, err)
	messages := func(bucket string) uint64 {
		stream, err := js.Stream(t.Context(), "OBJ_"+bucket)
		require.NoError(t, err)
		return stream.CachedInfo().State.Msgs
	}
	// What was deleted leaves a marker.
	testkit.Eventually(t, func() bool { return messages("gophersnake-job-inputs") == 1 })
	// The record and the result end with the retention.
	testkit.Eventually(t, func() bool { return messages("gophersnake-job-results") == 0 })
	testkit.Eventually(t, func() bool { _, err := s.Get(t.Context(), ref); return errors.Is(err, jobs.ErrUnknown) })
}

func TestTheInputOfASubmitterThatDiedBeforeItsPublishIsDeleted(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.serve("echo", clustertest.EchoPipeline).Close()
	large := bytes.Repeat([]byte("x"), 1<<20)
	queued := s.submit("echo", large)
	require.NoError(t, s.PutInput(t.Context(), jobs.Ref{Pipeline: "echo", ID: "never queued"}, large))
	require.NoError(t, s.Sweep(t.Context(), 0))
	js, err := jetstream.New(s.conn.NATS())
	require.NoError(t, err)
	store, err := js.ObjectStore(t.Context(), "gophersnake-job-inputs")
	require.NoError(t, err)
	all, err := store.List(t.Context())
	require.NoError(t, err)
	require.Len(t, all, 1)
	assert.True(t, strings.HasPrefix(all[0].Name, "echo."+queued.ID+"."))
	s.serve("echo", clustertest.EchoPipeline)
	assert.Equal(t, large, s.result(queued))
}

func TestALongJobIsGivenToNoOtherMachine(t *testing.T) {
	t.Parallel()
	s, folder := newSite(t), t.TempDir()
	progress := s.acks("+WPI")
	pipelines := map[string]string{"hold": clustertest.HoldPipeline(folder, 1, "")}
	machine(t, clustertest.Settings{Name: "a", URLs: []string{s.url}, Pipelines: pipelines})
	machine(t, clustertest.Settings{Name: "b", URLs: []string{s.url}, Pipelines: pipelines})
	ref := s.submit("hold", "x")
	clustertest.AwaitBegun(t, folder, "x", 1)
	for range 7 { // more than two times the time after which a silent machine loses its jobs
		receive(t, progress)
	}
	assert.Len(t, clustertest.Begun(t, folder, "x"), 1)
	clustertest.Release(t, folder)
	s.result(ref)
	assert.Equal(t, 1, s.await(ref).Begins)
}

func TestASecondDeliveryOfARunningJobIsLeftToItsMachine(t *testing.T) {
	t.Parallel()
	s, folder := newSite(t), t.TempDir()
	progress, refused := s.acks("+WPI"), s.acks("-NAK")
	pipelines := map[string]string{"hold": clustertest.HoldPipeline(folder, 1, ", idempotent: false")}
	machine(t, clustertest.Settings{Name: "a", URLs: []string{s.url}, Pipelines: pipelines})
	ref := s.submit("hold", "x")
	clustertest.AwaitBegun(t, folder, "x", 1)
	machine(t, clustertest.Settings{Name: "b", URLs: []string{s.url}, Pipelines: pipelines})
	// As if the progress of the machine had been lost: the job goes to the other machine.
	require.NoError(t, s.conn.NATS().Publish(receive(t, progress), []byte("-NAK")))
	receive(t, refused) // that of the test
	receive(t, refused) // that of the other machine
	clustertest.Release(t, folder)
	assert.Equal(t, "a", clustertest.MachineOf(s.result(ref)))
	assert.Len(t, clustertest.Begun(t, folder, "x"), 1)
	assert.False(t, s.await(ref).MayHaveRun)
}

func TestAMachineThatComesBackCannotStoreASecondResult(t *testing.T) {
	t.Parallel()
	s, folder := newSite(t), t.TempDir()
	pipelines := map[string]string{"hold": clustertest.HoldPipeline(folder, 1, "")}
	a := machine(t, clustertest.Settings{Name: "a", URLs: []string{s.url}, Pipelines: pipelines})
	ref := s.submit("hold", "x")
	clustertest.AwaitBegun(t, folder, "x", 1)
	machine(t, clustertest.Settings{Name: "b", URLs: []string{s.url}, Pipelines: pipelines})
	a.Signal(syscall.SIGSTOP)
	clustertest.AwaitBegun(t, folder, "x", 2)
	a.Signal(syscall.SIGCONT)
	clustertest.Release(t, folder)
	assert.Equal(t, "b", clustertest.MachineOf(s.result(ref)))
	// The first machine has taken notice: it takes another job.
	ids := []jobs.Ref{s.submit("hold", "y"), s.submit("hold", "z")}
	for _, id := range ids {
		s.result(id)
	}
	assert.Equal(t, "b", clustertest.MachineOf(s.result(ref)))
}

func TestAJobMovesWhenItsMachineIsKilled(t *testing.T) {
	t.Parallel()
	s, folder := newSite(t), t.TempDir()
	pipelines := map[string]string{"hold": clustertest.HoldPipeline(folder, 1, "")}
	a := machine(t, clustertest.Settings{Name: "a", URLs: []string{s.url}, Pipelines: pipelines})
	ref := s.submit("hold", "x")
	clustertest.AwaitBegun(t, folder, "x", 1)
	machine(t, clustertest.Settings{Name: "b", URLs: []string{s.url}, Pipelines: pipelines})
	a.Kill()
	clustertest.AwaitBegun(t, folder, "x", 2)
	clustertest.Release(t, folder)
	assert.Equal(t, "b", clustertest.MachineOf(s.result(ref)))
	assert.Equal(t, 2, s.await(ref).Begins)
}

func TestAJobThatIsNotIdempotentIsNotBegunAgainWhenItsMachineIsKilled(t *testing.T) {
	t.Parallel()
	s, folder := newSite(t), t.TempDir()
	pipelines := map[string]string{"hold": clustertest.HoldPipeline(folder, 1, ", idempotent: false")}
	a := machine(t, clustertest.Settings{Name: "a", URLs: []string{s.url}, Pipelines: pipelines})
	ref := s.submit("hold", "x")
	clustertest.AwaitBegun(t, folder, "x", 1)
	machine(t, clustertest.Settings{Name: "b", URLs: []string{s.url}, Pipelines: pipelines})
	a.Kill()
	j := s.await(ref)
	assert.Equal(t, jobs.Failed, j.State)
	assert.True(t, j.MayHaveRun)
	assert.ErrorContains(t, j.Err, "machine a was lost during the job; the job may have run")
	assert.Len(t, clustertest.Begun(t, folder, "x"), 1)
	// Only a retry begins it again.
	testkit.Eventually(t, func() bool { c, err := s.Count(t.Context(), "hold"); return err == nil && c.Dead == 1 })
	clustertest.Release(t, folder)
	require.NoError(t, s.Retry(t.Context(), ref))
	assert.Equal(t, "b", clustertest.MachineOf(s.result(ref)))
}

func TestAJobThatItsMachinesDieWithFails(t *testing.T) {
	t.Parallel()
	s, folder := newSite(t), t.TempDir()
	pipelines := map[string]string{"hold": clustertest.HoldPipeline(folder, 1, "")}
	config := clustertest.Settings{Name: "a", URLs: []string{s.url}, Pipelines: pipelines, Begins: 2}
	m := machine(t, config)
	ref := s.submit("hold", "x")
	for n := 1; n <= 2; n++ {
		clustertest.AwaitBegun(t, folder, "x", n)
		m.Kill()
		m = machine(t, config)
	}
	j := s.await(ref)
	assert.Equal(t, jobs.Failed, j.State)
	assert.ErrorContains(t, j.Err, "2 machines were lost during the job")
	assert.Len(t, clustertest.Begun(t, folder, "x"), 2)
}

func TestAJobOfAClosedServerGoesBackToTheQueue(t *testing.T) {
	t.Parallel()
	s, folder := newSite(t), t.TempDir()
	server := s.serve("hold", clustertest.HoldPipeline(folder, 1, ""))
	ref := s.submit("hold", "x")
	clustertest.AwaitBegun(t, folder, "x", 1)
	server.Close()
	j, err := s.Get(t.Context(), ref)
	require.NoError(t, err)
	assert.Equal(t, jobs.Queued, j.State)
	clustertest.Release(t, folder)
	s.serve("hold", clustertest.HoldPipeline(folder, 1, ""))
	s.result(ref)
	assert.Equal(t, 1, s.await(ref).Begins)
}

func TestNoMachineTakesAJobThatItCannotRunAtOnce(t *testing.T) {
	t.Parallel()
	s, folder := newSite(t), t.TempDir()
	pipelines := map[string]string{"hold": clustertest.HoldPipeline(folder, 1, "")}
	machine(t, clustertest.Settings{Name: "a", URLs: []string{s.url}, Pipelines: pipelines})
	refs := []jobs.Ref{s.submit("hold", "1"), s.submit("hold", "2"), s.submit("hold", "3")}
	clustertest.AwaitBegun(t, folder, "*", 1)
	c, err := s.Count(t.Context(), "hold")
	require.NoError(t, err)
	assert.Equal(t, jobs.Counts{Waiting: 2, Given: 1}, c)
	machine(t, clustertest.Settings{Name: "b", URLs: []string{s.url}, Pipelines: pipelines})
	clustertest.AwaitBegun(t, folder, "*", 2)
	clustertest.Release(t, folder)
	names := make(map[string]bool)
	for _, ref := range refs {
		names[clustertest.MachineOf(s.result(ref))] = true
	}
	assert.Len(t, names, 2)
}

func TestAConsumerWithOtherSettingsIsChangedAndTheLogSaysSo(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.serve("echo", clustertest.EchoPipeline).Close()
	js, err := jetstream.New(s.conn.NATS())
	require.NoError(t, err)
	stream, err := js.Stream(t.Context(), "gophersnake-jobs-echo")
	require.NoError(t, err)
	for _, other := range []jetstream.ConsumerConfig{
		{AckPolicy: jetstream.AckExplicitPolicy, AckWait: time.Hour, MaxDeliver: 1},
		{AckPolicy: jetstream.AckExplicitPolicy, ReplayPolicy: jetstream.ReplayOriginalPolicy, AckWait: quickAckWait, MaxDeliver: -1}, // which cannot be changed
	} {
		require.NoError(t, stream.DeleteConsumer(t.Context(), "normal"))
		other.Durable, other.FilterSubject = "normal", "gophersnake.jobs.echo.*.normal"
		_, err = stream.CreateConsumer(t.Context(), other)
		require.NoError(t, err)
		var log lockedBuffer
		store, err := jobs.Open(t.Context(), s.conn, jobs.Config{AckWait: quickAckWait, Logger: slog.New(slog.NewTextHandler(&log, nil))})
		require.NoError(t, err)
		s.Store = store
		s.serve("echo", clustertest.EchoPipeline).Close()
		consumer, err := stream.Consumer(t.Context(), "normal")
		require.NoError(t, err)
		have := consumer.CachedInfo().Config
		assert.Equal(t, quickAckWait, have.AckWait)
		assert.Equal(t, -1, have.MaxDeliver)
		assert.Equal(t, jetstream.ReplayInstantPolicy, have.ReplayPolicy)
		assert.Contains(t, log.String(), "a consumer had other settings; they are changed")
	}
}

// lockedBuffer is a buffer for a log.
type lockedBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func TestAJobWhoseSubmitterDiedAfterItsPublishIsNotQueuedTwice(t *testing.T) {
	t.Parallel()
	const window = 100 * time.Millisecond
	s := newSite(t, jobs.Config{DedupeWindow: window})
	s.serve("echo", clustertest.EchoPipeline).Close() // jobs stay in the queue
	again := func() bool {
		ref, known, err := s.Submit(t.Context(), "echo", 1, jobs.WithID("my key"))
		require.NoError(t, err)
		assert.Equal(t, jobs.Ref{Pipeline: "echo", ID: "my key"}, ref)
		return known
	}
	assert.False(t, again())
	assert.True(t, again(), "within the window of the server")
	js, err := jetstream.New(s.conn.NATS())
	require.NoError(t, err)
	awaitWindow(t, s, js)
	assert.True(t, again(), "after the window, while it is queued")
	c, err := s.Count(t.Context(), "echo")
	require.NoError(t, err)
	assert.EqualValues(t, 1, c.Waiting)
	s.serve("echo", clustertest.EchoPipeline)
	ref := jobs.Ref{Pipeline: "echo", ID: "my key"}
	s.result(ref)
	testkit.Eventually(t, s.isEmpty("echo"))
	assert.True(t, again(), "after it is done")
	// A submitter that has looked before, and publishes only now, changes nothing.
	awaitWindow(t, s, js)
	ended := s.await(ref).Ended
	_, err = js.PublishMsg(t.Context(), jobs.Message(t, "echo", "my key"), jetstream.WithMsgID("late"))
	require.NoError(t, err)
	testkit.Eventually(t, s.isEmpty("echo"))
	assert.Equal(t, ended, s.await(ref).Ended)
	assert.Equal(t, 1, s.await(ref).Begins)
}

// awaitWindow waits until the server has forgotten the ids of the messages that the queue has
// got so far.
func awaitWindow(t *testing.T, s *site, js jetstream.JetStream) {
	t.Helper()
	stream, err := js.Stream(t.Context(), "gophersnake-jobs-echo")
	require.NoError(t, err)
	publish := func() *jetstream.PubAck {
		ack, err := js.PublishMsg(t.Context(), jobs.Message(t, "echo", "probe"), jetstream.WithMsgID("probe"))
		require.NoError(t, err)
		_ = stream.DeleteMsg(t.Context(), ack.Sequence)
		return ack
	}
	publish()
	testkit.Eventually(t, func() bool { return !publish().Duplicate })
}

func TestAFailedJobIsADeadLetterWithItsWholeError(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.serve("fail", clustertest.FailPipeline)
	ref := s.submit("fail", "seven")
	j := s.await(ref)
	assert.Equal(t, jobs.Failed, j.State)
	_, err := s.Result(t.Context(), ref)
	require.ErrorIs(t, err, runner.KindExecution)
	e := runner.AsError(err)
	assert.Equal(t, "fail", e.Node)
	assert.NotEmpty(t, e.Traceback)
	assert.Equal(t, []string{"a note"}, e.Notes)
	assert.False(t, j.MayHaveRun)
	dead := func() uint64 { c, err := s.Count(t.Context(), "fail"); require.NoError(t, err); return c.Dead }
	require.NoError(t, s.Retry(t.Context(), ref)) // although its dead letter may not be there yet
	testkit.Eventually(t, func() bool {
		j, err := s.Get(t.Context(), ref)
		return err == nil && j.State == jobs.Failed && dead() == 1
	})
	// A job that is done has none.
	done := s.submit("fail", "7")
	s.result(done)
	err = s.Retry(t.Context(), done)
	assert.ErrorContains(t, err, "has no dead letter")
}

func TestARunIsMadeAgainAsOftenAsTheJobAllows(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.serve("flaky", "nodes: [{id: flaky, node_type: flaky}]", runner.WithNode("flaky", flaky(2)))
	assert.EqualValues(t, 3, s.result(s.submit("flaky", 1, jobs.WithAttempts(3, time.Millisecond))))
}

func TestAJobIsCanceledQueuedOrRunning(t *testing.T) {
	t.Parallel()
	s, folder := newSite(t), t.TempDir()
	s.serve("hold", clustertest.HoldPipeline(folder, 1, ""))
	running := s.submit("hold", "running")
	clustertest.AwaitBegun(t, folder, "running", 1)
	queued := s.submit("hold", "queued")
	require.NoError(t, s.Cancel(t.Context(), queued))
	require.NoError(t, s.Cancel(t.Context(), running))
	for _, ref := range []jobs.Ref{queued, running} {
		assert.Equal(t, jobs.Canceled, s.await(ref).State)
		require.Error(t, s.Cancel(t.Context(), ref))
	}
	testkit.Eventually(t, s.isEmpty("hold"), "the run is canceled, although nothing releases it")
	assert.Len(t, clustertest.Begun(t, folder, "queued"), 0)
	require.ErrorIs(t, s.Cancel(t.Context(), jobs.Ref{Pipeline: "hold", ID: "other"}), jobs.ErrUnknown)
}

func TestUrgentJobsComeFirstAndDelayedOnesInTime(t *testing.T) {
	t.Parallel()
	s, folder := newSite(t), t.TempDir()
	s.serve("hold", clustertest.HoldPipeline(folder, 1, ""))
	s.submit("hold", "first") // it has the worker until all others are queued
	clustertest.AwaitBegun(t, folder, "first", 1)
	require.NoError(t, s.Pause(t.Context(), "hold"))
	start := time.Now().Add(time.Second)
	delayed := s.submit("hold", "delayed", jobs.WithStart(start), jobs.WithPriority(jobs.High))
	refs := []jobs.Ref{s.submit("hold", "low", jobs.WithPriority(jobs.Low)), s.submit("hold", "normal"), s.submit("hold", "high", jobs.WithPriority(jobs.High))}
	c, err := s.Count(t.Context(), "hold")
	require.NoError(t, err)
	assert.True(t, c.Paused)
	require.NoError(t, s.Resume(t.Context(), "hold"))
	clustertest.Release(t, folder)
	var times []time.Time
	for _, ref := range refs {
		times = append(times, s.await(ref).Begun)
	}
	assert.True(t, times[2].Before(times[1]) && times[1].Before(times[0]), times)
	assert.False(t, s.await(delayed).Begun.Before(start))
}

func TestADrainedPipelineTakesNoJobsAndFinishesThoseItHas(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.serve("echo", clustertest.EchoPipeline)
	var refs []jobs.Ref
	for i := range 10 {
		refs = append(refs, s.submit("echo", i))
	}
	require.NoError(t, s.Drain(t.Context(), "echo"))
	for _, ref := range refs {
		s.result(ref)
	}
	_, _, err := s.Submit(t.Context(), "echo", 1)
	assert.ErrorContains(t, err, `the pipeline "echo" drains and takes no jobs`)
	require.NoError(t, s.Resume(t.Context(), "echo"))
	s.result(s.submit("echo", 1))
}

func TestAFullQueueRefusesJobs(t *testing.T) {
	t.Parallel()
	s := newSite(t, jobs.Config{Jobs: 3})
	s.serve("echo", clustertest.EchoPipeline).Close()
	for i := range 3 {
		s.submit("echo", i)
	}
	_, _, err := s.Submit(t.Context(), "echo", 4)
	require.ErrorIs(t, err, runner.KindIO)
	assert.ErrorContains(t, err, `the queue of the pipeline "echo" is full and takes no job`)
}

func TestAPipelineThatNobodyServesIsAClearError(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	_, _, err := s.Submit(t.Context(), "ecko", 1)
	require.ErrorIs(t, err, runner.KindManifest)
	assert.ErrorContains(t, err, `no machine has ever served jobs of a pipeline "ecko"`)
	s.serve("echo", clustertest.EchoPipeline)
	_, _, err = s.Submit(t.Context(), "ecko", 1)
	require.ErrorIs(t, err, runner.KindManifest)
	assert.Equal(t, "there are queues of echo", runner.AsError(err).Hint)
}

func TestAJobOutlivesTheServersOfAMachine(t *testing.T) {
	t.Parallel()
	dir := t.TempDir() + "/state"
	var ref jobs.Ref
	for i := range 2 {
		conn, err := cluster.Connect(t.Context(), cluster.Config{StateDir: dir})
		require.NoError(t, err)
		store, err := jobs.Open(t.Context(), conn, jobs.Config{AckWait: quickAckWait})
		require.NoError(t, err)
		s := &site{t: t, conn: conn, Store: store}
		if i == 0 {
			s.serve("echo", clustertest.EchoPipeline).Close()
			ref = s.submit("echo", "kept")
		} else {
			server := s.serve("echo", clustertest.EchoPipeline)
			assert.Equal(t, "kept", s.result(ref))
			server.Close()
		}
		conn.Close()
	}
}

func TestAJobReportsTheProgressOfItsPythonNodes(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	folder := t.TempDir()
	s.serve("work", "nodes: [{id: work, node_type: work}]")
	ref := s.submit("work", folder)
	testkit.Eventually(t, func() bool {
		j, err := s.Get(t.Context(), ref)
		return err == nil && j.Progress != nil && *j.Progress == jobs.Progress{Fraction: 0.5, Message: "half", Node: "work"}
	})
	clustertest.Release(t, folder)
	assert.Equal(t, "done", s.result(ref))
	assert.Equal(t, jobs.Progress{Fraction: 1, Message: "all", Node: "work"}, *s.await(ref).Progress, "the last report is kept")
}

func TestTheProgressOfAJobIsBounded(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.serve("report", "nodes: [{id: report, node_type: report}]", runner.WithNode("report", func(ctx context.Context, _ runner.Input) (any, error) {
		jobs.Report(ctx, jobs.Progress{Message: strings.Repeat("ö", 1<<20)})
		return nil, nil
	}))
	j := s.await(s.submit("report", 1))
	require.NotNil(t, j.Progress)
	assert.Len(t, j.Progress.Message, 1<<10)
	assert.Equal(t, `50% n: a\x1b[2J`, jobs.Progress{Fraction: 0.5, Message: "a\x1b[2J", Node: "n"}.String())
	assert.Equal(t, "unknown", jobs.Progress{Message: "unknown"}.String())
}

func TestAJobReportsItsProgress(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	reported, proceed := make(chan bool), make(chan bool)
	s.serve("report", "nodes: [{id: report, node_type: report}]", runner.WithNode("report", reporting(reported, proceed)))
	ref := s.submit("report", 1)
	receive(t, reported)
	testkit.Eventually(t, func() bool {
		j, err := s.Get(t.Context(), ref)
		return err == nil && j.Progress != nil && *j.Progress == jobs.Progress{Fraction: 0.5, Message: "half"}
	})
	close(proceed)
	assert.Equal(t, "done", fmt.Sprint(s.result(ref)))
	assert.NotNil(t, s.await(ref).Progress)
}
