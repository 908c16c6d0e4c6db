package serve

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner"
)

// Protocol is a further protocol that a [Handler] speaks, such as that of package serve/oip. Its
// requests are subject to all that applies to those of this package: the checks of host, origin
// and token, the limits, the count of work under way when the service drains, and request ids.
type Protocol struct {
	// Prefix is the path below which its resources are, for instance "/v2".
	Prefix string
	// Routes are its resources: functions by patterns of [http.ServeMux] without a method, and
	// by methods of HTTP. In a pattern, {name} is the name of a pipeline; if there is no such
	// pipeline, the answer is status 404. A function sends an answer, or returns the error.
	Routes map[string]map[string]func(*Call) error
	// Problem returns the answer for a request that failed. The status is that of the problem.
	Problem func(*Problem) *Answer
	// Probes are the paths that need no token.
	Probes []string
	// Headers are the headers that a request must repeat with its Idempotency-Key, beside
	// those that all requests must.
	Headers []string
}

// WithProtocol adds a protocol to a handler.
func WithProtocol(p Protocol) Option {
	return func(o *options) { o.protocols = append(o.protocols, p) }
}

// protocolOf returns the protocol of a path, nil if it is that of this package.
func (h *handler) protocolOf(path string) *Protocol {
	for i := range h.protocols {
		p := &h.protocols[i]
		if rest, ok := strings.CutPrefix(path, p.Prefix); ok && (rest == "" || rest[0] == '/') {
			return p
		}
	}
	return nil
}

func methodsOf(functions map[string]func(*Call) error) methods {
	all := make(methods, len(functions))
	for method, function := range functions {
		all[method] = func(x *exchange) error { return function(&Call{x}) }
	}
	return all
}

// Answer is an answer to a request.
type Answer struct {
	// Status is 200 if it is 0.
	Status      int
	ContentType string
	// Header has further headers.
	Header map[string]string
	Body   []byte
}

func (a *Answer) answer() *answer {
	status := a.Status
	if status == 0 {
		status = http.StatusOK
	}
	return &answer{status: status, contentType: a.ContentType, header: a.Header, body: a.Body}
}

// Problem is why a request failed. docs/serve-errors.md lists the types.
type Problem struct {
	// Type is the name of the type, for instance "queue-full".
	Type string
	// Status is that of HTTP.
	Status int
	// Title describes the type, and Detail the problem.
	Title, Detail, Hint string
	RequestID           string
	// Kind and Node are those of an error of the runner, or empty.
	Kind, Node string
	// RetryAfter is when the client should try again, 0 if that is not known.
	RetryAfter time.Duration
}

// String returns the problem in one line.
func (p *Problem) String() string {
	text := p.Title
	if p.Node != "" {
		text += fmt.Sprintf(" (node %q)", p.Node)
	}
	if p.Detail != "" {
		text += ": " + p.Detail
	}
	if p.Hint != "" {
		text += "; " + p.Hint
	}
	return text
}

func (p *problem) exported() *Problem {
	e := &Problem{
		Type: strings.TrimPrefix(p.Type, typePrefix), Status: p.Status, Title: p.Title, Detail: p.Detail, Hint: p.Hint,
		RequestID: p.RequestID, Kind: p.Kind, Node: p.Node,
	}
	if p.RetryAfter != nil {
		e.RetryAfter = time.Duration(*p.RetryAfter * float64(time.Second))
	}
	return e
}

// problemAnswer returns the answer with a problem, in the form of the protocol.
func (x *exchange) problemAnswer(p *problem) *answer {
	own := p.answer()
	if x.protocol == nil {
		return own
	}
	a := x.protocol.Problem(p.exported()).answer()
	a.status, a.retryAfter = own.status, own.retryAfter
	return a
}

// Malformed returns the error for a request that cannot be read, which means status 400.
func Malformed(detail, hint string) error { return fault(malformed, detail).withHint(hint) }

// NotFound returns the error for a resource that does not exist, which means status 404.
func NotFound(detail, hint string) error { return fault(notFound, detail).withHint(hint) }

// Call is a request of another protocol. Its methods must not be called concurrently.
type Call struct{ x *exchange }

// Context returns the context of the call. It ends when the client leaves, when the time for the
// request is over, or when the service stops.
func (c *Call) Context() context.Context { return c.x.ctx }

// Request returns the HTTP request, or the headers of a call of [Server.Open].
func (c *Call) Request() *http.Request { return c.x.req }

// ID returns the id of the request.
func (c *Call) ID() string { return c.x.id }

// LimitTime cancels the call after some time. The error is then one of type "deadline".
func (c *Call) LimitTime(limit time.Duration) {
	parent, cancel := c.x.ctx, c.x.limitTime(limit)
	context.AfterFunc(parent, cancel)
}

// Pipeline returns the pipeline of a name or, if the name is empty, the one that the path of the
// request names. The error is one of status 404.
func (c *Call) Pipeline(name string) (*Pipeline, error) {
	if name != "" {
		if err := c.x.choose(name); err != nil {
			return nil, err
		}
	}
	if c.x.pipeline == nil {
		return nil, NotFound("the request names no pipeline", "")
	}
	return &Pipeline{c.x.h, c.x.pipeline}, nil
}

// Pipelines returns all pipelines, in the order of their names.
func (c *Call) Pipelines() []*Pipeline {
	all := make([]*Pipeline, len(c.x.h.names))
	for i, name := range c.x.h.names {
		all[i] = &Pipeline{c.x.h, c.x.h.pipelines[name]}
	}
	return all
}

// IsReady reports whether the service takes calls, and all pipelines would serve one that is
// made now.
func (c *Call) IsReady() bool {
	for _, p := range c.Pipelines() {
		if ready, _ := p.IsReady(); !ready {
			return false
		}
	}
	return c.x.h.drained.Err() == nil
}

// Turn waits until the pipeline of the call can begin the work for it: the requests of all clients
// wait in one queue, in which each client has its share. If there is no error, the caller calls
// done when the work has ended.
func (c *Call) Turn() (done func(), err error) {
	if err := c.x.takeTurn(c.x.ctx); err != nil {
		return nil, err
	}
	return c.x.pipeline.turns.Release, nil
}

// Send sends an answer. It must be called once, unless Process is called.
func (c *Call) Send(a *Answer) { c.x.send(a.answer()) }

// Process answers the request by a function that gets its body. The service counts it as work
// under way. If the request has an Idempotency-Key, the function is called only for the first
// request with that key, and its call may differ from c.
func (c *Call) Process(fn func(c *Call, body []byte) (*Answer, error)) error {
	c.x.compute = func(x *exchange, body []byte) (*answer, error) {
		a, err := fn(&Call{x}, body)
		if err != nil {
			return nil, err
		}
		return a.answer(), nil
	}
	return c.x.process(func(context.CancelCauseFunc) error {
		return c.x.answerOnce(c.x.req.Header.Get("Idempotency-Key"))
	})
}

// Pipeline is a pipeline of a handler. It is safe for concurrent use.
type Pipeline struct {
	h *handler
	p *pipeline
}

// Name returns the name that the pipeline is served under.
func (p *Pipeline) Name() string { return p.p.name }

// Runner returns its runner.
func (p *Pipeline) Runner() *runner.Runner { return p.p.runner }

// Describe returns the descriptions of the nodes, by their ids, as [runner.Runner.Describe] does.
// It keeps them until the code of the nodes is loaded again. They must not be changed.
func (p *Pipeline) Describe(ctx context.Context) (map[string]*ipc.Description, error) {
	d, err := p.p.describe(ctx, p.h.debug)
	if err != nil {
		return nil, err
	}
	all := make(map[string]*ipc.Description, len(d.Nodes))
	for i := range d.Nodes {
		all[d.Nodes[i].ID] = &d.Nodes[i].Description
	}
	return all, nil
}

// IsReady reports whether a call that is made now can be expected to be served, and if not, why.
func (p *Pipeline) IsReady() (ready bool, reason string) {
	if p.h.drained.Err() != nil {
		return false, drainReason
	}
	health := p.h.healthOf(p.p.runner.Health(), false)
	return health.Ready, health.Reason
}

// Origin is the source of a call of [Server.Open].
type Origin struct {
	// Method is its name, for instance "/inference.GRPCInferenceService/ModelInfer".
	Method string
	// Header are its headers: Authorization, X-Request-Id and others have the same meaning as
	// in HTTP. Host is checked unless AnyHost is set.
	Header  http.Header
	Host    string
	AnyHost bool
	// IsProbe says that the call needs no token.
	IsProbe bool
}

// Open returns a call of another server in the same program, for instance one for gRPC, after the
// checks that requests of HTTP are subject to. Its context ends when ctx does or when the
// service stops. If the context has a span, such as that of [Server.Observe], it is the parent of
// the runs, and otherwise that which the headers name.
func (s *Server) Open(ctx context.Context, from Origin) (*Call, *Problem) {
	if !trace.SpanContextFromContext(ctx).IsValid() {
		ctx = s.handler.continueTrace(ctx, from.Header)
	}
	req := (&http.Request{
		Method: http.MethodPost, URL: &url.URL{Path: from.Method}, Header: from.Header, Host: from.Host,
	}).WithContext(ctx)
	x := &exchange{h: s.handler, req: req, ctx: ctx, id: requestID(from.Header), anyHost: from.AnyHost}
	if from.IsProbe {
		x.protocol = &Protocol{Probes: []string{from.Method}}
	}
	c := &Call{x}
	err := x.admit()
	if err == nil && !from.IsProbe {
		err = x.limitRate()
	}
	if err != nil {
		return nil, c.Fail(err)
	}
	return c, nil
}

// Do calls a function as work under way: it is refused if the service drains, or if a message of
// so many bytes exceeds the limit of [WithMemory] until the function returns. The function works in
// the context of the call.
func (c *Call) Do(size int, fn func() error) *Problem {
	defer c.x.letGo()
	if err := c.x.hold(size); err != nil {
		return c.Fail(err)
	}
	var problem *Problem
	err := c.x.track(func(context.CancelCauseFunc) error {
		if err := fn(); err != nil {
			problem = c.Fail(err)
		}
		return nil
	})
	if err != nil {
		return c.Fail(err)
	}
	return problem
}

// Fail returns the problem of an error, and reports it unless the client has left; see
// [WithFailures].
func (c *Call) Fail(err error) *Problem {
	p := c.x.problemOf(err)
	if !errors.Is(context.Cause(c.x.req.Context()), context.Canceled) {
		c.x.report(p, err)
	}
	return p.exported()
}

// Listen opens a listener for another server in the same program, under the rules for that of
// HTTP: other machines need a token. It also returns the configuration of TLS, nil without it.
func (s *Server) Listen(address string) (net.Listener, *tls.Config, error) {
	listener, err := s.config.listen(address)
	if err != nil {
		return nil, nil, err
	}
	return listener, s.http.TLSConfig.Clone(), nil
}

// MaxBody returns the limit of [WithMaxBody].
func (s *Server) MaxBody() int64 { return s.handler.maxBody }

// StallTimeout returns the limit of [WithStallTimeout].
func (s *Server) StallTimeout() time.Duration { return s.handler.stall }

// Drained is closed when the server begins to drain.
func (s *Server) Drained() <-chan struct{} { return s.handler.drained.Done() }

// Stopped is closed when work under way must end.
func (s *Server) Stopped() <-chan struct{} { return s.handler.stopped.Done() }
