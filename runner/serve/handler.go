package serve

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/serve/internal/fair"
	"github.com/gophersnake/gophersnake/runner/serve/internal/session"
)

// handler answers the requests; see [Handler].
type handler struct {
	options
	pipelines map[string]*pipeline
	names     []string // of the pipelines, sorted
	mux       *http.ServeMux
	origins   *http.CrossOriginProtection
	answers   *keyTable
	tokens    atomic.Pointer[tokenSet]
	addresses *addressTable
	held      memory
	folders   []string // what answers do not name
	feed      statusFeed
	sessions  session.Store // of the page
	guesses   *addressTable // of tokens, at the page

	// drained ends when the handler begins to drain, and stopped when work under way must end.
	drained, stopped  context.Context
	endInput, endWork context.CancelCauseFunc

	mu sync.Mutex
	// work are the calls and streams under way, with the functions that end their contexts.
	work map[*exchange]context.CancelCauseFunc
	// idle is closed when the handler drains and the last of them has ended.
	idle chan struct{}
}

// pipeline is one pipeline of a handler.
type pipeline struct {
	name    string
	runner  *runner.Runner
	sources map[string]bool // the nodes that take the input of a run
	sinks   []string
	turns   *fair.Queue
	wait    time.Duration // how long a request may wait for its turn; 0 for any time

	mu          sync.Mutex
	description *description // nil until it is asked for
}

// Handler returns a handler that answers requests with pipelines, by their names in URLs. The
// caller starts the runners and closes them; a request starts a runner that was not started.
// While a runner drains or is closed, its requests get status 503. The handler is safe for
// concurrent use.
//
// A server that uses it should limit the time for headers, for instance by ReadHeaderTimeout,
// and not set ReadTimeout or WriteTimeout, which would end streams. With [ConnContext], a
// stream also notices that its client has left while its input is not read.
func Handler(runners map[string]*runner.Runner, opts ...Option) http.Handler {
	return newHandler(runners, opts)
}

func newHandler(runners map[string]*runner.Runner, opts []Option) *handler {
	h := &handler{
		options: newOptions(opts), pipelines: make(map[string]*pipeline, len(runners)),
		names: slices.Sorted(maps.Keys(runners)), mux: http.NewServeMux(),
		origins: http.NewCrossOriginProtection(), idle: make(chan struct{}),
		work: make(map[*exchange]context.CancelCauseFunc),
	}
	h.drained, h.endInput = context.WithCancelCause(context.Background())
	h.stopped, h.endWork = context.WithCancelCause(context.Background())
	h.answers = newKeyTable(h.keys)
	h.setTokens(h.initial)
	h.addresses = newAddressTable(h.rate)
	h.held.limit = h.memory
	for name, r := range runners {
		graph := r.Pipeline().Graph()
		p := &pipeline{name: name, runner: r, sources: make(map[string]bool), sinks: graph.Sinks()}
		p.limitQueue(h.queue)
		for _, id := range graph.Sources() {
			p.sources[id] = true
		}
		h.pipelines[name] = p
		h.metrics.Add(name, r)
	}
	h.metrics.AddSource("serve", h.ownMetrics)
	h.folders = foldersOf(h.pipelines)
	h.route("/livez", methods{http.MethodGet: (*exchange).live})
	h.route("/readyz", methods{http.MethodGet: (*exchange).ready})
	h.route("/readyz/{name}", methods{http.MethodGet: (*exchange).ready})
	h.route("/healthz", methods{http.MethodGet: (*exchange).health})
	h.route("/metrics", methods{http.MethodGet: (*exchange).metrics})
	h.route("/openapi.json", methods{http.MethodGet: (*exchange).openAPI})
	h.route("/docs", methods{http.MethodGet: (*exchange).docs})
	h.route("/docs/{file}", methods{http.MethodGet: (*exchange).docs})
	h.route("/v1/pipelines", methods{http.MethodGet: (*exchange).list})
	h.route("/v1/pipelines/{name}", methods{http.MethodGet: (*exchange).describe, http.MethodPost: (*exchange).call})
	h.route("/v1/pipelines/{name}/stream", methods{http.MethodGet: (*exchange).stream})
	h.route("/v1/pipelines/{name}/nodes/{id}", methods{http.MethodPost: (*exchange).call})
	h.route("/v1/pipelines/{name}/nodes/{id}/stream", methods{http.MethodGet: (*exchange).stream})
	h.route("/v1/pipelines/{name}/logs", methods{http.MethodGet: (*exchange).logs})
	h.route("/v1/pipelines/{name}/nodes/{id}/logs", methods{http.MethodGet: (*exchange).logs})
	h.route("/v1/pipelines/{name}/reload", methods{http.MethodPost: (*exchange).reload})
	h.route("/v1/pipelines/{name}/nodes/{id}/restart", methods{http.MethodPost: (*exchange).restart})
	h.routeJobs()
	h.route("/v1/status", methods{http.MethodGet: (*exchange).status})
	h.routePage()
	for _, p := range h.protocols {
		for pattern, functions := range p.Routes {
			h.route(pattern, methodsOf(functions))
		}
	}
	h.route("/", nil)
	return h
}

// methods are the functions for the methods of a resource. An error is answered by a problem.
type methods map[string]func(*exchange) error

// route adds a resource. Without methods there is none.
func (h *handler) route(pattern string, functions methods) {
	h.mux.HandleFunc(pattern, func(w http.ResponseWriter, _ *http.Request) {
		x := w.(*statusWriter).x
		if err := x.dispatch(functions); err != nil {
			x.fail(err)
		}
	})
}

func (x *exchange) dispatch(functions methods) error {
	if functions == nil {
		return fault(notFound, "there is nothing at "+x.req.URL.Path).withHint("the pipelines are at /v1/pipelines").aboutURL()
	}
	method := x.req.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	function := functions[method]
	if function == nil {
		allowed := strings.Join(slices.Sorted(maps.Keys(functions)), ", ")
		x.w.Header().Set("Allow", allowed)
		return fault(wrongMethod, fmt.Sprintf("%s takes %s, not %s", x.req.URL.Path, allowed, x.req.Method)).aboutURL()
	}
	if err := x.resolve(); err != nil {
		return err
	}
	if isCall(x.req) {
		if err := x.limitRate(); err != nil {
			return err
		}
	}
	return function(x)
}

// resolve finds the pipeline and the node that the path names, if it names any.
func (x *exchange) resolve() error {
	if name := x.req.PathValue("name"); name != "" {
		if err := x.choose(name); err != nil {
			return err
		}
	}
	x.node = x.req.PathValue("id")
	if x.node != "" && x.pipeline.runner.Pipeline().Node(x.node) == nil {
		ids := x.pipeline.runner.Pipeline().Order()
		return fault(notFound, fmt.Sprintf("the pipeline %s has no node %q", x.pipeline.name, x.node)).
			withHint("its nodes are " + strings.Join(ids, ", "))
	}
	return nil
}

// choose sets the pipeline of the exchange.
func (x *exchange) choose(name string) error {
	if x.pipeline = x.h.pipelines[name]; x.pipeline == nil {
		return fault(notFound, fmt.Sprintf("there is no pipeline %q", name)).withHint("the pipelines are " + strings.Join(x.h.names, ", "))
	}
	return nil
}

// takesInput reports whether a node gets the input of the request.
func (x *exchange) takesInput(node string) bool {
	return x.node != "" || x.pipeline != nil && x.pipeline.sources[node]
}

// The values of headers that each answer has. They must not be changed.
var (
	noSniff = []string{"nosniff"}
	noStore = []string{"no-store"}
)

// ServeHTTP implements [http.Handler].
func (h *handler) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	x := &exchange{
		h: h, w: w, req: req, control: *http.NewResponseController(w), ctx: req.Context(), id: requestID(req.Header),
		protocol: h.protocolOf(req.URL.Path), compute: (*exchange).run,
	}
	header := w.Header()
	header.Set("X-Request-Id", x.id)
	header["X-Content-Type-Options"], header["Cache-Control"] = noSniff, noStore
	_ = x.control.SetWriteDeadline(time.Time{}) // it may still be that of an earlier request
	x.observe()
	defer x.observed()
	if err := x.admit(); err != nil {
		x.fail(err)
		return
	}
	defer x.letGo()
	x.accept = parseAccept(req.Header)
	h.mux.ServeHTTP(x.w, x.req) // which adds the pattern and the values of the path to the request
}

// admit checks the host, the origin and the token of a request.
func (x *exchange) admit() error {
	if !x.anyHost && !x.h.allowsHost(x.req.Host) {
		return fault(forbidden, fmt.Sprintf("the Host %q is not one of this service", x.req.Host))
	}
	if err := x.h.origins.Check(x.asWrite()); err != nil {
		return fault(forbidden, "the request comes from a page of another origin")
	}
	if !x.h.needsToken() {
		return nil
	}
	x.token = x.h.authenticate(x.req)
	path := x.req.URL.Path
	isProbe := x.protocol != nil && slices.Contains(x.protocol.Probes, path)
	if x.token == nil && !isPublic(path) && !isProbe && !x.h.isPagePath(path) {
		return fault(unauthorized, "the header Authorization has no valid token").withHint("send Authorization: Bearer TOKEN")
	}
	return nil
}

// authenticate returns the client whose token a request has, or whose session it belongs to, and nil
// if it has neither.
func (h *handler) authenticate(req *http.Request) *client {
	if authorization(req.Header) == "" {
		return h.sessionClient(req)
	}
	return h.clientOf(bearer(req.Header))
}

// authenticateAgain returns an error if the token of a stream is not valid any more, or its session
// has ended.
func (x *exchange) authenticateAgain() error {
	if !x.h.needsToken() {
		return nil
	}
	if x.token = x.h.authenticate(x.req); x.token == nil {
		return fault(unauthorized, "the token is no longer valid, or the session has ended")
	}
	return nil
}

// asWrite returns the request as one that the check of its origin applies to: to the check, a
// GET only reads, but the GET that opens a WebSocket does more.
func (x *exchange) asWrite() *http.Request {
	if x.req.Method != http.MethodGet || x.req.Header.Get("Upgrade") == "" {
		return x.req
	}
	write := *x.req
	write.Method = http.MethodPost
	return &write
}

// authorization returns the header Authorization, or what stands for it in the subprotocols of
// a WebSocket.
func authorization(header http.Header) string {
	if value := header.Get("Authorization"); value != "" {
		return value
	}
	for protocol := range strings.SplitSeq(strings.Join(header.Values("Sec-WebSocket-Protocol"), ","), ",") {
		if token, ok := strings.CutPrefix(strings.TrimSpace(protocol), tokenProtocol); ok {
			return "Bearer " + token
		}
	}
	return ""
}

// allowsHost checks the Host header of a request.
func (h *handler) allowsHost(host string) bool {
	if len(h.hosts) == 0 {
		return true
	}
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.ToLower(strings.Trim(host, "[]"))
	if slices.Contains(h.hosts, host) {
		return true
	}
	ip := net.ParseIP(host)
	return slices.Contains(h.hosts, "localhost") && ip != nil && ip.IsLoopback()
}

// enter counts a call as under way, unless the handler drains. When the handler stops, it ends the
// context of the call by cancel. The caller calls leave.
func (h *handler) enter(x *exchange, cancel context.CancelCauseFunc) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.drained.Err() != nil || h.stopped.Err() != nil {
		return fault(stopping, "the service drains and takes nothing more")
	}
	h.work[x] = cancel
	return nil
}

func (h *handler) leave(x *exchange) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.work, x)
	if len(h.work) == 0 && h.drained.Err() != nil {
		close(h.idle)
	}
}

// drain makes the handler refuse further calls, end the inputs of streams, and report that it
// is not ready. The channel that it returns is closed when no call is under way. It must be
// called once.
func (h *handler) drain() <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.endInput(errStopping)
	if len(h.work) == 0 {
		close(h.idle)
	}
	return h.idle
}

// stop ends all work under way.
func (h *handler) stop() {
	h.endWork(errStopping)
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, cancel := range h.work {
		cancel(errStopping)
	}
}

// call answers a request for a pipeline or a node.
func (x *exchange) call() error { return x.process(x.answer) }

// process answers a request by work that the handler counts as under way. The context of the
// exchange is that of the work: it ends when the client leaves, when the time for the request is
// over, or when the handler stops. work may also end it by the function that it gets.
func (x *exchange) process(work func(cancel context.CancelCauseFunc) error) error {
	return x.track(func(cancel context.CancelCauseFunc) error {
		err := work(cancel)
		own, _ := errors.AsType[*requestError](err)
		// To the server, a client that has stalled is one that has left.
		if err != nil && (!x.isGone() || own != nil && own.class == stalled) {
			x.fail(err)
		}
		return nil
	})
}

// track calls a function as work under way, in a context of its own. The function answers the
// request before the context ends, since its cause decides what the answer is.
func (x *exchange) track(work func(cancel context.CancelCauseFunc) error) error {
	ctx, cancel := context.WithCancelCause(x.ctx)
	defer cancel(nil)
	if err := x.h.enter(x, cancel); err != nil {
		if x.w != nil {
			x.w.Header().Set("Connection", "close")
		}
		return err
	}
	defer x.h.leave(x)
	x.ctx = ctx
	var err error
	if x.priority, err = x.readPriority(); err != nil {
		return err
	}
	cancelTimeout, err := x.startTimeout()
	if err != nil {
		return err
	}
	defer cancelTimeout()
	return work(cancel)
}

// answer processes the body of a call and sends the answer. cancel ends the call.
func (x *exchange) answer(cancel context.CancelCauseFunc) error {
	contentType, _, _ := strings.Cut(x.req.Header.Get("Content-Type"), ";")
	isLines := strings.TrimSpace(strings.ToLower(contentType)) == typeLines
	form := x.accept.stream()
	key, err := idempotencyKey(x.req.Header)
	switch {
	case err != nil:
		return err
	case x.wantsJob() && !isLines && form == "":
		return x.submit(key)
	case key != "" && (isLines || form != ""):
		return fault(malformed, "a stream cannot have an Idempotency-Key")
	case isLines:
		return x.streamLines(form, cancel)
	case form != "":
		return x.streamResult(form)
	case !x.h.offers(x.accept):
		return fault(notAcceptable, "there are no answers of type "+strings.Join(x.accept, ", ")).withHint("ask for application/json")
	}
	return x.answerOnce(key)
}

// answerOnce processes the body of a call whose answer is complete before it is sent. The key is
// that of the request, or empty.
func (x *exchange) answerOnce(key string) error {
	body, err := x.readBody()
	if err != nil {
		return err
	}
	if key != "" {
		return x.callOnce(key, body)
	}
	a, err := x.compute(x, body)
	if err == nil {
		x.send(a)
	}
	return err
}

// run calls the pipeline or the node with a body, and returns the answer with its result.
func (x *exchange) run(body []byte) (*answer, error) {
	input, err := x.input(body)
	if err != nil {
		return nil, err
	}
	v, err := x.execute(input)
	if err != nil {
		return nil, err
	}
	return x.resultAnswer(v)
}

// resultAnswer returns the answer with a result, in the form that the request accepts.
func (x *exchange) resultAnswer(v any) (*answer, error) {
	contentType, content, ok, err := x.h.encode(x.accept, v)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, fault(notAcceptable, "the result cannot be of type "+strings.Join(x.accept, ", ")).withHint("ask for application/json")
	}
	if contentType == typeJSON {
		content = append(content, '\n')
	}
	if err := x.hold(len(content)); err != nil {
		return nil, err
	}
	return &answer{status: http.StatusOK, contentType: contentType, body: content}, nil
}

// execute calls the pipeline or the node when it is the turn of the request.
func (x *exchange) execute(input any) (any, error) {
	if err := x.takeTurn(x.ctx); err != nil {
		return nil, err
	}
	defer x.pipeline.turns.Release()
	if x.node != "" {
		return x.pipeline.runner.Node(x.node).Call(x.ctx, input)
	}
	return x.pipeline.runner.Run(x.ctx, input)
}
