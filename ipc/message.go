package ipc

import (
	"fmt"

	"github.com/vmihailenco/msgpack/v5"
)

// SecretSize is the length of the per-spawn secret in bytes.
const SecretSize = 32

// Hello is a worker's first word.
type Hello struct {
	Protocol       int    `msgpack:"protocol"`
	Package        string `msgpack:"package"`
	Python         string `msgpack:"python"`
	Implementation string `msgpack:"implementation"`
	PID            int    `msgpack:"pid"`
}

// Setup tells a worker which node to serve.
type Setup struct {
	Node string `msgpack:"node"`
	// Base is the absolute folder that Python paths are relative to.
	Base string `msgpack:"base"`
	// Python is path.py[:Object] or package.module[:Object].
	Python string `msgpack:"python"`
	// NodeType is looked up in the module where Python names no object.
	NodeType string         `msgpack:"node_type"`
	Params   map[string]any `msgpack:"params"`
	// Ports names the keyword arguments that inputs are handed to; it is empty
	// where the node has one input or none.
	Ports  []string    `msgpack:"ports"`
	Limits SetupLimits `msgpack:"limits"`
	// Shared is nil where no memory is shared.
	Shared *SetupShared `msgpack:"shared"`
	// Window is what a call may send that the supervisor has not credited yet.
	Window Window `msgpack:"window"`
	// Idempotent says that a call may be made again.
	Idempotent bool `msgpack:"idempotent"`
	// Begun says that the worker counts what it has begun; see the package comment.
	Begun    bool   `msgpack:"begun"`
	LogLevel string `msgpack:"log_level"`
	// Isolation is what the worker may do, nil where that is all that its user may.
	Isolation *SetupIsolation `msgpack:"isolation"`
}

// SetupIsolation tells a worker how it is isolated, so that it can say what refused
// it something. It does not isolate it.
type SetupIsolation struct {
	// Read and Write are the files and folders that it may read, and change, besides
	// those of the system and its temporary folder.
	Read  []string `msgpack:"read" json:"read"`
	Write []string `msgpack:"write" json:"write"`
	// Network, Signals and Processes are as in package isolation.
	Network   bool `msgpack:"network" json:"network"`
	Signals   bool `msgpack:"signals" json:"signals"`
	Processes int  `msgpack:"processes" json:"processes"`
}

// Window bounds the items that are on their way: those of one call that have been
// sent and not been credited. One item may always be.
type Window struct {
	Items int `msgpack:"items"`
	Bytes int `msgpack:"bytes"`
}

// DefaultWindow is the window where nothing else is said.
func DefaultWindow() Window { return Window{Items: 16, Bytes: 32 << 20} }

// SetupLimits are the limits of one worker: those of the wire, and those that the
// worker keeps by itself.
type SetupLimits struct {
	Limits `msgpack:",inline"`
	// Memory bounds the private writable memory of the process in bytes; 0 is no bound.
	Memory int64 `msgpack:"memory"`
	// Result bounds the bytes of one result; 0 is no bound.
	Result int64 `msgpack:"result"`
	// OpenFiles bounds the descriptors of the process; 0 is no bound.
	OpenFiles int `msgpack:"open_files"`
}

// SetupShared says which of a worker's buffers travel in shared memory.
type SetupShared struct {
	// From is the size in bytes from which they do.
	From int `msgpack:"from"`
	// Limit bounds the worker's own segments, in bytes.
	Limit int64 `msgpack:"limit"`
	// Wait is how many seconds a node waits for room.
	Wait float64 `msgpack:"wait"`
}

// Description is what a worker says of its node once it is ready.
type Description struct {
	Name    string      `msgpack:"name" json:"name"`
	Kind    string      `msgpack:"kind" json:"kind"`
	Flavour string      `msgpack:"flavour" json:"flavour"`
	Doc     string      `msgpack:"doc" json:"doc"`
	File    string      `msgpack:"file" json:"file"`
	Line    int         `msgpack:"line" json:"line"`
	Params  []Parameter `msgpack:"params" json:"params"`
	Inputs  []Parameter `msgpack:"inputs" json:"inputs"`
	Returns string      `msgpack:"returns" json:"returns"`
	// Many says that a call is answered by any number of items.
	Many bool `msgpack:"many" json:"many"`
	// Stateful says that the node has a state of its own in each stream, and
	// Restores that it can be had and given back.
	Stateful bool `msgpack:"stateful" json:"stateful"`
	Restores bool `msgpack:"restores" json:"restores"`
	// Concurrency is how many calls a worker works on at once.
	Concurrency int `msgpack:"concurrency" json:"concurrency"`
	// Batch is how many calls a worker takes together, 0 where it takes them one
	// by one; MaxWait is how many seconds the first one waits for the others.
	Batch   int     `msgpack:"batch" json:"batch,omitempty"`
	MaxWait float64 `msgpack:"max_wait" json:"max_wait,omitempty"`
	Python  string  `msgpack:"python" json:"python"`
	Package string  `msgpack:"package" json:"package"`
}

// Parameter is one parameter of a node's signature.
type Parameter struct {
	Name       string `msgpack:"name" json:"name"`
	Annotation string `msgpack:"annotation" json:"annotation,omitempty"`
	// Default is Python's repr of the default value, nil where there is none.
	Default  *string `msgpack:"default" json:"default,omitempty"`
	Required bool    `msgpack:"required" json:"required"`
}

// LogRecord is one record of Python's logging.
type LogRecord struct {
	Level   string         `msgpack:"level"`
	Logger  string         `msgpack:"logger"`
	Message string         `msgpack:"message"`
	Time    float64        `msgpack:"time"`
	Fields  map[string]any `msgpack:"fields"`
}

// Progress is a node's word on long work.
type Progress struct {
	Message string `msgpack:"message"`
	// Fraction is between 0 and 1, nil where it is not known.
	Fraction *float64 `msgpack:"fraction"`
}

// messageDepth bounds the nesting of a message. It is not for the limits on
// values to say: a chain of exceptions may be longer than a value is deep.
const messageDepth = 256

// unmarshal reads a message body. The body is checked as a value first, so a
// length in it cannot ask for more memory than the frame has.
func unmarshal(f Frame, into any) error {
	if err := f.Check(f.Type.String(), Limits{Depth: messageDepth}); err != nil {
		return &ProtocolError{Reason: fmt.Sprintf("the body of a %s frame: %v", f.Type, err)}
	}
	if err := msgpack.Unmarshal(f.Body, into); err != nil {
		return &ProtocolError{Reason: fmt.Sprintf("the body of a %s frame: %v", f.Type, err)}
	}
	return nil
}
