package runner

import (
	"fmt"

	"github.com/hashicorp/go-hclog"

	"github.com/gophersnake/gophersnake/retry"
	"github.com/gophersnake/gophersnake/runner/internal/pyenv"
)

// Option changes how [New] sets a Runner up.
type Option func(*options) error

type options struct {
	logger       hclog.Logger
	policy       retry.Policy
	breaker      retry.BreakerConfig
	nodes        map[string]NodeFunc
	events       func(Event)
	python       string
	systemPython bool
	cacheDir     string
	progress     func(pyenv.Progress)
	sharedMemory int64
	passEnv      []string
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

// nodePolicy is the policy of the nodes whose manifest says nothing of it.
func (o *options) nodePolicy() NodePolicy {
	return NodePolicy{Policy: o.policy, Breaker: &o.breaker, Idempotent: true}
}

// WithLogger sets the log that workers and nodes write to. The default
// discards it.
func WithLogger(logger hclog.Logger) Option {
	return func(o *options) error { o.logger = logger; return nil }
}

// WithPolicy sets the retry policy of the nodes whose manifest says nothing
// of it. The default is [retry.Default].
func WithPolicy(policy retry.Policy) Option {
	return func(o *options) error {
		if err := policy.Validate(); err != nil {
			return Wrap(err, KindManifest, "WithPolicy")
		}
		o.policy = policy
		return nil
	}
}

// WithBreaker sets up the circuit breakers of the nodes whose manifest says
// nothing of it. The default opens after 5 failed operations, for 30 s.
func WithBreaker(config retry.BreakerConfig) Option {
	return func(o *options) error {
		if err := config.Validate(); err != nil {
			return Wrap(err, KindManifest, "WithBreaker")
		}
		o.breaker = config
		return nil
	}
}

// WithNode gives a node type to a Go function. It comes before a Python node
// of the same name.
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

// WithEvents has the function called for each [Event], on the goroutine that
// brings it about: it must be quick and safe for concurrent use.
func WithEvents(fn func(Event)) Option {
	return func(o *options) error { o.events = fn; return nil }
}

// WithPython names the interpreter: a path, a command, or a version such as
// "3.12". It comes before what the manifest and the environment say.
func WithPython(interpreter string) Option {
	return func(o *options) error { o.python = interpreter; return nil }
}

// WithSystemPython uses the interpreter as it is, instead of an environment
// made for the pipeline. It must have all that the pipeline requires.
func WithSystemPython() Option {
	return func(o *options) error { o.systemPython = true; return nil }
}

// WithCacheDir sets the folder that keeps environments and the worker's Python
// package. The default is in the user's cache folder.
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

// DefaultSharedMemory is how much shared memory each worker may take for its
// results, and the runner for its inputs, in bytes.
const DefaultSharedMemory = 4 << 30

// WithSharedMemory bounds the shared memory of each worker, and that of the runner
// itself, in bytes. Where it is full, calls wait for room, for 10 s at most. 0 turns
// it off: then large values are copied through the socket. On systems other than
// Linux it is off.
func WithSharedMemory(limit int64) Option {
	return func(o *options) error {
		if limit < 0 || limit > 0 && limit < leastSharedMemory {
			return NewError(KindManifest, fmt.Sprintf("WithSharedMemory takes 0, or %d bytes and more, not %d", leastSharedMemory, limit))
		}
		o.sharedMemory = limit
		return nil
	}
}

const leastSharedMemory = 1 << 20
