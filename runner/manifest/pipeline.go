package manifest

import (
	"io/fs"
	"time"

	"github.com/gophersnake/gophersnake/ipc"
)

// Version is the version of the manifest format that this package reads.
const Version = "v1"

// Pipeline is a pipeline as its manifest describes it. [Load], [LoadFS] and [Parse] return
// a valid one with all defaults filled in. Check one that is made in Go code with
// [Pipeline.Validate].
type Pipeline struct {
	// Version is always [Version].
	Version string
	// Metadata is the manifest's free map, with values as in [Node].Params.
	Metadata map[string]any
	// Name is metadata.name, or else the file's name without its extension.
	Name string
	// File is the manifest's file as the caller named it; empty if there is none.
	File string
	// Base is the absolute folder that the manifest's relative paths start from;
	// empty means the working directory. With Files it is the name of a folder in these.
	Base string
	// Files are the files of a pipeline that [LoadFS] has loaded; nil if they are those of
	// the operating system. A runner unpacks them.
	Files fs.FS
	// Requirements are pip requirement lines.
	Requirements []string
	// Interpreter is the name or path of the Python interpreter; empty means any.
	Interpreter string
	// Python is the code of the nodes that do not name their own:
	// path.py[:Object] or package.module[:Object].
	Python string
	// Nodes are the nodes in the manifest's order; there is at least one.
	Nodes []Node
	// Connections are the connections in the manifest's order.
	Connections []Connection
	// Notes name the fields of the document that have no effect, and say why.
	Notes []Problem
}

// Node returns the node with the given id, or nil. The node is part of the
// pipeline, not a copy.
func (p *Pipeline) Node(id string) *Node {
	for i := range p.Nodes {
		if p.Nodes[i].ID == id {
			return &p.Nodes[i]
		}
	}
	return nil
}

// Node is one node of a pipeline. Make one with [NewNode], which fills in the
// defaults; the zero Node is not valid.
type Node struct {
	// ID is the name of the node, unique in its pipeline: letters, digits, _ and
	// -, not beginning with -.
	ID string
	// Type is the name of the Python @node, or of a Go function.
	Type string
	// Python is the code of the node, as in [Pipeline].Python; empty means the
	// pipeline's.
	Python string
	// Wasm is the module of WebAssembly that the node is; nil if it is none.
	Wasm *Wasm
	// Command is the executable that the node is; nil if it is none.
	Command *Command
	// Requirements are pip requirement lines of the node, in addition to those of the
	// pipeline. A line replaces the pipeline's lines for the same package.
	Requirements []string
	// Interpreter is the node's Python interpreter; empty means the pipeline's.
	Interpreter string
	// Output says that the values of the node are part of the result even if a connection
	// leads away from it.
	Output bool
	// Params are the node's keyword arguments: nil, bool, int64, uint64 (only
	// beyond int64), float64, string, []any and map[string]any. In a Pipeline made
	// in Go they may be any value that can be sent to a worker.
	Params map[string]any
	// order holds the params as the manifest has them; see OrderedParams.
	order ipc.Object
	// Workers says how many workers the node has and how long each serves.
	Workers Workers
	// Timeout is the deadline of each call; 0 means none.
	Timeout time.Duration
	// SetupTimeout is the deadline for a worker to start: to import the code and
	// to run setup().
	SetupTimeout time.Duration
	// Retry is nil if the manifest does not set it: then the runner's policy holds.
	Retry *Retry
	// Breaker is nil if the manifest does not set it: then the runner's breaker holds.
	Breaker *Breaker
	// Idempotent says that a call may run again even if it may have run already.
	Idempotent bool
	// Limits are the limits of each worker and of the queue.
	Limits Limits
	// Env is added to the workers' environment.
	Env map[string]string
	// PassEnv names variables that the workers get from the host's environment, in
	// addition to the harmless ones; * stands for any text and ? for any character.
	PassEnv []string
	// Isolation restricts the workers; nil means the rights of the host's user.
	Isolation *Isolation
	// Container is the container that each worker runs in; nil means none.
	Container *Container
	// Host is the machine that the node runs on, or the label of several; nil means this one.
	Host *Host
	// dockerEnv is the environment that RemoteMedia's field for a container gives.
	dockerEnv map[string]string
	// Position is the node's position in the manifest.
	Position Position
}

// The default deadlines of a node.
const (
	// DefaultTimeout is the deadline of a call.
	DefaultTimeout = 5 * time.Minute
	// DefaultSetupTimeout is the deadline for a worker to start.
	DefaultSetupTimeout = 2 * time.Minute
)

// NewNode returns a node with the defaults: [DefaultWorkers], [DefaultTimeout],
// [DefaultSetupTimeout], idempotent, no limits, no isolation, and the runner's
// retry policy and breaker.
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

// Workers says how many workers a node has, and how long each of them serves.
// [DefaultWorkers] returns the defaults.
type Workers struct {
	// Min workers are always kept ready; up to Max run under load.
	Min, Max int
	// Spare is the number of additional workers that are ready to replace one that
	// dies.
	Spare int
	// ScaleAfter is how long a call is queued before a worker beyond Min is started
	// for it.
	ScaleAfter time.Duration
	// IdleTimeout is how long a worker beyond Min may be idle before it is stopped;
	// 0 means forever.
	IdleTimeout time.Duration
	// MaxAge is how long a worker serves before it is replaced; 0 means forever.
	MaxAge time.Duration
	// MaxCalls is how many calls a worker serves before it is replaced; 0 means any
	// number.
	MaxCalls int
	// ForkServer makes the host fork workers from a process that has imported the
	// node's code, instead of starting an interpreter for each.
	ForkServer bool
	// Threads is how many calls of a plain Python node may run at once in threads of one
	// worker, at most 256; 0 means what the node itself declares, which is 1 by default.
	Threads int
}

// DefaultWorkers returns the defaults of a manifest's workers: one worker and one
// spare. Workers beyond the minimum are started after a call was queued for 100 ms,
// and stopped after they were idle for 5 minutes.
func DefaultWorkers() Workers {
	return Workers{Min: 1, Max: 1, Spare: 1, ScaleAfter: 100 * time.Millisecond, IdleTimeout: 5 * time.Minute}
}

// Limits are the limits of each worker of a node, and of the queue of calls that
// wait for one. 0 means no limit; for Memory, OpenFiles and Threads of an isolated node it
// means a default.
type Limits struct {
	// Memory limits the address space, in bytes: further allocations fail. A worker
	// whose files in memory exceed it is killed.
	Memory int64
	// Resident limits the memory in use, in bytes, including files in memory: a worker
	// that exceeds it is killed. One that exceeds ResidentSoft is replaced after its call.
	Resident, ResidentSoft int64
	// CPUTime limits the processor time of a call: the worker is killed beyond it.
	CPUTime time.Duration
	// OpenFiles limits the number of open file descriptors.
	OpenFiles int
	// Threads limits the number of threads of the worker and its processes together: the
	// worker is killed beyond it, or, in a cgroup, further ones are refused.
	Threads int
	// Result limits the size of one result, in bytes.
	Result int64
	// Queue limits the number of queued calls.
	Queue int
	// QueueWait limits the time that a call is queued.
	QueueWait time.Duration
}

// AnyProcesses is the value of [Isolation].Processes that allows any number.
const AnyProcesses = -1

// Isolation restricts the workers of a node to less than the rights of the host's
// user. The zero Isolation is the strictest: it allows only what every worker needs.
type Isolation struct {
	// Read and Write are files and folders that the workers may read, or read and
	// change, in addition to Python, the system's libraries and the pipeline's
	// folder, which they may read. Relative ones are in the pipeline's folder.
	Read, Write []string
	// Network allows sockets.
	Network bool
	// Signals allows signals to other processes.
	Signals bool
	// Processes is how many additional processes and threads each worker may have at
	// a time. 0 allows no process and as many threads as Limits.Threads; [AnyProcesses]
	// allows any number of processes with as many threads together.
	Processes int
	// CPUs is how many CPUs each worker may use at a time; 0 means all.
	CPUs float64
}

// RetryMode says how the delay changes from retry to retry.
type RetryMode string

// The modes of [Retry].
const (
	RetryNone        RetryMode = "none"        // no retries
	RetryFixed       RetryMode = "fixed"       // the same delay before each retry
	RetryExponential RetryMode = "exponential" // each delay is a multiple of the one before
)

// Retry is a node's retry policy. [DefaultRetry] returns the defaults.
type Retry struct {
	// Mode says how the delay changes. If it is [RetryNone], the other fields have
	// no meaning.
	Mode RetryMode
	// MaxAttempts is the number of retries after the first attempt. It has the name
	// of the key in manifests.
	MaxAttempts int
	// Base is the delay before the first retry, or before each if Mode is
	// [RetryFixed].
	Base time.Duration
	// Max is the upper limit of each delay; 0 means no limit.
	Max time.Duration
	// Multiplier is the factor from each delay to the next.
	Multiplier float64
	// Jitter spreads each delay by ± this fraction of it, between 0 and 1.
	Jitter float64
	// Budget is the time within which retries may start; 0 means no limit.
	Budget time.Duration
	// On restricts the retries to these kinds of errors; nil means all that are
	// retryable.
	On []string
	// Never are Python exceptions that are not retried, as names of their classes or of
	// classes that these inherit from. The names of modules may be left out.
	Never []string
}

// DefaultRetry returns the defaults of a manifest's retry: three retries, after 100,
// 200 and 400 ms. 400 ms is the longest delay of further retries too.
func DefaultRetry() Retry {
	return Retry{
		Mode:        RetryExponential,
		MaxAttempts: 3,
		Base:        100 * time.Millisecond,
		Max:         400 * time.Millisecond,
		Multiplier:  2,
	}
}

// Breaker is a node's circuit breaker. [DefaultBreaker] returns the defaults.
type Breaker struct {
	// Disabled says that the node has no breaker. If it is true, the other fields
	// have no meaning.
	Disabled bool
	// Failures is the number of failed operations in a row that opens the breaker.
	Failures int
	// CoolDown is how long the breaker stays open before it admits probes.
	CoolDown time.Duration
	// Probes is how many operations may run at once while the breaker is half-open.
	Probes int
	// Ignore are Python exceptions that the breaker does not count if a call raises them,
	// named like those of [Retry].Never.
	Ignore []string
}

// DefaultBreaker returns the defaults of a manifest's breaker: it opens after five
// failures, for 30 s, and then admits one probe.
func DefaultBreaker() Breaker {
	return Breaker{Failures: 5, CoolDown: 30 * time.Second, Probes: 1}
}

// Connection passes the result of one node to another.
type Connection struct {
	// From and To are the ids of the nodes.
	From, To string
	// Port is the keyword argument that receives the value. It may be empty if To has
	// no other input, or if no connection to it has a port: To then takes the values of
	// all of them one by one.
	Port string
	// Fuse means that one worker runs both nodes, one after the other, and hands the value over as
	// an object of Python. See the package comment for what both nodes must have in common.
	Fuse bool
	// Position is the connection's position in the manifest.
	Position Position
}

// Position is a position in the manifest's text. Line and Column are counted from
// 1, columns in characters. The zero Position means unknown.
type Position struct{ Line, Column int }
