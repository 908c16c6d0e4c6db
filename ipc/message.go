package ipc

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"time"
	"unicode/utf8"

	"github.com/vmihailenco/msgpack/v5"
)

// SecretSize is the length in bytes of the secret of one spawn.
const SecretSize = 32

// Hello is the first message of a worker.
type Hello struct {
	// Protocol is the version of the protocol, which must be [Version].
	Protocol int `msgpack:"protocol"`
	// Package is the version of the Python package gophersnake.
	Package string `msgpack:"package"`
	// Python is the version of the interpreter, and Implementation its name, such as
	// cpython.
	Python         string `msgpack:"python"`
	Implementation string `msgpack:"implementation"`
	PID            int    `msgpack:"pid"`
}

// Setup configures a worker: the node that it serves, and its limits.
type Setup struct {
	// Node is the id of the node in the manifest.
	Node string `msgpack:"node"`
	// Base is the absolute folder that Python paths are relative to.
	Base string `msgpack:"base"`
	// Python is path.py[:Object] or package.module[:Object].
	Python string `msgpack:"python"`
	// NodeType is looked up in the module if Python names no object.
	NodeType string `msgpack:"node_type"`
	// Params are the node's parameters by name.
	Params Object `msgpack:"params"`
	// Ports are the names of the keyword arguments that receive the inputs. It is empty
	// if the node has one input or none.
	Ports  []string    `msgpack:"ports"`
	Limits SetupLimits `msgpack:"limits"`
	// Shared is nil if no memory is shared.
	Shared *SetupShared `msgpack:"shared"`
	// Window bounds the items of a call that are not yet credited. The zero value stands
	// for [DefaultWindow].
	Window Window `msgpack:"window"`
	// Idempotent means that a call may be repeated after a failure.
	Idempotent bool `msgpack:"idempotent"`
	// Begun makes the worker count the calls that it has begun; see the package comment.
	Begun bool `msgpack:"begun"`
	// Polls lets the worker poll for the next call for a moment before it sleeps; see the
	// package comment. [Start] sets it.
	Polls bool `msgpack:"polls"`
	// Threads is how many threads of the worker may call the node at once; 0 means what the
	// node declares.
	Threads int `msgpack:"threads"`
	// Timeout is the deadline of each call in seconds, which the node can read; 0 for none.
	// Only the supervisor enforces it.
	Timeout float64 `msgpack:"timeout"`
	// LogLevel is the level from which log records are sent, such as info.
	LogLevel string `msgpack:"log_level"`
	// Isolation describes the sandbox of the worker, nil if it has none.
	Isolation *SetupIsolation `msgpack:"isolation"`
	// Members are the nodes of a fused chain, at most [MaxMembers], in the order in which a call
	// passes through them. It is empty for a worker of a single node. Node, Python, NodeType,
	// Params and Ports are then those of the first member.
	Members []SetupMember `msgpack:"members,omitempty"`
}

// SetupMember is one node of a fused chain; see the fields of the same names of [Setup].
type SetupMember struct {
	Node     string   `msgpack:"node"`
	Python   string   `msgpack:"python"`
	NodeType string   `msgpack:"node_type"`
	Params   Object   `msgpack:"params"`
	Ports    []string `msgpack:"ports"`
	Timeout  float64  `msgpack:"timeout"`
}

// SetupIsolation describes to a worker the sandbox that it already runs in, so that its
// errors can name what refused an operation.
type SetupIsolation struct {
	// Read and Write are the files and folders that the worker may read and change,
	// besides those of the system and its temporary folder.
	Read  []string `msgpack:"read" json:"read"`
	Write []string `msgpack:"write" json:"write"`
	// Network and Signals report whether the worker may use the network, and send
	// signals to processes outside its sandbox. Processes is how many more processes and
	// threads it may have: 0 for no process and any number of threads, -1 for any number
	// of both.
	Network   bool `msgpack:"network" json:"network"`
	Signals   bool `msgpack:"signals" json:"signals"`
	Processes int  `msgpack:"processes" json:"processes"`
}

// Window bounds the items of one call that the worker has sent and the supervisor has
// not yet credited, by their number and their size in bytes. One item of any size is
// always allowed.
type Window struct {
	Items int `msgpack:"items"`
	Bytes int `msgpack:"bytes"`
}

// DefaultWindow returns the window that is used if [Setup].Window is not set.
func DefaultWindow() Window { return Window{Items: 16, Bytes: 32 << 20} }

// SetupLimits are the limits of one worker: those of the wire, which both sides enforce,
// and those that the worker enforces.
type SetupLimits struct {
	Limits `msgpack:",inline"`
	// Memory bounds the private writable memory of the process in bytes; 0 means no bound.
	Memory int64 `msgpack:"memory"`
	// Result bounds the size of one result in bytes; 0 means no bound.
	Result int64 `msgpack:"result"`
	// Inline bounds the buffers of one frame that follow it on the socket, in bytes together.
	// If it is 0, [Start] sets it to [SetupShared].Limit, or to BufferBytes if no memory is
	// shared. It is at least 64 MiB, because small buffers are never in shared memory.
	Inline int64 `msgpack:"inline"`
	// OpenFiles bounds the open descriptors of the process; 0 means no bound.
	OpenFiles int `msgpack:"open_files"`
}

// SetupShared configures the shared memory that a worker owns.
type SetupShared struct {
	// From is the size in bytes from which a buffer travels in shared memory.
	From int `msgpack:"from"`
	// Limit bounds the total size of the worker's own segments in bytes.
	Limit int64 `msgpack:"limit"`
	// Segments bounds the number of the worker's own segments. [Start] sets it.
	Segments int `msgpack:"segments"`
	// Wait is how many seconds a node waits for room when the limit is reached.
	Wait float64 `msgpack:"wait"`

	// The fields below are the supervisor's own. The worker is not sent them.

	// Domain is the domain of the worker. Its other instances have the same.
	Domain Domain `msgpack:"-"`
	// Results is the domain of other workers that every result is sent to, if there are
	// any. They may see a result before they are sent it. If the worker is isolated, its
	// results are copied into memory of this domain, so that they need no further copy.
	Results *Domain `msgpack:"-"`
	// Arena provides the memory for such copies, and for those of values that other domains
	// send to the worker. Without one, these values go through the socket.
	Arena *Arena `msgpack:"-"`
}

// Description describes the node of a worker that is ready.
type Description struct {
	// Name is the node type.
	Name string `msgpack:"name" json:"name"`
	// Kind is "class" or "function".
	Kind string `msgpack:"kind" json:"kind"`
	// NodeKind is how the node returns its result: "value", "generator", "async" or
	// "async generator".
	NodeKind string `msgpack:"node_kind" json:"node_kind"`
	Doc      string `msgpack:"doc" json:"doc"`
	// File and Line locate the definition of the node.
	File string `msgpack:"file" json:"file"`
	Line int    `msgpack:"line" json:"line"`
	// Params are set once, by the manifest; Inputs are the arguments of each call.
	Params []Parameter `msgpack:"params" json:"params"`
	Inputs []Parameter `msgpack:"inputs" json:"inputs"`
	// Returns is the annotation of the return value. Output is the schema of a result, or of
	// each value if there are many.
	Returns string `msgpack:"returns" json:"returns"`
	Output  Schema `msgpack:"output" json:"output,omitempty"`
	// Many reports whether a call is answered by any number of items.
	Many bool `msgpack:"many" json:"many"`
	// Stateful reports whether the node has a separate state in each stream, and
	// Restores whether that state can be saved and restored.
	Stateful bool `msgpack:"stateful" json:"stateful"`
	Restores bool `msgpack:"restores" json:"restores"`
	// Concurrency is how many calls a worker works on at once.
	Concurrency int `msgpack:"concurrency" json:"concurrency"`
	// Batch is how many calls a worker takes together, 0 if it takes them one by one.
	// MaxWait is how many seconds the first call waits for the others.
	Batch   int     `msgpack:"batch" json:"batch,omitempty"`
	MaxWait float64 `msgpack:"max_wait" json:"max_wait,omitempty"`
	// Python is the version of the interpreter, and Package that of the Python package
	// gophersnake.
	Python  string `msgpack:"python" json:"python"`
	Package string `msgpack:"package" json:"package"`
	// Members describe the nodes of a fused chain, in their order. The other fields are then
	// those of its first member, but Returns and Output those of the last.
	Members []Description `msgpack:"members" json:"members,omitempty"`
}

// Parameter is one parameter of a node's signature.
type Parameter struct {
	Name       string `msgpack:"name" json:"name"`
	Annotation string `msgpack:"annotation" json:"annotation,omitempty"`
	// Default is Python's repr of the default value, nil if there is none.
	Default  *string `msgpack:"default" json:"default,omitempty"`
	Required bool    `msgpack:"required" json:"required"`
	// Schema is that of the annotation. For a batch node it is that of one input of a batch.
	Schema Schema `msgpack:"schema" json:"schema,omitempty"`
}

// Schema is a JSON Schema (2020-12) as JSON text. An empty one accepts every value, like {}.
// The keyword x-gophersnake names what JSON does not have: bytes, tensor, audio, image, table
// or json; x-dtype and x-shape are those of a tensor, x-columns those of a table.
type Schema []byte

// MarshalJSON returns the schema itself.
func (s Schema) MarshalJSON() ([]byte, error) {
	if len(s) == 0 {
		return []byte("{}"), nil
	}
	return s, nil
}

// UnmarshalJSON takes any JSON value; [Description.Check] checks that it is an object.
func (s *Schema) UnmarshalJSON(text []byte) error {
	*s = bytes.Clone(text)
	return nil
}

// check returns an error if the text is not a JSON object within the bounds of a schema.
func (s Schema) check(what string) error {
	err := first(
		violation(what, "the size of a schema", len(s), 0, MaxSchema),
		violation(what, "the depth of a schema", s.depth(), 0, MaxSchemaDepth),
	)
	if err == nil && len(s) > 0 && (s[0] != '{' || !json.Valid(s)) {
		return &ProtocolError{Reason: fmt.Sprintf("%s: the schema %.100q is not a JSON object", what, s)}
	}
	return err
}

// depth returns how deep the brackets in the text are nested.
func (s Schema) depth() int {
	depth, deepest, quoted := 0, 0, false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			depth++
			deepest = max(deepest, depth)
		case c == '}' || c == ']':
			depth--
		}
	}
	return deepest
}

// LogRecord is one record of Python's logging.
type LogRecord struct {
	// Level is the name of the level, such as warn.
	Level   string `msgpack:"level"`
	Logger  string `msgpack:"logger"`
	Message string `msgpack:"message"`
	// Time is in seconds since 1970.
	Time float64 `msgpack:"time"`
	// Call is the id of the call that wrote the record, 0 if the worker does not know it.
	Call uint64 `msgpack:"call"`
	// Member is the index of the node that wrote it in a fused chain.
	Member int            `msgpack:"member"`
	Fields map[string]any `msgpack:"fields"`
}

// Progress reports the progress of a node during setup or a call.
type Progress struct {
	Message string `msgpack:"message"`
	// Fraction is between 0 and 1, nil if it is unknown.
	Fraction *float64 `msgpack:"fraction"`
	// Member is the index of the node that reports it in a fused chain.
	Member int `msgpack:"member"`
	// Calls are the ids of the calls that it is about: one, or all of a batch. It is empty if
	// there is none, as in setup.
	Calls []uint64 `msgpack:"calls"`
}

// The limits of messages. Those of values do not apply: a chain of exceptions may be longer
// than a value is deep, and a message is always decoded.
const (
	messageDepth  = 256
	messageMemory = 32 << 20
)

// unmarshal decodes the body of a message. The body is checked as a value
// before, so that it does not make the decoder allocate much more memory than messageMemory.
func unmarshal(f frame, into any) error {
	err := f.Check(f.kind.String(), Limits{Depth: messageDepth, Decoded: messageMemory})
	if err == nil {
		err = msgpack.Unmarshal(f.Body, into)
	}
	if err != nil {
		return &ProtocolError{Reason: fmt.Sprintf("the body of a %s frame: %v", f.kind, err)}
	}
	return nil
}

// The bounds of what a worker says about itself and its node. A worker that exceeds one
// violates the protocol: its start fails. The Python package applies the same bounds to
// nodes when they are declared, and shortens long texts, so an honest node never exceeds
// them.
const (
	// MaxMembers bounds the nodes of a fused chain.
	MaxMembers = 256
	// MaxAtOnce bounds [Description].Batch and [Description].Concurrency.
	MaxAtOnce = 4096
	// MaxBatchWait bounds [Description].MaxWait.
	MaxBatchWait = time.Minute
	// MaxParameters bounds the number of params, and of inputs.
	MaxParameters = 1024
	// MaxName bounds the length of a name or version in bytes, MaxText that of an
	// annotation, a default or a path, and MaxDoc that of a docstring.
	MaxName = 1 << 10
	MaxText = 8 << 10
	MaxDoc  = 64 << 10
	// MaxSchema bounds the length of a schema in bytes, MaxSchemas that of all schemas of a
	// node together, and MaxSchemaDepth the levels of one.
	MaxSchema      = 64 << 10
	MaxSchemas     = 1 << 20
	MaxSchemaDepth = 64
)

// The bounds of what a worker says about a failure and in the log. Longer texts are cut, and
// further entries left out. The Python package cuts them first, and says so in the text.
const (
	// MaxMessage bounds a message, a traceback, a note or a hint in bytes: 64 Ki characters,
	// and the remark that there were more.
	MaxMessage = 257 << 10
	maxRecord  = 1 << 20 // bytes of a log record
	maxCauses  = 64
	maxNotes   = 50
	maxFrames  = 101 // those of a traceback, and the line of a syntax error
)

// MaxBases bounds [RemoteError].Bases; further ones are dropped.
const MaxBases = 64

// maxPID is the largest process id that a Linux kernel can be configured for.
const maxPID = 1 << 22

// violation returns an error if a value is not within its bounds. The comparison is false
// for NaN.
func violation[N int | float64](what, name string, value, least, most N) error {
	if value >= least && value <= most {
		return nil
	}
	return &ProtocolError{Reason: fmt.Sprintf("%s: %s is %v, not from %v to %v", what, name, value, least, most)}
}

// longText returns an error if a text has more bytes than its bound.
func longText(what, name, text string, most int) error {
	if len(text) <= most {
		return nil
	}
	return &ProtocolError{Reason: fmt.Sprintf("%s: %s has %d bytes, more than %d", what, name, len(text), most)}
}

// first returns the first error that is not nil.
func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// Check returns nil if all numbers and lengths in the description are within their bounds,
// and otherwise a *[ProtocolError] that names the value and its bound. [Start] calls it;
// callers need it only for descriptions that arrive in another way.
func (d *Description) Check() error {
	const what = "the description of the node"
	err := first(
		violation(what, "batch", d.Batch, 0, MaxAtOnce),
		violation(what, "max_wait", d.MaxWait, 0, MaxBatchWait.Seconds()),
		violation(what, "concurrency", d.Concurrency, 0, MaxAtOnce),
		violation(what, "line", d.Line, 0, math.MaxInt32),
		violation(what, "the number of params", len(d.Params), 0, MaxParameters),
		violation(what, "the number of inputs", len(d.Inputs), 0, MaxParameters),
		longText(what, "name", d.Name, MaxName),
		longText(what, "kind", d.Kind, MaxName),
		longText(what, "node_kind", d.NodeKind, MaxName),
		longText(what, "doc", d.Doc, MaxDoc),
		longText(what, "file", d.File, MaxText),
		longText(what, "returns", d.Returns, MaxText),
		longText(what, "python", d.Python, MaxName),
		longText(what, "package", d.Package, MaxName),
	)
	err = first(err, violation(what, "the number of members", len(d.Members), 0, MaxMembers))
	for i := range min(len(d.Members), MaxMembers) {
		each := &d.Members[i]
		if len(each.Members) > 0 {
			err = first(err, &ProtocolError{Reason: what + ": a member has members itself"})
			break
		}
		err = first(err, each.Check())
	}
	schemas := len(d.Output)
	for _, parameters := range [][]Parameter{d.Params, d.Inputs} {
		for i := range parameters {
			err = first(err, parameters[i].check(what))
			schemas += len(parameters[i].Schema)
		}
	}
	return first(err, d.Output.check(what), violation(what, "the size of all schemas", schemas, 0, MaxSchemas))
}

func (p *Parameter) check(what string) error {
	var value string
	if p.Default != nil {
		value = *p.Default
	}
	return first(
		longText(what, "the name of a parameter", p.Name, MaxName),
		longText(what, "the annotation of a parameter", p.Annotation, MaxText),
		longText(what, "the default of a parameter", value, MaxText),
		p.Schema.check(what),
	)
}

// check is [Description.Check] for the first message of a worker.
func (h *Hello) check() error {
	const what = "the hello message"
	return first(
		violation(what, "pid", h.PID, 0, maxPID),
		longText(what, "package", h.Package, MaxName),
		longText(what, "python", h.Python, MaxName),
		longText(what, "implementation", h.Implementation, MaxName),
	)
}

// logLevels are the levels that a record may have.
var logLevels = map[string]bool{"trace": true, "debug": true, "info": true, "warn": true, "error": true}

// bound brings the fields of a record within their bounds. A record is not refused, since
// it may say why the worker fails. An unknown level becomes info: a logger could take one
// such as "off" for a level that is always written. The fields of a record that takes more
// than maxRecord bytes on the wire are left out.
func (r *LogRecord) bound(size int) {
	if !logLevels[r.Level] {
		r.Level = "info"
	}
	r.Logger = cut(r.Logger, MaxName)
	r.Message = cut(r.Message, MaxMessage)
	if size > maxRecord {
		r.Fields = map[string]any{"left_out": fmt.Sprintf("the fields of a record of %d bytes", size)}
	}
}

// bound brings the fields of a progress message within their bounds.
func (p *Progress) bound() {
	p.Message = cut(p.Message, MaxText)
	switch {
	case p.Fraction == nil:
	case math.IsNaN(*p.Fraction):
		p.Fraction = nil
	default:
		*p.Fraction = min(max(*p.Fraction, 0), 1)
	}
}

// cut returns a text without what exceeds the given number of bytes. It cuts no character
// in two.
func cut(text string, most int) string {
	if len(text) <= most {
		return text
	}
	for most > 0 && !utf8.RuneStart(text[most]) {
		most--
	}
	return text[:most]
}
