package serve

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/retry"
	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/document"
)

// problem is the answer to a request that failed, as in RFC 9457.
type problem struct {
	Type      string `json:"type"`
	Title     string `json:"title"`
	Status    int    `json:"status"`
	Detail    string `json:"detail,omitempty"`
	RequestID string `json:"request_id,omitempty"`

	// Of an error of the runner.
	Kind       string   `json:"kind,omitempty"`
	Node       string   `json:"node,omitempty"`
	Operation  string   `json:"operation,omitempty"`
	Attempt    int      `json:"attempt,omitempty"`
	Attempts   int      `json:"attempts,omitempty"`
	Exception  string   `json:"exception,omitempty"`
	Path       string   `json:"path,omitempty"`
	Limit      string   `json:"limit,omitempty"`
	Signal     string   `json:"signal,omitempty"`
	Retryable  bool     `json:"retryable"`
	RetryAfter *float64 `json:"retry_after,omitempty"`
	Hint       string   `json:"hint,omitempty"`

	// Error is everything that is known, with WithDebug.
	Error *runner.Error `json:"error,omitempty"`
}

// typePrefix begins the types of problems.
const typePrefix = "urn:gophersnake:problem:"

// class is a type of problems with its status. The classes are documented in
// docs/serve-errors.md.
type class struct {
	name   string
	status int
	title  string
	// wait is the value of Retry-After if the error names none; 0 for none.
	wait time.Duration
}

// The problems that the handler finds itself.
var (
	malformed     = class{"malformed", http.StatusBadRequest, "the request cannot be read", 0}
	unauthorized  = class{"unauthorized", http.StatusUnauthorized, "the request has no valid token", 0}
	forbidden     = class{"forbidden", http.StatusForbidden, "the origin of the request is not allowed", 0}
	notFound      = class{"not-found", http.StatusNotFound, "there is no such resource", 0}
	wrongMethod   = class{"method", http.StatusMethodNotAllowed, "the resource does not support the method", 0}
	notAcceptable = class{"not-acceptable", http.StatusNotAcceptable, "the result has no form that the request accepts", 0}
	stalled       = class{"stalled", http.StatusRequestTimeout, "the client did not send the rest of its request", 0}
	keyConflict   = class{"key-conflict", http.StatusConflict, "the idempotency key belongs to another request", 0}
	tooLarge      = class{"too-large", http.StatusRequestEntityTooLarge, "the body is too large", 0}
	wrongType     = class{"media-type", http.StatusUnsupportedMediaType, "the type of the body is not supported", 0}
	rateLimited   = class{"rate-limited", http.StatusTooManyRequests, "the client sends more requests than it may", time.Second}
	noWorkers     = class{"no-workers", http.StatusConflict, "the node has no workers to restart", 0}
	watchersFull  = class{"watchers-full", http.StatusServiceUnavailable, "too many clients watch the status or jobs", 10 * time.Second}
	notSocket     = class{"upgrade", http.StatusUpgradeRequired, "the resource is a WebSocket", 0}
	keysFull      = class{"keys-full", http.StatusServiceUnavailable, "too many requests with idempotency keys are under way", time.Second}
	noMemory      = class{"no-memory", http.StatusServiceUnavailable, "the bodies of all requests take too much memory", time.Second}
	jobState      = class{"job-state", http.StatusConflict, "the state of the job does not allow it", 0}
	noJobs        = class{"jobs-unavailable", http.StatusServiceUnavailable, "the queue of jobs cannot be used now", 5 * time.Second}
	stopping      = class{"draining", http.StatusServiceUnavailable, "the service is about to stop", time.Second}
)

// The problems that come from the runner, in the order in which they are recognized.
var (
	deadline    = class{"deadline", http.StatusGatewayTimeout, "the time for the request or the call is over", 0}
	breakerOpen = class{"breaker-open", http.StatusServiceUnavailable, "the circuit breaker of a node is open", time.Second}
	queueFull   = class{"queue-full", http.StatusTooManyRequests, "too many calls wait for a worker of a node", time.Second}
	memoryFull  = class{"memory-full", http.StatusServiceUnavailable, "there is no shared memory left", time.Second}
	invalid     = class{"invalid-value", http.StatusUnprocessableEntity, "the value is not one that the node takes", 0}
	rejected    = class{"rejected", http.StatusUnprocessableEntity, "the node rejects the input", 0}
	hang        = class{"hang", http.StatusGatewayTimeout, "the interpreter of a node hung", 0}
	interpreter = class{"interpreter", http.StatusBadGateway, "the interpreter of a node died, or could not start", 0}
	wasm        = class{"wasm", http.StatusBadGateway, "a WebAssembly node trapped", 0}
	transport   = class{"transport", http.StatusBadGateway, "the connection to a worker or a program broke", 0}
	execution   = class{"execution", http.StatusInternalServerError, "the code of a node raised an exception", 0}
	result      = class{"result", http.StatusInternalServerError, "the result cannot be carried", 0}
	internal    = class{"internal", http.StatusInternalServerError, "the request failed", 0}
)

// requestError is a problem that the handler itself has found.
type requestError struct {
	class  class
	detail string
	hint   string
	wait   time.Duration // overrides that of the class
	// isURL says that the paths in the texts are those of URLs, not of this machine.
	isURL bool
}

func (e *requestError) Error() string { return e.class.title + ": " + e.detail }

// fault returns an error of a class.
func fault(c class, detail string) *requestError { return &requestError{class: c, detail: detail} }

func (e *requestError) withHint(hint string) *requestError {
	e.hint = hint
	return e
}

// aboutURL marks the error as one that names URLs.
func (e *requestError) aboutURL() *requestError {
	e.isURL = true
	return e
}

// The causes of the end of a request's context.
var (
	errTimeout    = errors.New("the time that the request allows is over")
	errStopping   = errors.New("the service stops")
	errClientGone = errors.New("the client has left")
)

// unreadable returns the error for a body that could not be decoded.
func unreadable(err error) *requestError {
	e := fault(malformed, err.Error())
	if known, ok := errors.AsType[*runner.Error](err); ok {
		e.detail, e.hint = known.Message, known.Hint
		if known.Path != "" {
			e.detail = known.Path + ": " + known.Message
		}
	}
	return e
}

// bodyError returns the error for a body that could not be read.
func bodyError(err error) error {
	if own, ok := errors.AsType[*requestError](err); ok {
		return own
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return fault(stalled, "nothing arrived within the time that the server allows")
	}
	return fault(malformed, "the body ends early: "+err.Error())
}

// classOf returns the class of an error of a runner. The context is that of the request;
// takesInput reports whether a node gets the input of the request.
func classOf(ctx context.Context, e *runner.Error, takesInput func(node string) bool) class {
	switch {
	case errors.Is(e, runner.ErrClosed), errors.Is(e, runner.ErrDraining):
		return stopping
	case e.Kind == runner.KindOther && errors.Is(context.Cause(ctx), errStopping):
		return stopping
	case e.Kind == runner.KindOther && ctx.Err() != nil:
		return deadline
	case errors.Is(e, retry.ErrOpen):
		return breakerOpen
	case e.Limit == "queue", e.Limit == "queue_wait":
		return queueFull
	case errors.As(e, new(*ipc.FullError)):
		return memoryFull
	case e.Kind == runner.KindMarshaling:
		if e.Operation == "encode the input" || takesInput(e.Node) && !strings.HasPrefix(e.Path, "result") && e.Limit == "" {
			return invalid
		}
		return result
	case e.Kind == runner.KindExecution && e.Verdict == runner.VerdictPermanent && e.BreakerExempt:
		return rejected
	case e.Limit == "timeout", e.Limit == "cpu_time":
		return deadline
	case e.Hang != "":
		return hang
	}
	switch e.Kind {
	case runner.KindPythonVM:
		return interpreter
	case runner.KindWasm:
		return wasm
	case runner.KindTransport:
		return transport
	case runner.KindExecution:
		return execution
	case runner.KindSerialization:
		return result
	}
	return internal
}

// waitOf returns how long the client should wait before it tries again, 0 if it is not known.
func waitOf(c class, e *runner.Error) time.Duration {
	if after, ok := e.RetryAfter(); ok && after > 0 {
		return after
	}
	return c.wait
}

// problemOf returns the document for an error.
func (x *exchange) problemOf(err error) *problem {
	own, ok := errors.AsType[*requestError](err)
	if ok {
		p := &problem{Detail: own.detail, Hint: own.hint, Retryable: own.class.wait > 0}
		wait := own.wait
		if wait == 0 {
			wait = own.class.wait
		}
		return x.complete(p, own.class, wait, own.isURL)
	}
	e := runner.AsError(err)
	c := classOf(x.ctx, e, x.takesInput)
	p := &problem{
		Kind: e.Kind.String(), Node: e.Node, Operation: e.Operation, Attempt: e.Attempt, Attempts: e.Attempts,
		Exception: e.PythonClass, Path: e.Path, Limit: e.Limit, Signal: e.Signal, Hint: e.Hint,
		Detail: e.Message, Retryable: e.Retryable() || c.wait > 0,
	}
	if p.Detail == "" && e.Cause != nil {
		p.Detail = e.Cause.Error()
	}
	if c == deadline && errors.Is(context.Cause(x.ctx), errTimeout) {
		p.Detail = errTimeout.Error()
	}
	if x.h.debug {
		p.Error = e
	}
	return x.complete(p, c, waitOf(c, e), false)
}

// complete sets what all problems have. Unless keepPaths is set, it hides paths of this machine.
func (x *exchange) complete(p *problem, c class, wait time.Duration, keepPaths bool) *problem {
	p.Type, p.Title, p.Status, p.RequestID = typePrefix+c.name, c.title, c.status, x.id
	if wait > 0 {
		seconds := wait.Seconds()
		p.RetryAfter = &seconds
	}
	if !x.h.debug && !keepPaths {
		p.Detail, p.Hint = x.h.withoutPaths(p.Detail), x.h.withoutPaths(p.Hint)
	}
	return p
}

// answer returns the answer with a problem.
func (p *problem) answer() *answer {
	a := &answer{status: p.Status, contentType: typeProblem, body: append(p.text(), '\n')}
	if p.RetryAfter != nil && (p.Status == http.StatusTooManyRequests || p.Status == http.StatusServiceUnavailable) {
		a.retryAfter = int(math.Ceil(*p.RetryAfter))
	}
	return a
}

// text returns the problem as JSON in one line.
func (p *problem) text() []byte {
	text, err := document.Encode(p, "")
	if err != nil { // all of its fields can be encoded, except perhaps those for debugging
		p.Error = nil
		text, _ = json.Marshal(p)
	}
	return text
}

// hostPath matches an absolute path of several parts, with what precedes it: at the beginning,
// or after a character that is no part of a URL or of a relative path.
var hostPath = regexp.MustCompile(`(^|[\s'"(=:\[,])(/[^\s'"/:,;()\[\]]+)+/([^\s'"/:,;()\[\]]+)`)

// quotedPath matches an absolute path in quotes, which may contain spaces.
var quotedPath = regexp.MustCompile(`'/[^'\n]*/([^'/\n]+)'|"/[^"\n]*/([^"/\n]+)"`)

// withoutPaths returns a text in which only the last part of each absolute path is left.
func (h *handler) withoutPaths(text string) string {
	if !strings.Contains(text, "/") {
		return text
	}
	for _, folder := range h.folders {
		text = strings.ReplaceAll(text, folder+"/", "…/")
	}
	text = quotedPath.ReplaceAllString(text, "'…/$1$2'")
	return hostPath.ReplaceAllString(text, "$1…/$3")
}

// foldersOf returns the folders of this machine that errors often name.
func foldersOf(pipelines map[string]*pipeline) []string {
	var folders []string
	for _, p := range pipelines {
		folders = append(folders, p.runner.Pipeline().Base)
	}
	if home, err := os.UserHomeDir(); err == nil {
		folders = append(folders, home)
	}
	folders = append(folders, strings.TrimSuffix(os.TempDir(), "/"))
	folders = slices.DeleteFunc(folders, func(f string) bool { return strings.Trim(f, "/") == "" })
	slices.SortFunc(folders, func(a, b string) int { return len(b) - len(a) })
	return folders
}
