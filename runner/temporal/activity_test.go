package temporal_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/log"
	temporalsdk "go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/gophersnake/gophersnake/retry"
	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/manifest"
	"github.com/gophersnake/gophersnake/runner/temporal"
)

// patience bounds what a test waits for.
const patience = time.Minute

// greeting is the result of the node Greet.
type greeting struct {
	Text   string `json:"text"`
	Length int    `json:"length"`
}

// order is the input of the node Obey.
type order struct {
	Do   string `json:"do"`
	File string `json:"file"`
}

// start starts a runner for the nodes that are given as YAML.
func start(t *testing.T, nodes string) *runner.Runner {
	t.Helper()
	p, err := manifest.Parse("pipeline.yaml", []byte("version: v1\npython: nodes.py\n"+nodes), "testdata")
	require.NoError(t, err)
	r, err := runner.New(p, runner.WithSystemPython(), temporal.WithProgress())
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, r.Close(context.Background())) })
	require.NoError(t, r.Start(t.Context()))
	return r
}

const greet = "nodes: [{id: greet, node_type: Greet}]\n"

// obey is a pipeline of one node, whose supervisor does not retry.
func obey(settings string) string {
	return "nodes: [{id: obey, node_type: Obey, retry: none" + settings + "}]\n"
}

// quiet returns the test environments of the SDK without its log.
func quiet() *testsuite.WorkflowTestSuite {
	var suite testsuite.WorkflowTestSuite
	suite.SetLogger(log.NewStructuredLogger(slog.New(slog.DiscardHandler)))
	return &suite
}

// execute runs an activity in the test environment of the SDK.
func execute[In, Out any](t *testing.T, do func(context.Context, In) (Out, error), input In) (Out, error) {
	t.Helper()
	env := quiet().NewTestActivityEnvironment()
	env.SetTestTimeout(patience)
	env.RegisterActivityWithOptions(do, activity.RegisterOptions{Name: "do"})
	got, err := env.ExecuteActivity("do", input)
	var out Out
	if err == nil {
		require.NoError(t, got.Get(&out))
	}
	return out, err
}

// failure returns the application error of an activity, and its details.
func failure(t *testing.T, err error) (*temporalsdk.ApplicationError, temporal.Failure) {
	t.Helper()
	e, ok := errors.AsType[*temporalsdk.ApplicationError](err)
	require.True(t, ok, "%T: %v", err, err)
	var f temporal.Failure
	require.NoError(t, e.Details(&f))
	return e, f
}

func TestAPipelineAndANodeAreActivitiesWithTypes(t *testing.T) {
	t.Parallel()
	r := start(t, greet)
	got, err := execute(t, temporal.Pipeline[string, greeting](r), "Ada")
	require.NoError(t, err)
	assert.Equal(t, greeting{"Hello, Ada!", 3}, got)
	got, err = execute(t, temporal.Node[string, greeting](r, "greet"), "Grace")
	require.NoError(t, err)
	assert.Equal(t, greeting{"Hello, Grace!", 5}, got)

	_, err = execute(t, temporal.Node[string, greeting](r, "nobody"), "Grace")
	require.ErrorContains(t, err, "nobody")
}

func TestTheDeathOfAnInterpreterIsNeitherTheEndOfTheActivityNorOfTheWorker(t *testing.T) {
	t.Parallel()
	r := start(t, "nodes: [{id: obey, node_type: Obey, retry: {fixed: 1ms, max_attempts: 1}}]\n")
	got, err := execute(t, temporal.Pipeline[order, string](r), order{"crash once", filepath.Join(t.TempDir(), "marker")})
	require.NoError(t, err)
	assert.Equal(t, "fine", got)
}

// TestErrorsSayWhetherTemporalRetries has a row for each kind of failure that differs.
func TestErrorsSayWhetherTemporalRetries(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		settings   string
		do         string
		kind       runner.Kind
		retryable  bool
		mayHaveRun bool
		after      time.Duration
	}{
		"death":                             {"", "crash", runner.KindPythonVM, true, false, 0},
		"death of what may not run twice":   {", idempotent: false", "crash", runner.KindPythonVM, false, true, 0},
		"exception":                         {"", "raise", runner.KindExecution, true, false, 0},
		"exception that is never retried":   {"", "refuse", runner.KindExecution, false, false, 0},
		"exception with a delay of its own": {"", "later", runner.KindExecution, true, false, 3500 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := start(t, obey(c.settings))
			_, err := execute(t, temporal.Pipeline[order, string](r), order{c.do, filepath.Join(t.TempDir(), "begun")})
			e, f := failure(t, err)
			assert.Equal(t, c.kind.String(), e.Type())
			assert.Equal(t, !c.retryable, e.NonRetryable())
			assert.Equal(t, c.after, e.NextRetryDelay())
			assert.Equal(t, c.kind.String(), f.Kind)
			assert.Equal(t, "obey", f.Node)
			assert.Equal(t, c.mayHaveRun, f.MayHaveRun)
			var report struct{ Text string }
			require.NoError(t, json.Unmarshal(f.Report, &report))
			assert.NotEmpty(t, report.Text)
		})
	}
}

func TestAValueThatCannotBeCarriedIsNotRetried(t *testing.T) {
	t.Parallel()
	r := start(t, greet)
	_, err := execute(t, temporal.Pipeline[string, int](r), "Ada") // the node returns a dict
	e, f := failure(t, err)
	assert.True(t, e.NonRetryable())
	assert.Equal(t, "marshaling", f.Kind)
}

// TestAnOpenBreakerIsForAnotherMachineOrALaterTime also holds for a node that is not
// idempotent, because nothing has begun.
func TestAnOpenBreakerIsForAnotherMachineOrALaterTime(t *testing.T) {
	t.Parallel()
	r := start(t, obey(", idempotent: false, breaker: {failures: 1, cool_down: 1h}"))
	do := temporal.Pipeline[order, string](r)
	_, err := execute(t, do, order{Do: "raise"})
	require.Error(t, err)
	require.True(t, r.Scheduler().Breaker("obey").State() == retry.Open)
	_, err = execute(t, do, order{Do: "fine"})
	e, f := failure(t, err)
	assert.False(t, e.NonRetryable())
	assert.False(t, f.MayHaveRun)
	assert.Greater(t, e.NextRetryDelay(), 59*time.Minute, "when the breaker lets a probe pass")
}

func TestAClosedRunnerIsForAnotherMachine(t *testing.T) {
	t.Parallel()
	r := start(t, greet)
	require.NoError(t, r.Close(t.Context()))
	_, err := execute(t, temporal.Pipeline[string, greeting](r), "Ada")
	e, _ := failure(t, err)
	assert.False(t, e.NonRetryable())
}

// TestHeartbeatsSayWhatRunsAndCarryTheCancellation lets a heartbeat find that the activity
// was canceled, as Temporal's servers tell it.
func TestHeartbeatsSayWhatRunsAndCarryTheCancellation(t *testing.T) {
	t.Parallel()
	r := start(t, obey(""))
	file := filepath.Join(t.TempDir(), "waits")
	env := quiet().NewTestWorkflowEnvironment()
	env.SetTestTimeout(patience)
	env.RegisterActivityWithOptions(temporal.Pipeline[order, string](r), activity.RegisterOptions{Name: "do"})
	seen := make(chan temporal.Progress, 1)
	env.SetOnActivityHeartbeatListener(func(_ *activity.Info, details converter.EncodedValues) {
		var p temporal.Progress
		if _, err := os.Stat(file); details.Get(&p) == nil && err == nil && len(p.Running) > 0 && len(p.Reports) > 0 {
			select {
			case seen <- p:
				env.CancelWorkflow()
			default:
			}
		}
	})
	env.ExecuteWorkflow(func(ctx workflow.Context) error {
		ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
			StartToCloseTimeout: patience, HeartbeatTimeout: 100 * time.Millisecond, WaitForCancellation: true,
		})
		return workflow.ExecuteActivity(ctx, "do", order{"wait", file}).Get(ctx, nil)
	})
	require.True(t, env.IsWorkflowCompleted())
	canceled, ok := errors.AsType[*temporalsdk.CanceledError](env.GetWorkflowError())
	require.True(t, ok, "%v", env.GetWorkflowError())
	assert.False(t, canceled.HasDetails())
	p := <-seen
	assert.Equal(t, []string{"obey"}, p.Running)
	assert.Zero(t, p.Finished)
	assert.Equal(t, map[string]temporal.Report{"obey": {Message: "waiting", Fraction: new(0.5)}}, p.Reports)
}

// TestAWorkflowRetriesWhatTheRunnerGaveUp counts the attempts of both policies: the runner
// makes one, and the workflow three.
func TestAWorkflowRetriesWhatTheRunnerGaveUp(t *testing.T) {
	t.Parallel()
	r := start(t, obey(""))
	file := filepath.Join(t.TempDir(), "begun")
	env := quiet().NewTestWorkflowEnvironment()
	env.SetTestTimeout(patience)
	env.SetWorkerOptions(worker.Options{})
	env.RegisterActivityWithOptions(temporal.Node[order, string](r, "obey"), activity.RegisterOptions{Name: "do"})
	env.ExecuteWorkflow(func(ctx workflow.Context) error {
		ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
			StartToCloseTimeout: patience,
			RetryPolicy:         &temporalsdk.RetryPolicy{InitialInterval: time.Millisecond, MaximumAttempts: 3},
		})
		return workflow.ExecuteActivity(ctx, "do", order{"crash", file}).Get(ctx, nil)
	})
	require.True(t, env.IsWorkflowCompleted())
	_, f := failure(t, env.GetWorkflowError())
	assert.Equal(t, "python_vm", f.Kind)
	begun, err := os.ReadFile(file)
	require.NoError(t, err)
	assert.Equal(t, "xxx", string(begun))
}

// TestProgressCountsTheNodesOfAPipeline runs two nodes, one after the other.
func TestProgressCountsTheNodesOfAPipeline(t *testing.T) {
	t.Parallel()
	gate := make(chan struct{})
	p, err := manifest.Parse("pipeline.yaml", []byte("version: v1\nnodes: [{id: a, node_type: A}, {id: b, node_type: B}]\n"+
		"connections: [{from: a, to: b}]\n"), "testdata")
	require.NoError(t, err)
	r, err := runner.New(p, temporal.WithProgress(),
		runner.WithNode("A", func(_ context.Context, in runner.Input) (any, error) { return in.Value, nil }),
		runner.WithNode("B", func(ctx context.Context, in runner.Input) (any, error) {
			select {
			case <-gate:
				return in.Value, nil
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}))
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, r.Close(context.Background())) })
	env := quiet().NewTestWorkflowEnvironment()
	env.SetTestTimeout(patience)
	env.RegisterActivityWithOptions(temporal.Pipeline[string, string](r), activity.RegisterOptions{Name: "do"})
	var last temporal.Progress
	env.SetOnActivityHeartbeatListener(func(_ *activity.Info, details converter.EncodedValues) {
		var p temporal.Progress
		if details.Get(&p) == nil && p.Finished == 1 && last.Finished == 0 {
			last = p
			close(gate)
		}
	})
	env.ExecuteWorkflow(func(ctx workflow.Context) (string, error) {
		ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: patience, HeartbeatTimeout: 100 * time.Millisecond})
		var got string
		err := workflow.ExecuteActivity(ctx, "do", "x").Get(ctx, &got)
		return got, err
	})
	require.NoError(t, env.GetWorkflowError())
	assert.Equal(t, []string{"b"}, last.Running)
}
