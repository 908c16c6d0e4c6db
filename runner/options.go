package runner

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	"go.opentelemetry.io/otel/trace"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/retry"
	"github.com/gophersnake/gophersnake/runner/internal/pyenv"
	"github.com/gophersnake/gophersnake/runner/internal/tracing"
	"github.com/gophersnake/gophersnake/runner/manifest"
)

// Option configures a [Runner]. [New] applies the options in order and fails with an
// error of kind [KindManifest] if one is invalid.
type Option func(*options) error

type options struct {
	logger       hclog.Logger
	policy       retry.Policy
	breaker      retry.BreakerConfig
	breakerWait  bool
	nodes        map[string]NodeFunc
	events       func(Event)
	tracers      trace.TracerProvider
	measure      func(context.Context, Measurement)
	python       string
	systemPython bool
	cacheDir     string
	progress     func(pyenv.Progress)
	sharedMemory int64
	orderedMaps  bool
	passEnv      []string
	executor     Executor

	runInterceptors, callInterceptors interceptors
}

func newOptions(opts []Option) (*options, error) {
	o := &options{
		logger:       hclog.NewNullLogger(),
		policy:       retry.Default(),
		sharedMemory: DefaultSharedMemory,
		nodes:        make(map[string]NodeFunc),
	}
	for _, opt := range opts {
		if err := opt(o); err != nil {
			return nil, err
		}
	}
	return o, nil
}

// nodePolicy returns the policy of the nodes whose manifest sets none.
func (o *options) nodePolicy() NodePolicy {
	return NodePolicy{Policy: o.policy, Breaker: &o.breaker, Idempotent: true, WaitWhenOpen: o.breakerWait}
}

// Executor calls nodes on other machines, for a runner that has it by [WithExecutor]. Package
// cluster has one. Its methods must be safe for concurrent use.
type Executor interface {
	// Here reports whether this machine is one of the host's, so that the node runs here.
	Here(host manifest.Host) bool
	// Describe returns the description of a node as a machine of the host has it. It blocks
	// until there is one, or fails after some time. [Runner.Start] calls it.
	Describe(ctx context.Context, node string, host manifest.Host) (ipc.Description, error)
	// Call makes one attempt of a call on one of the machines. Its error is an [*Error] that
	// says whether the node may have begun the call; the runner decides about a retry. The
	// caller releases the value.
	Call(ctx context.Context, call *RemoteCall) (ipc.Payload, error)
}

// RemoteCall is an attempt of a call that an [Executor] makes.
type RemoteCall struct {
	Node string
	Host manifest.Host
	// Input is as [Node.Call] takes it, encoded. The executor only reads it, until it returns.
	Input ipc.Payload
	// From is the Left of an earlier call, which is the input in place of Input; nil for none.
	From RemoteValue
	// Leave permits the executor to leave a large result outside of this process for another call
	// to take, set Left to it, and return an empty payload.
	Leave bool
	Left  RemoteValue
	// Avoid names the machines on which attempts of this call have failed. One of them gets
	// this attempt only if no other machine can take it.
	Avoid []string
	// Admit asks the circuit breaker that the node has for a machine. The executor calls it
	// before it sends the attempt there, and again if that machine did not take the attempt and
	// another one is to get it. If the result is an error, the machine must be left alone; if
	// that holds for all machines, it is the error of the call.
	Admit func(machine string) error
}

// RemoteValue is a value that an [Executor] has left outside of this process. Release deletes it;
// calls that take it have returned then.
type RemoteValue interface{ Release() }

// WithExecutor makes nodes run on other machines if their manifest names a host; see
// [Executor]. Without it, [New] refuses such nodes.
func WithExecutor(executor Executor) Option {
	return func(o *options) error { o.executor = executor; return nil }
}

// WithLogger sets the logger of the runner. What workers log, and what they write to
// their standard output and error, goes there as well, under the node's name. The
// default discards everything.
func WithLogger(logger hclog.Logger) Option {
	return func(o *options) error { o.logger = logger; return nil }
}

// WithSlog is [WithLogger] for the standard library's logger. The levels correspond, and
// hclog's trace is 4 below [slog.LevelDebug]. The names of the parts that log, for instance
// a node's id, are the attribute "logger". Workers send only records of the lowest level that
// is enabled when they start.
func WithSlog(logger *slog.Logger) Option {
	return func(o *options) error {
		if logger == nil {
			return NewError(KindManifest, "WithSlog takes a logger")
		}
		sink := slogSink{logger.Handler()}
		bridge := hclog.NewInterceptLogger(&hclog.LoggerOptions{Output: io.Discard, Level: sink.level()})
		bridge.RegisterSink(sink)
		o.logger = bridge
		return nil
	}
}

// slogSink passes records of hclog to a handler of slog.
type slogSink struct{ handler slog.Handler }

// slogLevels are the levels of hclog, lowest first.
var slogLevels = []struct {
	from hclog.Level
	to   slog.Level
}{
	{hclog.Trace, slog.LevelDebug - 4},
	{hclog.Debug, slog.LevelDebug},
	{hclog.Info, slog.LevelInfo},
	{hclog.Warn, slog.LevelWarn},
	{hclog.Error, slog.LevelError},
}

// level returns the lowest level that is enabled.
func (s slogSink) level() hclog.Level {
	for _, l := range slogLevels {
		if s.handler.Enabled(context.Background(), l.to) {
			return l.from
		}
	}
	return hclog.Off
}

// Accept implements [hclog.SinkAdapter].
func (s slogSink) Accept(name string, level hclog.Level, msg string, args ...any) {
	to := slog.LevelInfo // of a record without a level
	for _, l := range slogLevels {
		if l.from == level {
			to = l.to
		}
	}
	ctx := context.Background()
	if !s.handler.Enabled(ctx, to) {
		return
	}
	record := slog.NewRecord(time.Now(), to, msg, 0)
	if name != "" {
		record.AddAttrs(slog.String("logger", name))
	}
	for len(args) > 1 {
		value := args[1]
		if format, ok := value.(hclog.Format); ok && len(format) > 0 {
			value = fmt.Sprintf(fmt.Sprint(format[0]), format[1:]...)
		}
		record.AddAttrs(slog.Any(fmt.Sprint(args[0]), value))
		args = args[2:]
	}
	if len(args) == 1 {
		record.AddAttrs(slog.Any(hclog.MissingKey, args[0]))
	}
	_ = s.handler.Handle(ctx, record) // the handler's own affair, as in package slog
}

// WithPolicy sets the retry policy of nodes whose manifest sets none. The default is
// [retry.Default].
func WithPolicy(policy retry.Policy) Option {
	return func(o *options) error {
		if err := policy.Validate(); err != nil {
			return Wrap(err, KindManifest, "WithPolicy")
		}
		o.policy = policy
		return nil
	}
}

// WithBreaker configures the circuit breakers of nodes whose manifest does not. By
// default a breaker opens for 30 s after 5 consecutive operations failed.
func WithBreaker(config retry.BreakerConfig) Option {
	return func(o *options) error {
		if err := config.Validate(); err != nil {
			return Wrap(err, KindManifest, "WithBreaker")
		}
		o.breaker = config
		return nil
	}
}

// WithBreakerWait makes calls that the open circuit breaker of a node refuses wait for its
// next probes instead of failing, as WaitWhenOpen of [NodePolicy] says. It suits work that
// is done in one go, such as a batch of files, of which the rest should not fail because of
// a few in a row.
func WithBreakerWait() Option {
	return func(o *options) error { o.breakerWait = true; return nil }
}

// WithOrderedMaps makes results hold an [ipc.Object] in place of each map[string]any, so
// that the keys are in the order that they have in Python. This applies to [Runner.Run],
// [Runner.RunShared], [Node.Call] and streams, not to what Go nodes and interceptors of calls
// get. It makes decoding maps slower.
//
// Inputs need no option: an [ipc.Object] in an input arrives in Python as a dict with the
// same order, and so do the params of a manifest.
func WithOrderedMaps() Option {
	return func(o *options) error { o.orderedMaps = true; return nil }
}

// WithNode registers a Go function as the implementation of a node type. It takes
// precedence over a Python node of the same name, so a test can do without Python: see
// [NodeFunc] and package runnertest. A node type can be registered once.
func WithNode(nodeType string, fn NodeFunc) Option {
	return func(o *options) error {
		if nodeType == "" || fn == nil {
			return NewError(KindManifest, "WithNode takes a node type and a function")
		}
		if _, ok := o.nodes[nodeType]; ok {
			return NewError(KindManifest, fmt.Sprintf("WithNode was given the node type %q twice", nodeType))
		}
		o.nodes[nodeType] = fn
		return nil
	}
}

// WithEvents adds a function that is called with each [Event]. It runs on the goroutine
// on which the event happens, for instance that of a call, so it must return quickly
// and be safe for concurrent use. Several functions are called in the order in which they
// were added.
func WithEvents(fn func(Event)) Option {
	return func(o *options) error {
		former := o.events
		if former == nil || fn == nil {
			o.events = fn
			return nil
		}
		o.events = func(e Event) {
			former(e)
			fn(e)
		}
		return nil
	}
}

// WithTracerProvider makes OpenTelemetry spans: of each run and stream, of each call of a node,
// and of each attempt. The span in the context of the caller is their parent. Python nodes get
// the context of their attempt by gophersnake.trace_context, and the log records of their calls
// have it. docs/observability.md lists the attributes and events.
//
// A run or stream has spans of its first 128 calls; further ones that fail are events. Without
// this option, nothing is spent on traces. With the provider of package
// go.opentelemetry.io/otel/trace/noop, there are no spans, but nodes get the context of the
// caller.
func WithTracerProvider(provider trace.TracerProvider) Option {
	return func(o *options) error {
		if provider == nil {
			return NewError(KindManifest, "WithTracerProvider takes a provider")
		}
		o.tracers = provider
		return nil
	}
}

// Quantity is what a [Measurement] measures.
type Quantity int

const (
	// CallTime is the time of an operation of a node, with its retries: of a call, or of the end
	// of a stream for a stateful node.
	CallTime Quantity = iota
	// QueueTime is how long an attempt waited for a worker.
	QueueTime
	// StartTime is the time from the start of a worker's process until it was ready.
	StartTime
)

// Measurement is a time that a [Runner] has measured.
type Measurement struct {
	Node     string
	Quantity Quantity
	Took     time.Duration
	// Err is the error of an operation that failed.
	Err error
}

// WithMeasurements adds a function that is called with each [Measurement], for instance to fill
// a histogram. The context has the span of the operation, if there is one. The function runs on
// the goroutine of the call, so it must return quickly and be safe for concurrent use. Several
// functions are called in the order in which they were added.
func WithMeasurements(fn func(context.Context, Measurement)) Option {
	return func(o *options) error {
		if fn == nil {
			return NewError(KindManifest, "WithMeasurements takes a function")
		}
		former := o.measure
		o.measure = fn
		if former != nil {
			o.measure = func(ctx context.Context, m Measurement) {
				former(ctx, m)
				fn(ctx, m)
			}
		}
		return nil
	}
}

// measures returns what takes the measurements of a node's calls, nil if there is nothing.
func (o *options) measures(node string) *tracing.Measure {
	measure := o.measure
	if measure == nil {
		return nil
	}
	return &tracing.Measure{
		Took: func(ctx context.Context, took time.Duration, err error) {
			measure(ctx, Measurement{Node: node, Quantity: CallTime, Took: took, Err: err})
		},
		Queued: func(ctx context.Context, queued time.Duration) {
			measure(ctx, Measurement{Node: node, Quantity: QueueTime, Took: queued})
		},
	}
}

// WithPython names the Python interpreter: a path, a command, or a version such as
// "3.12". It takes precedence over the manifest and over environment variables.
func WithPython(interpreter string) Option {
	return func(o *options) error { o.python = interpreter; return nil }
}

// WithSystemPython uses the interpreter as it is, instead of an environment built for
// the pipeline. Everything that the pipeline requires must be installed, else the start
// fails.
func WithSystemPython() Option {
	return func(o *options) error { o.systemPython = true; return nil }
}

// WithCacheDir sets the folder that keeps the environments and the worker's Python
// package. The default is a folder in the user's cache folder; see [CacheDir].
func WithCacheDir(dir string) Option {
	return func(o *options) error { o.cacheDir = dir; return nil }
}

// WithBuildProgress sets a function that is called with the progress of the build of
// the pipeline's environment, for each line that the installer prints. Calls do not
// overlap. It is not called if the cache folder has the environment already.
func WithBuildProgress(fn func(BuildProgress)) Option {
	return func(o *options) error {
		o.progress = nil
		if fn != nil {
			o.progress = func(p pyenv.Progress) { fn(BuildProgress(p)) }
		}
		return nil
	}
}

// WithPassEnv names variables of the host's environment that all workers get, besides
// those that are passed by default; docs/isolation.md lists these. In a name, * matches
// any text and ? any character. For the variables of a single node, use pass_env in the
// manifest.
func WithPassEnv(names ...string) Option {
	return func(o *options) error {
		for _, name := range names {
			if name == "" || strings.ContainsAny(name, "=/[]\\\x00") {
				return NewError(KindManifest, fmt.Sprintf("WithPassEnv takes names of environment variables and patterns such as AWS_*, not %q", name))
			}
		}
		o.passEnv = append(o.passEnv, names...)
		return nil
	}
}

// DefaultSharedMemory is the default of [WithSharedMemory], in bytes.
const DefaultSharedMemory = 4 << 30

// WithSharedMemory limits the shared memory, in bytes, that each worker may use for its
// results, and that the runner may use for inputs and for copies of what isolated workers
// return or are sent. If the limit is reached, calls wait
// up to 10 s until values are released. A worker that sends more than its limit is ended;
// see docs/limits.md for the number of segments. A limit of 0 disables shared memory: large
// values are then copied through the socket, up to 4 GiB for each result. Otherwise a
// result has at most as many bytes outside of shared memory as the limit, or 64 MiB. Other limits must be at least 1 MiB. The
// option has no effect on systems other than Linux, which use no shared memory.
func WithSharedMemory(limit int64) Option {
	return func(o *options) error {
		if limit < 0 || limit > 0 && limit < minSharedMemory {
			return NewError(KindManifest, fmt.Sprintf("WithSharedMemory takes 0 or at least %d bytes, not %d", minSharedMemory, limit))
		}
		o.sharedMemory = limit
		return nil
	}
}

const minSharedMemory = 1 << 20
