package serve

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"math"
	"mime"
	"mime/multipart"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner/document"
)

// exchange is one request and its answer.
type exchange struct {
	h        *handler
	w        http.ResponseWriter
	req      *http.Request
	control  http.ResponseController
	ctx      context.Context
	id       string  // of the request
	token    *client // nil if it has sent none
	accept   accepted
	hasBody  bool      // the body was read to its end
	held     int64     // bytes of bodies and of the answer, which count against the handler's memory
	pipeline *pipeline // nil unless the request names one
	node     string    // empty unless the request names one
	protocol *Protocol // nil if it is that of this package
	anyHost  bool      // whether the request may name any host
	priority Priority  // of work under way

	// compute returns the answer to a call with a body.
	compute func(x *exchange, body []byte) (*answer, error)

	observation observation
}

// answer is an answer that is complete before it is sent.
type answer struct {
	status      int
	contentType string
	retryAfter  int // in seconds; 0 for none
	header      map[string]string
	body        []byte
}

// send sends an answer.
func (x *exchange) send(a *answer) {
	header := x.w.Header()
	header.Set("Content-Type", a.contentType)
	header.Set("Content-Length", strconv.Itoa(len(a.body)))
	if a.retryAfter > 0 {
		header.Set("Retry-After", strconv.Itoa(a.retryAfter))
	}
	for name, value := range a.header {
		header.Set(name, value)
	}
	if a.status == http.StatusUnauthorized {
		header.Set("WWW-Authenticate", `Bearer realm="gophersnake"`)
	}
	x.abandonBody()
	x.extendWrite()
	x.w.WriteHeader(a.status)
	_, _ = x.w.Write(a.body) // fails only if the client has left
}

// abandonTimeout is how long the rest of a body may take that is not wanted.
const abandonTimeout = time.Second

// abandonBody keeps the answer from waiting for the rest of a body that is not wanted: the server
// reads a part of it first, to keep the connection, and has no time limit of its own. A client
// that sends chunks may wait for the answer before it sends more.
func (x *exchange) abandonBody() {
	if x.hasBody || x.req.Body == http.NoBody || x.req.ProtoMajor != 1 {
		return
	}
	if x.req.ContentLength < 0 {
		_ = x.control.EnableFullDuplex() // writers that cannot do so do not wait
		x.closeConnection()
	}
	_ = x.control.SetReadDeadline(time.Now().Add(abandonTimeout))
}

// closeConnection makes the server close the connection after the answer. In HTTP/2, a
// connection has the requests of other clients, too, and needs no end.
func (x *exchange) closeConnection() {
	if x.req.ProtoMajor == 1 {
		x.w.Header().Set("Connection", "close")
	}
}

// fail sends the answer to a request that failed. A client that has left gets none.
func (x *exchange) fail(err error) {
	p := x.problemOf(err)
	x.report(p, err)
	x.send(x.problemAnswer(p))
}

// report reports a failed request.
func (x *exchange) report(p *problem, err error) {
	x.noteFailure(p)
	x.h.failed(Failure{RequestID: x.id, Method: x.req.Method, Path: x.req.URL.Path, Token: x.tokenName(), Status: p.Status, Err: err})
}

// tokenName returns the name of the client's token, empty if it has none.
func (x *exchange) tokenName() string {
	if x.token == nil {
		return ""
	}
	return x.token.Name
}

// isGone reports whether the client has left. The error is that of work for it.
func (x *exchange) isGone() bool {
	cause := context.Cause(x.ctx)
	return cause != nil && !errors.Is(cause, errTimeout) && !errors.Is(cause, errStopping)
}

// extendWrite gives the client the stall timeout to take what is written next.
func (x *exchange) extendWrite() {
	_ = x.control.SetWriteDeadline(time.Now().Add(x.h.stall)) // servers without deadlines have none
}

// requestID returns the value of X-Request-Id if it is reasonable, else a new one.
func requestID(header http.Header) string {
	id := header.Get("X-Request-Id")
	if id == "" || len(id) > 128 || strings.ContainsFunc(id, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return rand.Text()
	}
	return id
}

// startTimeout applies the header X-Request-Timeout to the context of the exchange. The caller
// calls the function that it returns.
func (x *exchange) startTimeout() (context.CancelFunc, error) {
	text := x.req.Header.Get("X-Request-Timeout")
	if text == "" {
		return func() {}, nil
	}
	limit, err := time.ParseDuration(text)
	if seconds, parsing := strconv.ParseFloat(text, 64); parsing == nil && seconds < math.MaxInt64/1e9 {
		limit, err = time.Duration(seconds*float64(time.Second)), nil
	}
	if err != nil || limit <= 0 {
		return nil, fault(malformed, fmt.Sprintf("X-Request-Timeout takes a time such as 500ms or 1m, or a number of seconds, not %q", text))
	}
	return x.limitTime(limit), nil
}

// limitTime ends the context of the exchange after some time, or earlier by the function that it
// returns.
func (x *exchange) limitTime(limit time.Duration) context.CancelFunc {
	ctx, cancel := context.WithTimeoutCause(x.ctx, limit, errTimeout)
	x.ctx = ctx
	return cancel
}

// bodyReader reads a body or its content. What it has read counts as held by the exchange.
type bodyReader struct {
	x    *exchange
	from io.Reader
	left int64 // how many bytes may be read, and one more
	// deadlines says that the next part must arrive within the stall timeout.
	deadlines bool
}

func (b *bodyReader) Read(p []byte) (int, error) {
	if b.deadlines {
		_ = b.x.control.SetReadDeadline(time.Now().Add(b.x.h.stall))
	}
	n, err := b.from.Read(p[:min(int64(len(p)), b.left)])
	if full := b.x.hold(n); full != nil {
		return 0, full
	}
	if b.left -= int64(n); b.left == 0 {
		return 0, bodyTooLarge(b.x.h.maxBody)
	}
	return n, err
}

// readBody reads the whole body.
func (x *exchange) readBody() ([]byte, error) {
	if x.req.ContentLength > x.h.maxBody {
		return nil, bodyTooLarge(x.h.maxBody)
	}
	var body bytes.Buffer
	if n := x.req.ContentLength; n > 0 {
		body.Grow(int(min(n+bytes.MinRead, 1<<20))) // a client may claim any length
	}
	if _, err := body.ReadFrom(&bodyReader{x, x.req.Body, x.h.maxBody + 1, true}); err != nil {
		x.closeConnection() // the server must not wait for the rest
		x.letGo()
		return nil, bodyError(err)
	}
	x.hasBody = true
	_ = x.control.SetReadDeadline(time.Time{}) // the server reads on, to notice that the client leaves
	return x.decompress(body.Bytes(), x.req.Header.Get("Content-Encoding"))
}

// decompress returns the content of a body in an encoding of HTTP. It may be as large as a body, and
// counts as held by the exchange as well.
func (x *exchange) decompress(body []byte, encoding string) ([]byte, error) {
	var content io.Reader
	var err error
	switch encoding {
	case "", "identity":
		return body, nil
	case "gzip":
		content, err = gzip.NewReader(bytes.NewReader(body))
	case "deflate":
		content, err = zlib.NewReader(bytes.NewReader(body))
	default:
		return nil, fault(wrongType, fmt.Sprintf("the body is encoded as %q", encoding)).withHint("send it as gzip or deflate, or without a Content-Encoding")
	}
	var plain bytes.Buffer
	if err == nil {
		_, err = plain.ReadFrom(&bodyReader{x, content, x.h.maxBody + 1, false})
	}
	if own, ok := errors.AsType[*requestError](err); ok {
		x.letGo()
		return nil, own
	}
	if err != nil {
		return nil, fault(malformed, fmt.Sprintf("the body is not %s: %s", encoding, err))
	}
	return plain.Bytes(), nil
}

func bodyTooLarge(limit int64) error {
	return fault(tooLarge, fmt.Sprintf("it has more than %d bytes", limit)).withHint("the operator of the service sets the limit: gophersnake serve --max-body")
}

// input returns the value of a body.
func (x *exchange) input(body []byte) (any, error) {
	header := x.req.Header.Get("Content-Type")
	contentType, params, err := mime.ParseMediaType(header)
	if header != "" && err != nil {
		return nil, fault(wrongType, fmt.Sprintf("the Content-Type %q cannot be read", header))
	}
	if contentType == typeMultipart {
		return x.parts(body, params["boundary"])
	}
	return x.h.decode(contentType, params, body)
}

// decode returns the value of a body of a content type.
func (h *handler) decode(contentType string, params map[string]string, body []byte) (any, error) {
	if charset := strings.ToLower(params["charset"]); charset != "" && charset != "utf-8" && charset != "us-ascii" {
		return nil, fault(wrongType, fmt.Sprintf("the text is in %q", charset)).withHint("send it as UTF-8")
	}
	if contentType == "" || contentType == typeForm {
		return h.recognize(body)
	}
	f := h.formatOf(contentType)
	if f == nil {
		return nil, fault(wrongType, fmt.Sprintf("a body of type %q cannot be read", contentType)).
			withHint("send JSON, text/plain, audio/wav, an image, application/x-npy or, for bytes as they are, application/octet-stream")
	}
	v, err := f.Decode(body)
	if err != nil {
		return nil, unreadable(err)
	}
	return v, nil
}

// recognize returns the value of a body without a useful content type: null if it is empty,
// what its first bytes say, or else JSON.
func (h *handler) recognize(body []byte) (any, error) {
	if len(body) == 0 {
		return nil, nil
	}
	decode := document.Parse
	if f := h.detect(body); f != nil {
		decode = f.Decode
	} else if !utf8.Valid(body) {
		return nil, fault(wrongType, "the body has no Content-Type, and is neither JSON nor a known file").
			withHint("send a Content-Type, such as application/octet-stream for bytes as they are")
	}
	v, err := decode(body)
	if err != nil {
		return nil, unreadable(err)
	}
	return v, nil
}

// mostParts is the largest number of parts of a multipart body.
const mostParts = 1000

// parts returns the values of the parts of a multipart body, by their names.
func (x *exchange) parts(body []byte, boundary string) (any, error) {
	if boundary == "" {
		return nil, fault(malformed, "the multipart body has no boundary")
	}
	reader := multipart.NewReader(bytes.NewReader(body), boundary)
	values := ipc.Object{}
	for {
		part, err := reader.NextRawPart()
		if errors.Is(err, io.EOF) {
			return values, nil
		}
		var content []byte
		if err == nil {
			content, err = io.ReadAll(part)
		}
		if err != nil {
			return nil, fault(malformed, "the multipart body cannot be read: "+err.Error())
		}
		name := part.FormName()
		if _, again := values.Get(name); name == "" || again || len(values) == mostParts {
			return nil, fault(malformed, fmt.Sprintf("each of at most %d parts needs a name of its own: %q", mostParts, name))
		}
		v, err := x.h.part(part, content)
		if e, ok := errors.AsType[*requestError](err); ok {
			e.detail = fmt.Sprintf("part %q: %s", name, e.detail)
			return nil, e
		}
		values = append(values, ipc.Member{Key: name, Value: v})
	}
}

// part returns the value of one part. A file of no particular type is what its first bytes
// say, or else bytes; a field without a type is JSON, or else text.
func (h *handler) part(part *multipart.Part, content []byte) (any, error) {
	contentType, params, _ := mime.ParseMediaType(part.Header.Get("Content-Type")) // an unreadable type is none
	isFile := part.FileName() != ""
	switch {
	case isFile && (contentType == typeBytes || contentType == ""):
		if h.detect(content) == nil {
			return content, nil
		}
		return h.recognize(content)
	case contentType != "":
		return h.decode(contentType, params, content)
	}
	v, err := document.Parse(content)
	if errors.Is(err, document.ErrSyntax) {
		v, err = decodeText(content)
	}
	if err != nil {
		return nil, unreadable(err)
	}
	return v, nil
}
