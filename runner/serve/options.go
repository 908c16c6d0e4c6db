package serve

import (
	"crypto/sha256"
	"time"
)

// Option configures a [Handler].
type Option func(*options)

type options struct {
	maxBody int64
	stall   time.Duration
	debug   bool
	tokens  [][sha256.Size]byte
	hosts   []string
	formats []Format
	failed  func(Failure)
	keys    KeyLimits

	protocols []Protocol
}

// The defaults of the options.
const (
	DefaultMaxBody      = 64 << 20
	DefaultStallTimeout = 30 * time.Second
)

func newOptions(opts []Option) options {
	o := options{
		maxBody: DefaultMaxBody, stall: DefaultStallTimeout, formats: builtinFormats(), failed: func(Failure) {},
		keys: KeyLimits{Keys: 10_000, Bytes: 64 << 20, Age: 10 * time.Minute},
	}
	for _, opt := range opts {
		opt(&o)
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

// WithTokens requires the header "Authorization: Bearer TOKEN" with one of the tokens.
// Requests without a token get a short answer from /livez and /readyz, and status 401 otherwise.
func WithTokens(tokens ...string) Option {
	return func(o *options) {
		for _, token := range tokens {
			o.tokens = append(o.tokens, sha256.Sum256([]byte(token)))
		}
	}
}

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
