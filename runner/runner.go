package runner

import (
	"context"
	"sync"
	"time"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner/internal/flow"
	"github.com/gophersnake/gophersnake/runner/manifest"
)

// Load reads a pipeline from a YAML or JSON file, or from a folder that contains a
// pipeline.yaml. It checks everything that can be checked without Python. Its error
// lists all problems with their positions in the file.
func Load(path string) (*manifest.Pipeline, error) {
	p, err := manifest.Load(path)
	if err != nil {
		return nil, classify(err)
	}
	return p, nil
}

// Runner runs one pipeline. The workers of its nodes stay warm between runs. Its
// methods are safe for concurrent use.
type Runner struct {
	pipeline  *manifest.Pipeline
	options   *options
	scheduler *Scheduler
	nodes     map[string]*node // by id
	order     []*node          // each after the nodes that it takes inputs from
	plan      *flow.Plan
	arena     *ipc.Arena // shared memory for values that come from Go

	// starting holds a token while a Start or a Reload is in progress. The token
	// guards the fields up to mu; the last two are also read after a successful start.
	starting chan struct{}
	python   python
	loaded   time.Time // when workers last began to read the code
	gathers  bool      // a node yields many values, so that a run is a stream of one item
	batch    int       // the largest number of calls that a node takes at once

	mu           sync.RWMutex
	started      bool
	isStarting   bool
	startFailure *Error // of the last start
	draining     bool
	closed       bool
	ending       bool                 // Close no longer waits for streams
	streams      map[*Stream]struct{} // those that have not ended
	runs         sync.WaitGroup       // runs and streams in progress
}

// New returns a runner for a pipeline. It starts nothing: [Runner.Start] or the
// first run does. Its error is an *[Error], which joins the faults if several nodes
// are wrong; see [Error.Faults].
func New(p *manifest.Pipeline, opts ...Option) (*Runner, error) {
	o, err := newOptions(opts)
	if err != nil {
		return nil, classify(err)
	}
	if err := p.Validate(); err != nil {
		return nil, classify(err)
	}
	scheduler, err := NewScheduler(o.nodePolicy(), o.events)
	if err != nil {
		return nil, classify(err)
	}
	r := &Runner{
		pipeline:  p,
		options:   o,
		scheduler: scheduler,
		nodes:     make(map[string]*node, len(p.Nodes)),
		arena:     ipc.NewArena(o.sharedMemory, sharedWait),
		streams:   make(map[*Stream]struct{}),
		starting:  make(chan struct{}, 1),
	}
	var faults []error
	for i := range p.Nodes {
		n, err := newNode(p, &p.Nodes[i], o, scheduler)
		if err != nil {
			faults = append(faults, err)
			continue
		}
		r.nodes[n.id] = n
	}
	if err := joinFaults(faults); err != nil {
		return nil, err
	}
	r.layOut()
	return r, nil
}

// layOut orders the nodes and makes the plan of their steps.
func (r *Runner) layOut() {
	queueBytes := queueBytes(r.options.sharedMemory, len(r.pipeline.Connections)+len(r.pipeline.Nodes))
	steps := make([]flow.Step, 0, len(r.nodes))
	for _, id := range r.pipeline.Order() {
		n := r.nodes[id]
		n.arena, n.replayBytes = r.arena, queueBytes
		step := flow.Step{ID: id, Node: n, Encoded: n.isPython(), Domain: n.domain}
		for _, c := range n.inputs {
			step.Inputs = append(step.Inputs, c.From)
			if from := r.nodes[c.From]; n.isPython() && from.consumer == nil {
				from.consumer = &n.domain
			}
		}
		r.order = append(r.order, n)
		steps = append(steps, step)
	}
	r.plan = flow.NewPlan(steps, r.arena, queueBytes)
	if r.options.orderedMaps {
		r.plan = r.plan.Ordered()
	}
}

// Scheduler returns the scheduler of the runner, which holds the breakers of its
// nodes.
func (r *Runner) Scheduler() *Scheduler { return r.scheduler }

// Run takes one input through the pipeline, and starts the runner if needed. It
// returns the value of the sink, or a map of values by node id if there are several
// sinks. If a node yields any number of values, as generators and stateful nodes do,
// then the run is a stream of one item, and the values of each sink are a list, a
// []any. When Run returns, nothing of the run is in progress any more.
func (r *Runner) Run(ctx context.Context, input any) (any, error) {
	if err := r.enter(ctx); err != nil {
		return nil, err
	}
	defer r.runs.Done()
	if r.gathers {
		return r.gather(ctx, input, nil)
	}
	v, err := r.plan.Run(ctx, input)
	if err != nil {
		return nil, flowError(err)
	}
	return v, nil
}

// RunShared is like [Runner.Run] without the last copy: large tensors, recordings
// and images in the result are views of the shared memory into which the worker
// wrote them. The caller must release the result.
func (r *Runner) RunShared(ctx context.Context, input any) (*Shared, error) {
	if err := r.enter(ctx); err != nil {
		return nil, err
	}
	defer r.runs.Done()
	if r.gathers {
		shared := &Shared{}
		v, err := r.gather(ctx, input, shared)
		if err != nil {
			shared.Release()
			return nil, err
		}
		shared.Value = v
		return shared, nil
	}
	out, err := r.plan.RunShared(ctx, input)
	if err != nil {
		return nil, flowError(err)
	}
	v, err := out.View()
	if err != nil {
		out.Release()
		return nil, classify(err)
	}
	return &Shared{Value: v, result: out}, nil
}

// Shared is a result that may lie in shared memory.
type Shared struct {
	// Value is as [Runner.Run] returns it. It must not be changed, because a node may
	// still use the memory; to write to the memory of a worker ends the program. Nothing of
	// it may be used after Release: copy what is needed for longer, for instance with
	// [slices.Clone].
	Value any

	result flow.Result
	items  []flow.Value // of a run that was a stream
	once   sync.Once
}

// Release frees the memory, which counts against the limit of the worker, or of the runner
// if the worker is isolated, until then.
// Calls after the first one have no effect.
func (s *Shared) Release() {
	s.once.Do(func() {
		s.Value = nil
		s.result.Release()
		for i := range s.items {
			s.items[i].Release()
		}
	})
}

// enter counts a run or a stream as in progress, after starting the runner if needed.
// The caller ends it with r.runs.Done. The error is that of a runner that is closed,
// drains, or cannot be started.
func (r *Runner) enter(ctx context.Context) error {
	for {
		r.mu.RLock()
		closed, draining := r.closed, r.draining
		if r.started && !closed && !draining {
			r.runs.Add(1)
			r.mu.RUnlock()
			return nil
		}
		r.mu.RUnlock()
		switch {
		case closed:
			return errClosed()
		case draining:
			return errDraining()
		}
		if err := r.Start(ctx); err != nil {
			return err
		}
	}
}

func errClosed() *Error { return NewError(KindOther, "the runner is closed") }

func errDraining() *Error { return NewError(KindOther, "the runner drains and takes nothing more") }

// Drain refuses further runs and streams, and waits for those in progress. The
// workers stay until [Runner.Close]. If the context ends first, Drain returns its
// error; the runner refuses further runs nevertheless.
func (r *Runner) Drain(ctx context.Context) error {
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return errClosed()
	}
	r.draining = true
	r.mu.Unlock()
	select {
	case <-r.settled():
	case <-ctx.Done():
		return classify(context.Cause(ctx))
	}
	for _, n := range r.nodes {
		r.mu.RLock()
		p := n.pool
		r.mu.RUnlock()
		if p == nil {
			continue
		}
		if err := p.Drain(ctx); err != nil { // so that it starts no further workers
			return classify(err).WithNode(n.id)
		}
	}
	return nil
}

// settled returns a channel that is closed when no run and no stream is in progress.
// The runner must already refuse further ones.
func (r *Runner) settled() <-chan struct{} {
	settled := make(chan struct{})
	go func() {
		r.runs.Wait()
		close(settled)
	}()
	return settled
}

// Close waits for the runs and streams in progress and shuts all workers down. If
// the context ends first, they are ended at once. When Close returns, no worker is
// left. It may be called several times.
//
// The error is always nil today. Close has one, as [net/http.Server.Shutdown] does, for
// later kinds of nodes that can fail to shut down.
func (r *Runner) Close(ctx context.Context) error {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	settled := r.settled()
	select {
	case <-settled:
	case <-ctx.Done():
		r.endStreams()
	}
	r.closePools(ctx)
	<-settled
	r.arena.Close()
	return nil
}
