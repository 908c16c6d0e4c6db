package runner

import (
	"context"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner/internal/convert"
	"github.com/gophersnake/gophersnake/runner/internal/flow"
	"github.com/gophersnake/gophersnake/runner/internal/scratch"
	"github.com/gophersnake/gophersnake/runner/internal/tracing"
	"github.com/gophersnake/gophersnake/runner/internal/worker"
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

// LoadFS is [Load] for a file system of the program, such as an [embed.FS] that holds the
// manifest, the Python files and what else they need:
//
//	//go:embed pipelines
//	var files embed.FS
//	…
//	pipeline, err := runner.LoadFS(files, "pipelines/embed")
//
// [New] unpacks all of the file system into a private temporary folder, which the runner
// removes when it is closed; so such a runner must be closed even if it was never started.
// The folder of a program that was killed is removed by the next one. Anything but regular
// files and folders is refused, and so are names that lead out of the folder.
// [Runner.Reload] reads the unpacked files again.
func LoadFS(files fs.FS, name string) (*manifest.Pipeline, error) {
	p, err := manifest.LoadFS(files, name)
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
	arena     *ipc.Arena      // shared memory for values that come from Go
	tracer    *tracing.Tracer // nil without WithTracerProvider
	files     *scratch.Files  // of a pipeline of LoadFS

	// starting holds a token while a Start or a Reload is in progress. The token
	// guards the fields up to mu; the last two are also read after a successful start.
	starting chan struct{}
	loaded   time.Time // when workers last began to read the code
	// templates are those of the code as it was then.
	templates *worker.Templates
	gathers   bool // a node may yield or take many values, so that a run is a stream of one item
	batch     int  // the largest number of calls that a node takes at once

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
	if err := r.unpack(); err != nil {
		return nil, err
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
	err = joinFaults(faults)
	if err == nil {
		err = r.fuse()
	}
	if err != nil {
		r.removeFiles()
		return nil, err
	}
	if o.tracers != nil {
		r.tracer = tracing.New(o.tracers, p.Name, func(err error) string { return KindOf(err).String() })
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
		n.calls = n
		n.watch = tracing.NewNode(r.tracer, r.options.measures(n.id), n.id, n.config.Type)
		if len(r.options.callInterceptors) > 0 {
			n.calls = &interceptedNode{n, r.pipeline.Name, r.options.callInterceptors}
		}
		r.order = append(r.order, n)
		if c := n.chain; c != nil && len(r.options.callInterceptors) == 0 {
			if n != c.last() {
				continue
			}
			steps = append(steps, r.chainStep(c))
			continue
		}
		step := flow.Step{ID: id, Node: n.calls, Encoded: true, Local: !n.isPython(), Domain: n.domain, Merges: n.merges, Output: n.config.Output, Leaves: r.leaves(n)}
		step.Inputs = r.inputsOf(n)
		steps = append(steps, step)
	}
	r.plan = flow.NewPlan(steps, r.arena, queueBytes)
	r.gathers = r.plan.Merges()
	if r.options.orderedMaps {
		r.plan = r.plan.Ordered()
	}
}

// Scheduler returns the scheduler of the runner, which holds the breakers of its
// nodes.
func (r *Runner) Scheduler() *Scheduler { return r.scheduler }

// Pipeline returns the pipeline that the runner runs. It must not be changed.
func (r *Runner) Pipeline() *manifest.Pipeline { return r.pipeline }

// Run takes one input through the pipeline, and starts the runner if needed. It
// returns the value of the sink, or a map of values by node id if there are several
// sinks. If a node yields any number of values, as generators and stateful nodes do, or
// takes the values of several nodes one by one, then the run is a stream of one item, and
// the values of each sink are a list, a []any. When Run returns, nothing of the run is in progress any more.
func (r *Runner) Run(ctx context.Context, input any) (v any, err error) {
	if r.tracer != nil {
		var work *tracing.Work
		ctx, work = r.tracer.Begin(ctx, "run")
		defer func() { work.End(err) }()
	}
	if err := r.enter(ctx); err != nil {
		return nil, err
	}
	defer r.runs.Done()
	if len(r.options.runInterceptors) > 0 {
		return r.interceptRun(ctx, input)
	}
	return r.run(ctx, input)
}

// run is Run in a runner that was entered.
func (r *Runner) run(ctx context.Context, input any) (any, error) {
	if r.gathers {
		return r.gather(ctx, input, nil)
	}
	v, err := r.plan.Run(ctx, input)
	if err != nil {
		return nil, flowError(err)
	}
	return v, nil
}

// Call is [Runner.Run] with types: it takes one input through the pipeline, and decodes the
// result into an Out, as [Decode] does.
func Call[In, Out any](ctx context.Context, r *Runner, input In) (Out, error) {
	v, err := r.Run(ctx, input)
	return typed[Out](v, err)
}

// CallNode is [Node.Call] with types: it calls the node with the given id alone, and decodes
// its result into an Out, as [Decode] does.
func CallNode[In, Out any](ctx context.Context, r *Runner, id string, input In) (Out, error) {
	v, err := r.Node(id).Call(ctx, input)
	out, err := typed[Out](v, err)
	if err != nil {
		return out, AsError(err).WithNode(id)
	}
	return out, nil
}

// typed decodes a result, unless there is an error.
func typed[Out any](v any, err error) (out Out, _ error) {
	if err == nil {
		out, err = As[Out](v)
	}
	return out, err
}

// Decode stores a result in the variable that out points to, a pointer that is not nil. It
// is the opposite of the conversion of inputs, and takes the same struct tags: a struct that
// a node returns unchanged is the same after Decode.
//
//   - A struct, including one that is embedded, takes a map. Keys are those of encoding/json:
//     the name in the json tag, or else in the msgpack tag, or else the field's; if no key is
//     the same, one that differs only in upper and lower case. Other keys are ignored, and
//     fields without a key stay as they are.
//   - A map takes a map, and is a new one.
//   - A pointer takes nil, too, as do slices, maps and interfaces; other types do not.
//   - A slice takes a list of any length, and an array one of its own. Both also take a
//     tensor with as many dimensions as they are nested: [][]float32 takes a tensor of two.
//   - Integers take integers in their range, and floats also integers up to 2⁵³. A float is
//     never rounded to an integer.
//   - A type with the method UnmarshalText takes a string. Other named types take what their
//     underlying types take.
//   - [ipc.JSON] takes a document; all other types take what is in the document.
//   - An interface that has no methods takes the value as it is.
//
// The error is an *[Error] of kind [KindMarshaling]. Its path names the part that does not
// fit, and its message both types: result.items[3].price: expected a number, got "five".
// After an error, parts of the variable may have been set.
//
// Decode does not copy bytes, nor tensors whose elements have the type of the target, nor
// values whose type is already right: the variable shares memory with v. Of the Value of a
// [Shared], copy what is needed after its Release.
func Decode(v, out any) error {
	if err := convert.Decode("result", v, out); err != nil {
		return classify(err).WithOperation("decode the result")
	}
	return nil
}

// As returns a result as a T, as [Decode] does.
func As[T any](v any) (T, error) {
	if same, ok := v.(T); ok {
		return same, nil
	}
	var out T
	if err := Decode(v, &out); err != nil {
		var zero T
		return zero, err
	}
	return out, nil
}

// Node is one node of a runner's pipeline; see [Runner.Node].
type Node struct {
	runner *Runner
	id     string
}

// Node returns the node with the given id, to call it alone. If the pipeline has no such
// node, the calls of the result fail.
func (r *Runner) Node(id string) *Node { return &Node{r, id} }

// Call calls the node with one input, and starts the runner if needed. The call is subject
// to all that applies to the node in a run: its retry policy, circuit breaker, events,
// interceptors, limits and queue, and [Runner.Drain] and [Runner.Close]. The other nodes are
// not called.
//
// If connections lead to several ports of the node, the input is a map with the value of
// each port, or a struct with these fields. A node that yields any number of values, as
// generators and stateful nodes do, returns them in a list, a []any; a stateful node gets a
// new session for each call.
//
// If the pipeline has no node with this id, the error is of kind [KindManifest] and lists
// the ids.
func (c *Node) Call(ctx context.Context, input any) (any, error) {
	n := c.runner.nodes[c.id]
	if n == nil {
		return nil, c.runner.unknownNode(c.id)
	}
	if err := c.runner.enter(ctx); err != nil {
		return nil, err
	}
	defer c.runner.runs.Done()
	in, err := n.encoded(ctx, input)
	if err != nil {
		return nil, classify(err).WithNode(n.id).WithOperation("encode the input")
	}
	if n.Kind() != flow.Single {
		return c.runner.collect(ctx, n, in)
	}
	defer in.Release()
	out, err := n.calls.Call(ctx, in)
	if err != nil {
		return nil, classify(err)
	}
	return c.runner.taken(n, &out)
}

func (r *Runner) unknownNode(id string) *Error {
	ids := slices.Sorted(maps.Keys(r.nodes))
	return NewError(KindManifest, fmt.Sprintf("there is no node %q; the nodes are %s", id, strings.Join(ids, ", ")))
}

// collect calls a node that yields many values, and returns them in a list.
func (r *Runner) collect(ctx context.Context, n *node, in flow.Inputs) (any, error) {
	values := []any{}
	emit := func(payload ipc.Payload) error {
		v, err := r.taken(n, &flow.Value{Payload: payload, Encoded: true})
		if err == nil {
			values = append(values, v)
		}
		return err
	}
	var err error
	if n.Kind() == flow.Generator {
		err = n.calls.Generate(ctx, in, emit)
		in.Release()
	} else {
		session := n.calls.Open(nil)
		defer session.Close()
		if err = session.Item(ctx, in, emit); err == nil {
			err = session.Finish(ctx, emit)
		}
	}
	if err != nil {
		return nil, classify(err)
	}
	return values, nil
}

// taken decodes a value of a node, as the options say, and releases it.
func (r *Runner) taken(n *node, v *flow.Value) (any, error) {
	if r.options.orderedMaps {
		v.Payload = v.Payload.Ordered()
	}
	native, err := v.Take("result")
	if err != nil {
		return nil, classify(err).WithNode(n.id)
	}
	return native, nil
}

// RunShared is like [Runner.Run] without the last copy: large tensors, recordings,
// images and bytes in the result are views of the shared memory into which the worker
// wrote them; tables, texts and JSON documents are copied. The caller must release the result.
func (r *Runner) RunShared(ctx context.Context, input any) (s *Shared, err error) {
	if r.tracer != nil {
		var work *tracing.Work
		ctx, work = r.tracer.Begin(ctx, "run")
		defer func() { work.End(err) }()
	}
	if err := r.enter(ctx); err != nil {
		return nil, err
	}
	defer r.runs.Done()
	if len(r.options.runInterceptors) > 0 {
		return r.interceptShared(ctx, input)
	}
	return r.runShared(ctx, input)
}

// RunView is [Runner.RunShared] for the time of a function, which cannot forget to release the
// result: it calls use with the value, and releases it when use returns or panics. Nothing of the
// value may be changed, nor be used afterwards; copy what is needed for longer. The error is that
// of the run, in which case use was not called, or that of use.
func (r *Runner) RunView(ctx context.Context, input any, use func(v any) error) error {
	shared, err := r.RunShared(ctx, input)
	if err != nil {
		return err
	}
	defer shared.Release()
	return use(shared.Value)
}

// CallView is [Runner.RunView] with types: it decodes the result into an Out, as [Decode] does,
// without copying what Decode does not copy.
func CallView[In, Out any](ctx context.Context, r *Runner, input In, use func(out Out) error) error {
	return r.RunView(ctx, input, func(v any) error {
		out, err := As[Out](v)
		if err != nil {
			return err
		}
		return use(out)
	})
}

// runShared is RunShared in a runner that was entered.
func (r *Runner) runShared(ctx context.Context, input any) (*Shared, error) {
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
