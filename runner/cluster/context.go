package cluster

import (
	"context"
	"maps"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/internal/progress"
)

// requestIDHeader is the header of a message that has the id of a request.
const requestIDHeader = "Gophersnake-Request-Id"

type outgoingKey struct{}

// WithHeader returns a context whose calls carry a header to the machine, for instance
// traceparent. The machine does not read it; [IncomingHeader] returns it there.
func WithHeader(ctx context.Context, key, value string) context.Context {
	header := maps.Clone(outgoing(ctx))
	if header == nil {
		header = make(nats.Header)
	}
	header[key] = []string{value}
	return context.WithValue(ctx, outgoingKey{}, header)
}

// WithRequestID returns a context whose calls have the given id; see [RequestID].
func WithRequestID(ctx context.Context, id string) context.Context {
	return WithHeader(ctx, requestIDHeader, id)
}

// outgoing returns the headers for the calls of a context. They must not be changed.
func outgoing(ctx context.Context) nats.Header {
	header, _ := ctx.Value(outgoingKey{}).(nats.Header)
	return header
}

// checkHeader refuses what cannot be sent as the header of a message.
func checkHeader(header nats.Header) error {
	for key, values := range header {
		isReserved := strings.HasPrefix(key, "Nats-") || key == "Status" || key == "Description"
		if key == "" || isReserved || strings.ContainsAny(key, ": \r\n\t") || strings.ContainsAny(strings.Join(values, ""), "\r\n") {
			return runner.NewError(runner.KindMarshaling, "the header "+key+" cannot be sent").
				WithHint("names have no spaces or colons, and values are one line; Status, Description and Nats-… are those of NATS")
		}
	}
	return nil
}

// incoming is what a call has brought along.
type incoming struct {
	header map[string][]string
	id     string
}

type incomingKey struct{}

func withIncoming(ctx context.Context, call *served) context.Context {
	return context.WithValue(ctx, incomingKey{}, &incoming{header: call.header, id: call.reply})
}

// IncomingHeader returns a header that the caller has set by [WithHeader]. It is for
// interceptors and Go nodes on a machine; elsewhere, and if there is no such header, it returns
// an empty string.
func IncomingHeader(ctx context.Context, key string) string {
	in, _ := ctx.Value(incomingKey{}).(*incoming)
	if in == nil || len(in.header[key]) == 0 {
		return ""
	}
	return in.header[key][0]
}

// RequestID returns the id of the call that a machine runs: that of [WithRequestID], or else one
// that no other call has. Elsewhere it returns an empty string.
func RequestID(ctx context.Context) string {
	if id := IncomingHeader(ctx, requestIDHeader); id != "" {
		return id
	}
	if in, _ := ctx.Value(incomingKey{}).(*incoming); in != nil {
		return in.id
	}
	return ""
}

// headerSize bounds the size of a header in a message.
func headerSize(header nats.Header) int {
	size := 0
	for key, values := range header {
		size += len(key) + 4
		for _, value := range values {
			size += len(value)
		}
	}
	return size
}

// report is the content of a progress frame.
type report struct {
	Node     string   `msgpack:"node"`
	Message  string   `msgpack:"message"`
	Fraction *float64 `msgpack:"fraction"`
}

// reporting returns the context for the nodes of a call. If its caller wants to know their
// progress, each report that the context passes on is sent to it, until stop.
func (t *target) reporting(call *served) (_ context.Context, stop func()) {
	ctx := withIncoming(call.ctx, call)
	if call.flags&flagProgress == 0 {
		return ctx, func() {}
	}
	return progress.With(ctx, func(r progress.Report) {
		if msg, err := appendDocument(appendAnswer(nil, frameProgress, 0, t.load()), report(r)); err == nil {
			t.publish(call.reply, msg)
		}
	})
}

// reported passes on what a machine sends of the progress of a call or stream.
func (c *Client) reported(name string, cur *cursor) {
	l := cur.load()
	var r report
	if cur.document(&r) != nil {
		return
	}
	c.mu.Lock()
	a := c.calls[name]
	if a != nil {
		a.peer.heard = time.Now()
		a.target.report(l)
	}
	c.mu.Unlock()
	if a != nil {
		a.progress.Add(progress.Report(r))
	}
}
