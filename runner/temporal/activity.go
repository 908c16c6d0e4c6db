// Package temporal makes a pipeline, or a node of one, an activity of Temporal. It is a
// module of its own: a service that embeds package runner does not compile Temporal's SDK.
//
//	r, err := runner.New(pipeline, temporal.WithProgress())
//	w.RegisterActivityWithOptions(temporal.Pipeline[Talk, []Sentence](r),
//		activity.RegisterOptions{Name: "transcribe"})
//
// The activity has its input and its result in the types of Go, which Temporal's data
// converter carries. It heartbeats while the nodes work, so that a cancellation of the
// workflow reaches them, and its errors say whether Temporal is to schedule it again; see
// [Pipeline].
//
// Two policies retry: the runner's, on this machine, within one attempt of the activity; and
// that of the workflow, which may choose another machine. The death of an interpreter is the
// end of an attempt in the first one. It never ends the process of the Temporal worker, and
// costs no other activity anything.
package temporal

import (
	"context"
	"sync"
	"time"

	"go.temporal.io/sdk/activity"

	"github.com/gophersnake/gophersnake/runner"
)

// heartbeatEvery is the time between heartbeats of an activity that has no heartbeat
// timeout. Such an activity heartbeats to learn of its cancellation.
const heartbeatEvery = 10 * time.Second

// heartbeatsPerTimeout is how many heartbeats are made within a heartbeat timeout.
const heartbeatsPerTimeout = 4

// Pipeline returns an activity that takes one input through the pipeline of a runner, as
// [runner.Call] does. The caller keeps the runner, and closes it after the Temporal worker
// has stopped.
//
// It heartbeats four times within its heartbeat timeout, or every 10 seconds if it has none.
// The details of a heartbeat are a [Progress]. If Temporal cancels the activity, the run is
// canceled, and the activity ends as canceled.
//
// An error of the run becomes an application error of Temporal's. Its type is the name of
// the [runner.Kind], for instance "python_vm", so that a retry policy can list it among its
// NonRetryableErrorTypes. Its details are a [Failure]. It is retryable if the runner would
// have retried it, and also if the circuit breaker was open, or the queue full: Temporal may
// find another machine, or a later time. The delay that the runner asks for is that of the
// next attempt. No error is retryable if a node that is not idempotent may have run.
func Pipeline[In, Out any](r *runner.Runner) func(context.Context, In) (Out, error) {
	repeatable := true
	for _, n := range r.Pipeline().Nodes {
		repeatable = repeatable && n.Idempotent
	}
	// Another node may have run before the one that failed without having begun.
	target := target{repeatable: repeatable, single: len(r.Pipeline().Nodes) == 1}
	return func(ctx context.Context, input In) (Out, error) {
		return run(ctx, target, func(ctx context.Context) (Out, error) { return runner.Call[In, Out](ctx, r, input) })
	}
}

// Node returns an activity that calls the node with the given id alone, as [runner.CallNode]
// does. Heartbeats and errors are those of [Pipeline]. A node that the pipeline does not have
// fails each of its calls.
func Node[In, Out any](r *runner.Runner, id string) func(context.Context, In) (Out, error) {
	target := target{repeatable: true, single: true}
	for _, n := range r.Pipeline().Nodes {
		if n.ID == id {
			target.repeatable = n.Idempotent
		}
	}
	return func(ctx context.Context, input In) (Out, error) {
		return run(ctx, target, func(ctx context.Context) (Out, error) { return runner.CallNode[In, Out](ctx, r, id, input) })
	}
}

// target is what an activity runs.
type target struct {
	repeatable bool // all its nodes are idempotent
	single     bool // it has one node
}

// run makes the call of an activity, with heartbeats.
func run[Out any](ctx context.Context, target target, call func(context.Context) (Out, error)) (Out, error) {
	watched := &tracker{begun: time.Now()}
	ctx = context.WithValue(ctx, trackerKey{}, watched)
	stop := heartbeat(ctx, watched)
	working, stopReports := runner.WithProgress(ctx, watched.report)
	out, err := call(working)
	stopReports()
	stop()
	if err != nil {
		var none Out
		return none, failed(ctx, target, err)
	}
	return out, nil
}

// heartbeat records heartbeats until stop is called, which returns after the last one.
func heartbeat(ctx context.Context, watched *tracker) (stop func()) {
	every := heartbeatEvery
	if timeout := activity.GetInfo(ctx).HeartbeatTimeout; timeout > 0 {
		every = timeout / heartbeatsPerTimeout
	}
	done := make(chan struct{})
	var beating sync.WaitGroup
	beating.Go(func() {
		ticker := time.NewTicker(every)
		defer ticker.Stop()
		for {
			// The first one is made at once, and tells the activity if it was canceled before
			// it began.
			activity.RecordHeartbeat(ctx, watched.progress())
			select {
			case <-ticker.C:
			case <-done:
				return
			}
		}
	})
	return func() {
		close(done)
		beating.Wait()
	}
}
