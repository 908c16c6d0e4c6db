package runner

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner/manifest"
)

// Load reads a pipeline from a YAML or JSON file, or from a folder that holds a
// pipeline.yaml, and checks all that needs no Python. Its error names the places
// of all problems found.
func Load(path string) (*manifest.Pipeline, error) {
	p, err := manifest.Load(path)
	if err != nil {
		return nil, classify(err)
	}
	return p, nil
}

// Runner runs one pipeline. Its nodes' workers stay warm between runs. All its
// methods are safe for concurrent use.
type Runner struct {
	pipeline  *manifest.Pipeline
	options   *options
	scheduler *Scheduler
	nodes     map[string]*node
	plan      *plan
	arena     *ipc.Arena

	starting chan struct{} // holds a token while somebody starts or reloads, and with it:
	python   python
	loaded   time.Time // when workers last began to read the code

	mu           sync.RWMutex
	started      bool
	isStarting   bool
	startFailure *Error // of the last start
	draining     bool
	closed       bool
	ending       bool                 // streams are not waited for any more
	streams      map[*Stream]struct{} // those that are open
	runs         sync.WaitGroup       // and streams
}

// New returns a runner for a pipeline. It starts nothing: [Runner.Start] does,
// or else the first run.
func New(p *manifest.Pipeline, opts ...Option) (*Runner, error) {
	o, err := newOptions(opts)
	if err != nil {
		return nil, err
	}
	if err := p.Validate(); err != nil {
		return nil, classify(err)
	}
	scheduler, err := NewScheduler(o.nodePolicy(), o.events)
	if err != nil {
		return nil, err
	}
	r := &Runner{
		pipeline:  p,
		options:   o,
		scheduler: scheduler,
		nodes:     make(map[string]*node, len(p.Nodes)),
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
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	r.arena = ipc.NewArena(o.sharedMemory, sharedWait)
	r.plan = newPlan(p, r.nodes, r.arena)
	r.plan.queueBytes = queueBytes(o.sharedMemory, len(p.Connections)+len(p.Nodes))
	return r, nil
}

// Scheduler returns the runner's scheduler, which holds its nodes' breakers.
func (r *Runner) Scheduler() *Scheduler { return r.scheduler }

// Start makes the pipeline ready: it makes or reuses the Python environment,
// starts the workers of all nodes side by side, and checks their params against
// the nodes' signatures. Further calls return at once. After an error it can be
// called again.
func (r *Runner) Start(ctx context.Context) error {
	if r.ready() {
		return nil
	}
	if err := r.lockStarting(ctx); err != nil {
		return err
	}
	defer r.unlockStarting()
	if r.ready() {
		return nil
	}
	r.mu.Lock()
	r.isStarting = true
	r.mu.Unlock()
	err := r.startNodes(ctx)
	if err == nil {
		r.plan.know()
	}
	r.mu.Lock()
	r.started, r.isStarting, r.startFailure = err == nil, false, nil
	if err != nil && ctx.Err() == nil {
		r.startFailure = classify(err)
	}
	closed := r.closed
	r.mu.Unlock()
	if err != nil {
		return err
	}
	if closed {
		r.closePools(ctx)
		return errClosed()
	}
	return nil
}

// lockStarting waits until nobody else starts workers, or the context ends.
func (r *Runner) lockStarting(ctx context.Context) error {
	select {
	case r.starting <- struct{}{}:
		return nil
	case <-ctx.Done():
		return classify(context.Cause(ctx))
	}
}

func (r *Runner) unlockStarting() { <-r.starting }

func (r *Runner) ready() bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.started
}

func errClosed() *Error { return NewError(KindOther, "the runner is closed") }

func errDraining() *Error { return NewError(KindOther, "the runner drains and takes nothing more") }

// Run takes one input through the pipeline and returns the value of its sink,
// or a map of the sinks' values by node id where there are several. Where a node
// gives any number of values, as generators and stateful nodes do, the run is a
// stream of one item, and what a sink gives comes in a list, a []any.
func (r *Runner) Run(ctx context.Context, input any) (any, error) {
	if err := r.enter(ctx); err != nil {
		return nil, err
	}
	defer r.runs.Done()
	if r.plan.streams {
		return r.gather(ctx, input)
	}
	out, err := r.plan.run(ctx, input)
	if err != nil {
		return nil, err
	}
	defer out.release()
	return out.value(value.decode)
}

// RunShared is [Runner.Run] without the last copy: large tensors, recordings and
// images in the result view the shared memory that the worker wrote them to. The
// result must be released.
func (r *Runner) RunShared(ctx context.Context, input any) (*Shared, error) {
	if err := r.enter(ctx); err != nil {
		return nil, err
	}
	defer r.runs.Done()
	if r.plan.streams {
		return r.gatherShared(ctx, input)
	}
	out, err := r.plan.run(ctx, input)
	if err != nil {
		return nil, err
	}
	v, err := out.value(value.view)
	if err != nil {
		out.release()
		return nil, err
	}
	return &Shared{Value: v, out: out}, nil
}

// Shared is a result that may lie in shared memory.
type Shared struct {
	// Value is as [Runner.Run] returns it. It must not be changed, for a node may
	// have kept the memory, and nothing of it may be used after Release: what is
	// to last longer is copied before, with [slices.Clone] for instance.
	Value any

	out  outcome
	once sync.Once
}

// Release gives the memory back. It may be called twice. Until it is called, the
// memory counts against the worker's limit.
func (s *Shared) Release() {
	s.once.Do(func() {
		s.Value = nil
		s.out.release()
	})
}

// enter counts a run, starting the runner where that has not been done.
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

// Drain lets no further run or stream begin, and waits for those under way. The
// workers stay until [Runner.Close]. When the context ends first, its error is
// returned, and still nothing more is let in.
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
		if err := p.Drain(ctx); err != nil { // so that nothing is started any more
			return classify(err).WithNode(n.id)
		}
	}
	return nil
}

// settled is closed when no run and no stream is under way any more. Nothing must be
// let in by now.
func (r *Runner) settled() <-chan struct{} {
	settled := make(chan struct{})
	go func() {
		r.runs.Wait()
		close(settled)
	}()
	return settled
}

// Close waits for the runs and streams under way and shuts all workers down. When
// the context ends first, it ends them at once. When it returns, no worker is left.
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
