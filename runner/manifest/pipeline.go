package manifest

import "time"

// Version is the version of the manifest format that this package reads.
const Version = "v1"

// Pipeline is a pipeline as its manifest describes it: all fields of one that
// [Load] or [Parse] returned are filled in and valid. One that is made in Go code
// is checked by [Pipeline.Validate].
type Pipeline struct {
	Version  string
	Metadata map[string]any
	// Name is metadata.name, else the file's name without its extension.
	Name string
	// File is the manifest's file as it was named, empty where there is none.
	File string
	// Base is the absolute folder that the manifest's relative paths start from;
	// empty stands for the working directory.
	Base string
	// Requirements are pip requirement lines.
	Requirements []string
	// Interpreter is the name or path of the Python interpreter, empty for any.
	Interpreter string
	// Python is where the node types are looked up whose nodes do not say:
	// path.py[:Object] or package.module[:Object].
	Python      string
	Nodes       []Node
	Connections []Connection
}

// Node is one node of a pipeline. Make one with [NewNode], which fills in the
// defaults; the zero Node is not valid.
type Node struct {
	ID     string
	Type   string
	Python string
	// Params holds nil, bool, int64, uint64 (beyond int64 only), float64,
	// string, []any and map[string]any. In a Pipeline made in Go it may hold any
	// value that a worker can be sent.
	Params  map[string]any
	Workers Workers
	// Timeout is the deadline of each call; 0 is none.
	Timeout time.Duration
	// SetupTimeout bounds the start of a worker: import and setup().
	SetupTimeout time.Duration
	// Retry is nil where the manifest says nothing of it.
	Retry *Retry
	// Breaker is nil where the manifest says nothing of it.
	Breaker *Breaker
	// Idempotent says that a call can be made again although it may have been
	// carried out already.
	Idempotent bool
	// Limits bound what the node takes.
	Limits Limits
	// Env is added to the workers' environment.
	Env map[string]string
	// PassEnv names variables of the host's environment that the workers get besides
	// the harmless ones; * and ? stand for any text and any character.
	PassEnv []string
	// Isolation is what the workers may do; nil is all that their user may.
	Isolation *Isolation
	Position  Position
}

// Workers is how many workers a node has, and how long each of them serves.
// [DefaultWorkers] returns the usual figures.
type Workers struct {
	// Min are kept ready, and up to Max are started under load.
	Min, Max int
	// Spare is how many more are ready to take the place of one that dies.
	Spare int
	// ScaleAfter is how long a call waits in line before a worker beyond Min is
	// started for it.
	ScaleAfter time.Duration
	// IdleTimeout ends a worker beyond Min that has had nothing to do for so long;
	// 0 is never.
	IdleTimeout time.Duration
	// MaxAge and MaxCalls replace a worker that has served for so long or so often;
	// 0 is never.
	MaxAge   time.Duration
	MaxCalls int
	// ForkServer has workers forked from a process that has imported the node's
	// code, instead of starting an interpreter for each.
	ForkServer bool
}

// Limits bound what a node's workers may take, each of them, and how many calls
// may wait for one. 0 is no bound.
type Limits struct {
	// Memory bounds the address space in bytes: what is beyond cannot be allocated.
	Memory int64
	// Resident bounds the memory that is in use, in bytes: a worker that has more
	// is ended. One that has more than ResidentSoft is replaced after its call.
	Resident, ResidentSoft int64
	// CPUTime bounds the processor time of a call.
	CPUTime time.Duration
	// OpenFiles bounds the open descriptors.
	OpenFiles int
	// Result bounds a single result in bytes.
	Result int64
	// Queue is how many calls may wait in line, and QueueWait how long each may.
	Queue     int
	QueueWait time.Duration
}

// RetryMode is how the delays between retries go on.
type RetryMode string

// The modes of retry.
const (
	RetryNone        RetryMode = "none"
	RetryFixed       RetryMode = "fixed"
	RetryExponential RetryMode = "exponential"
)

// Retry is a node's retry policy. [DefaultRetry] returns the usual figures.
type Retry struct {
	Mode RetryMode
	// MaxAttempts is the number of retries after the first attempt. It bears the
	// name that it has in manifests.
	MaxAttempts int
	// Base is the delay before the first retry; where Mode is fixed, before each.
	Base time.Duration
	// Max bounds each delay; 0 is no bound.
	Max time.Duration
	// Multiplier is what each further delay grows by.
	Multiplier float64
	// Jitter spreads each delay by ± this fraction of it.
	Jitter float64
	// Budget bounds the time in which retries may begin; 0 is no bound.
	Budget time.Duration
	// On narrows the retries to errors of these kinds; nil is all that are
	// retryable.
	On []string
}

// Breaker is a node's circuit breaker. [DefaultBreaker] returns the usual figures.
type Breaker struct {
	// Disabled says that the node has no breaker; the other fields mean nothing then.
	Disabled bool
	// Failures is how many failed operations in a row open the breaker.
	Failures int
	// CoolDown is how long it stays open.
	CoolDown time.Duration
	// Probes is how many operations may be under way at once while it is half-open.
	Probes int
}

// Connection hands the result of node From to node To.
type Connection struct {
	From, To string
	// Port is the keyword argument that takes the value; empty for the only
	// input of a node.
	Port     string
	Position Position
}

// Position is a place in the manifest's text, counted from 1; columns count
// characters. The zero Position is unknown.
type Position struct{ Line, Column int }

// The defaults of a node.
const (
	DefaultTimeout      = 5 * time.Minute
	DefaultSetupTimeout = 2 * time.Minute
)

// DefaultWorkers returns what a manifest's workers start from: one, with a spare.
// Those beyond the minimum are started when a call has waited for 100 ms, and end
// when they have been idle for 5 minutes.
func DefaultWorkers() Workers {
	return Workers{Min: 1, Max: 1, Spare: 1, ScaleAfter: 100 * time.Millisecond, IdleTimeout: 5 * time.Minute}
}

// NewNode returns a node with the defaults: [DefaultWorkers], [DefaultTimeout],
// [DefaultSetupTimeout], idempotent, no further limits, and the runner's own retry
// policy and breaker.
func NewNode(id, nodeType string) Node {
	return Node{
		ID:           id,
		Type:         nodeType,
		Workers:      DefaultWorkers(),
		Timeout:      DefaultTimeout,
		SetupTimeout: DefaultSetupTimeout,
		Idempotent:   true,
	}
}

// DefaultRetry returns the policy that a manifest's retry starts from: three
// retries, after 100, 200 and 400 ms.
func DefaultRetry() Retry {
	return Retry{
		Mode:        RetryExponential,
		MaxAttempts: 3,
		Base:        100 * time.Millisecond,
		Max:         10 * time.Second,
		Multiplier:  2,
	}
}

// DefaultBreaker returns the breaker that a manifest's breaker starts from: it
// opens after five failures, for 30 s, and then lets one operation probe.
func DefaultBreaker() Breaker {
	return Breaker{Failures: 5, CoolDown: 30 * time.Second, Probes: 1}
}

// Node returns the node of the given id, or nil.
func (p *Pipeline) Node(id string) *Node {
	for i := range p.Nodes {
		if p.Nodes[i].ID == id {
			return &p.Nodes[i]
		}
	}
	return nil
}
