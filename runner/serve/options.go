package serve

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/gophersnake/gophersnake/runner/telemetry/metrics"
)

// Option configures a [Handler].
type Option func(*options)

type options struct {
	maxBody int64
	stall   time.Duration
	debug   bool
	initial []Token
	rate    limits
	queue   int
	memory  int64
	hosts   []string
	formats []Format
	failed  func(Failure)
	keys    KeyLimits
	monitor *Monitor
	page    bool
	admin   bool

	machines func(context.Context) []Machine // of a cluster; nil without one
	jobs     Jobs                            // nil without jobs

	protocols []Protocol
	// propagates says that runs get the trace context of the client.
	propagates bool
	tracer     trace.Tracer // nil without spans
	metrics    *metrics.Metrics
}

// The defaults of the options.
const (
	DefaultMaxBody      = 64 << 20
	DefaultStallTimeout = 30 * time.Second
	DefaultQueue        = 4096
	DefaultMemory       = 1 << 30
)

func newOptions(opts []Option) options {
	o := options{
		maxBody: DefaultMaxBody, stall: DefaultStallTimeout, formats: builtinFormats(), failed: func(Failure) {},
		queue: DefaultQueue, memory: defaultMemory(),
		keys: KeyLimits{Keys: 10_000, Bytes: 64 << 20, Age: 10 * time.Minute},
	}
	for _, opt := range opts {
		opt(&o)
	}
	if o.metrics == nil {
		o.metrics = metrics.New()
	}
	return o
}

// WithMaxBody limits the size of the body of a request, in bytes, and that of each line of a
// stream of inputs. A larger one is refused with status 413. The default is 64 MiB.
func WithMaxBody(bytes int64) Option { return func(o *options) { o.maxBody = bytes } }

// WithStallTimeout limits how long a client may neither send the rest of a body nor take what
// is written to it. It does not apply to the time between the lines of a stream of inputs.
// The default is 30 s.
func WithStallTimeout(d time.Duration) Option { return func(o *options) { o.stall = d } }

// WithDebug makes problem documents contain everything that is known about an error: its
// traceback, what the worker wrote to its standard error, and the paths of files.
func WithDebug() Option { return func(o *options) { o.debug = true } }

// WithTokens requires the header "Authorization: Bearer SECRET" with that of one of the tokens.
// Requests without a token get a short answer from /livez and /readyz, and status 401 otherwise.
func WithTokens(tokens ...Token) Option {
	return func(o *options) { o.initial = append(o.initial, tokens...) }
}

// WithRate limits the calls in a second of each token that has no rate of its own or, if no token
// is required, of each client address. Further ones get status 429. Burst is how many of them
// may come at once; if it is 0, it is the number of one second. By default there is no limit.
func WithRate(perSecond float64, burst int) Option {
	return func(o *options) { o.rate = limits{perSecond, burst} }
}

// WithQueue limits how many requests wait for a pipeline that is busy. It is lower for a pipeline
// with a node that has a lower limits.queue. Further requests get status 429; those that wait
// and those that come are refused so that each client keeps its share of the queue. The
// default is 4096.
func WithQueue(length int) Option { return func(o *options) { o.queue = length } }

// WithMemory limits the bytes of all bodies and answers that are held at a time, in addition to
// [WithMaxBody] for each of them. A request that needs more gets status 503. What is decoded
// from a body may take several times as much. The default is 1 GiB, or a quarter of the memory
// that the cgroup of the process may use, if that is less.
func WithMemory(bytes int64) Option { return func(o *options) { o.memory = bytes } }

// WithHosts refuses requests whose Host header names none of these hosts, with status 403. It
// protects a service that listens on the loopback interface from web pages whose name was
// made to resolve to that (DNS rebinding). "localhost" stands for all loopback addresses, too.
func WithHosts(hosts ...string) Option {
	return func(o *options) { o.hosts = append(o.hosts, hosts...) }
}

// WithFormats adds formats of bodies. If several formats have the same content type, the last
// one counts.
func WithFormats(formats ...Format) Option {
	return func(o *options) { o.formats = append(o.formats, formats...) }
}

// Failure is a request that failed.
type Failure struct {
	RequestID, Method, Path string
	// Token is the name of the client's token, empty if it has none.
	Token string
	// Status is that of the answer, also if it is a part of a stream.
	Status int
	Err    error
}

// WithFailures sets a function that is called with each failed request, for instance to log
// it. The handler waits for it, and calls it concurrently. Requests whose clients have left
// do not count as failed.
func WithFailures(fn func(Failure)) Option { return func(o *options) { o.failed = fn } }

// KeyLimits bound what a [Handler] keeps for the header Idempotency-Key.
type KeyLimits struct {
	// Keys is the number of keys. If it is reached, the key that was answered first is
	// forgotten, and if none has been answered, requests with a new key get status 503.
	Keys int
	// Bytes is the size of all answers. The key of an answer that is larger than a quarter
	// of this is kept without the answer: a repeated request gets status 409.
	Bytes int
	// Age is how long a key is kept after its answer.
	Age time.Duration
}

// WithKeyLimits sets the limits for the header Idempotency-Key. By default there are 10,000 keys
// and 64 MiB of answers, which are kept for 10 minutes.
func WithKeyLimits(limits KeyLimits) Option { return func(o *options) { o.keys = limits } }

// WithMonitor shows what a monitor keeps in GET /v1/status: the rate and the duration of calls,
// and the log of each node. The runners must have been made with its options; see
// [Monitor.Options].
func WithMonitor(m *Monitor) Option { return func(o *options) { o.monitor = m } }

// WithPage adds a page at / for browsers. It shows the pipelines and their nodes live, and calls
// them. If requests need a token, the page asks for one, and keeps a session for it in a cookie.
func WithPage() Option { return func(o *options) { o.page = true } }

// WithAdmin lets clients reload the code of pipelines and restart nodes, if they need no token and
// [WithHosts] restricts the handler to the loopback interface. If tokens are required, it has no
// effect: then those with Admin may.
func WithAdmin() Option { return func(o *options) { o.admin = true } }
