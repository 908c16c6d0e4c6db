package serve

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/coder/websocket"
	"golang.org/x/sync/semaphore"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/document"
	"github.com/gophersnake/gophersnake/runner/serve/internal/peer"
)

// The subprotocols of a WebSocket. A page cannot set the header Authorization; it asks for
// both of them, the second with its token.
const (
	socketProtocol = "gophersnake"
	tokenProtocol  = "gophersnake.bearer."
)

const (
	// readAhead is how many bytes of frames are kept while the pipeline does not take them,
	// besides the frame that is being read, and mostAhead how many frames. The server sees that
	// the client closes the WebSocket only when it has read the frames before.
	readAhead = 1 << 20
	mostAhead = 1024
	// pingTimeout is how long a ping waits for its turn to be written, and for the answer.
	pingTimeout = 5 * time.Second
)

// endKey is the key of the text frame that ends the input, {"$end": true}.
const endKey = "$end"

// socket is a stream of inputs and results over a WebSocket. One goroutine reads frames for as
// long as the connection lives, that of the feeder sends items, that of the request
// writes results, and another one watches the client.
type socket struct {
	*feeder
	x      *exchange
	form   *socketForm
	conn   *websocket.Conn
	out    *streamWriter
	cancel context.CancelCauseFunc

	room    *semaphore.Weighted // for the frames that the feeder has not taken
	wanted  context.Context     // ends when no further frame is wanted
	blocked atomic.Bool         // the reading goroutine waits for room
	heard   atomic.Int64        // counts what arrives
	broken  atomic.Bool         // a ping could not be written
	reads   chan struct{}       // closed when the reading goroutine has ended
	count   int                 // of the items that were taken
	// announced is what the last binary frame was announced as, and node its sink.
	announced content
	node      string

	raw                syscall.RawConn // nil if it is not known
	lastHeard          int64           // what heard was
	heardAt, lastPing  time.Time
	interval, patience time.Duration // between two pings, and without anything heard
}

// stream answers a request for a WebSocket. An error before its first frame has a status.
func (x *exchange) stream() error {
	form, err := x.h.socketFormOf(x.req.URL.Query())
	if err != nil {
		return err
	}
	if err := x.checkUpgrade(); err != nil {
		return err
	}
	return x.process(func(cancel context.CancelCauseFunc) error { return x.serveSocket(form, cancel) })
}

// checkUpgrade returns an error unless the request opens a WebSocket.
func (x *exchange) checkUpgrade() error {
	header := x.req.Header
	switch {
	case header.Values("Idempotency-Key") != nil:
		return fault(malformed, "a stream cannot have an Idempotency-Key")
	case x.req.Method != http.MethodGet || x.req.ProtoMajor != 1 || !hasToken(header, "Connection", "upgrade") || !hasToken(header, "Upgrade", "websocket"),
		header.Get("Sec-WebSocket-Version") != "13":
		x.w.Header().Set("Upgrade", "websocket")
		x.w.Header().Set("Connection", "Upgrade")
		x.w.Header().Set("Sec-WebSocket-Version", "13")
		return fault(notSocket, "the resource is a WebSocket, of version 13 over HTTP/1.1").
			withHint("use a WebSocket client, or post a body of type application/x-ndjson to the pipeline")
	}
	key := header.Values("Sec-WebSocket-Key")
	if len(key) == 1 {
		if nonce, err := base64.StdEncoding.DecodeString(strings.TrimSpace(key[0])); err == nil && len(nonce) == 16 {
			return nil
		}
	}
	return fault(malformed, "the header Sec-WebSocket-Key is not one key of 16 bytes")
}

// hasToken reports whether a header with a list of tokens has one, which is in lower case.
func hasToken(header http.Header, name, token string) bool {
	for part := range strings.SplitSeq(strings.Join(header.Values(name), ","), ",") {
		if strings.EqualFold(strings.TrimSpace(part), token) {
			return true
		}
	}
	return false
}

// serveSocket opens the WebSocket and a stream, and runs both until one of them ends. cancel ends
// the stream.
func (x *exchange) serveSocket(form *socketForm, cancel context.CancelCauseFunc) error {
	s, err := x.openStream() // starts the runner
	if err != nil {
		return err
	}
	defer func() { _ = s.Close() }()
	k := &socket{
		feeder: newFeeder(x, mostAhead), x: x, form: form, cancel: cancel,
		room: semaphore.NewWeighted(readAhead), reads: make(chan struct{}),
		raw: x.socketOf(), heardAt: time.Now(), lastPing: time.Now(), interval: x.h.stall / 3, patience: x.h.stall,
	}
	k.out = &streamWriter{x: x, begun: true, put: k.putText}
	if form.encode != nil {
		k.out.binary = k.putBinary
	}
	k.conn, err = websocket.Accept(x.w, x.req, &websocket.AcceptOptions{
		Subprotocols: []string{socketProtocol}, InsecureSkipVerify: true, // the handler checks the origin
		OnPongReceived: func(context.Context, []byte) { k.heard.Add(1) },
	})
	if err != nil {
		return nil // Accept has sent an answer
	}
	k.run(s)
	return nil
}

// run runs the stream, and closes the WebSocket when it has ended.
func (k *socket) run(s *runner.Stream) {
	k.conn.SetReadLimit(-1) // message has a limit of its own, and the client gets a problem
	wanted, refuse := context.WithCancel(k.x.ctx)
	k.wanted = wanted
	stopWatching := watch(k.cancel, k.isGone)
	go k.read()
	go func() {
		defer refuse()
		k.send(s)
	}()
	_ = k.out.copy(s, k.feeder) // an error is that of a client that has left
	_ = s.Close()
	stopWatching()
	k.end()
	if k.x.isGone() {
		_ = k.conn.CloseNow()
	} else {
		_ = k.conn.Close(closeOf(k.out.failure))
	}
	<-k.reads
	<-k.sent
}

// read reads frames until the connection ends. Those that are not wanted are dropped: the server
// reads on to see pongs, and that the client leaves.
func (k *socket) read() {
	defer close(k.reads)
	defer k.cancel(errClientGone)
	for {
		kind, from, err := k.conn.Reader(context.Background())
		if err != nil {
			return
		}
		k.heard.Add(1)
		data, err := k.message(from)
		own, _ := errors.AsType[*requestError](err)
		if err != nil && own == nil {
			return
		}
		held := int64(len(data))
		if !k.x.h.held.take(held) {
			own, held = k.x.h.memoryFull(), 0
		}
		k.blocked.Store(true)
		size := min(int64(len(data)), readAhead)
		if k.room.Acquire(k.wanted, size) != nil {
			k.x.h.held.give(held)
		} else {
			k.put(func() (any, error) {
				defer k.room.Release(size)
				if own != nil {
					return nil, own
				}
				return k.item(kind, data)
			}, held)
		}
		k.blocked.Store(false)
		if _, err := io.Copy(io.Discard, heardReader{k, from}); err != nil {
			return
		}
	}
}

// message reads a message, unless it is too large.
func (k *socket) message(from io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(heardReader{k, from}, k.x.h.maxBody+1))
	if err == nil && int64(len(data)) > k.x.h.maxBody {
		return nil, bodyTooLarge(k.x.h.maxBody)
	}
	return data, err
}

// heardReader counts what is read.
type heardReader struct {
	k    *socket
	from io.Reader
}

func (r heardReader) Read(p []byte) (int, error) {
	n, err := r.from.Read(p)
	r.k.heard.Add(1)
	return n, err
}

// item returns the item of a message, and [io.EOF] if that ends the input.
func (k *socket) item(kind websocket.MessageType, data []byte) (v any, err error) {
	k.count++
	if kind == websocket.MessageText {
		v, err = document.Parse(data)
	} else {
		v, err = k.form.decode(data)
	}
	if err != nil {
		return nil, itemError(k.count, err)
	}
	if o, ok := v.(ipc.Object); ok && kind == websocket.MessageText && len(o) == 1 && o[0].Key == endKey && o[0].Value == true {
		return nil, io.EOF
	}
	return v, nil
}

// putText writes a record.
func (k *socket) putText(_ string, text []byte) error {
	return k.write(websocket.MessageText, text)
}

// putBinary writes a value as a binary frame, if it can be one. A record precedes it unless that
// would be the same as for the last binary frame.
func (k *socket) putBinary(item runner.Item) (bool, error) {
	head, data, ok, err := k.form.encode(item.Value)
	if !ok || err != nil {
		return false, err
	}
	if node := k.out.sink(item); head != k.announced || node != k.node {
		k.announced, k.node = head, node
		if err := k.out.writeRecord("binary", record{Node: node, Binary: &head}); err != nil {
			return false, err
		}
	}
	return true, k.write(websocket.MessageBinary, data)
}

// write writes a message. A client that does not take it within the stall timeout is
// disconnected.
func (k *socket) write(kind websocket.MessageType, data []byte) error {
	ctx, cancel := context.WithTimeout(context.Background(), k.x.h.stall)
	defer cancel()
	if k.conn.Write(ctx, kind, data) != nil {
		k.cancel(errClientGone)
		return errClientGone
	}
	return nil
}

// isGone reports whether the client has left: its connection has ended, it does not answer
// pings, or its system refuses them. The function is called at short intervals.
func (k *socket) isGone() bool {
	if k.broken.Load() || k.raw != nil && peer.HasClosed(k.raw) {
		return true
	}
	now, heard, isBlocked := time.Now(), k.heard.Load(), k.blocked.Load()
	if heard != k.lastHeard || isBlocked { // while the server does not read, it hears nothing
		k.lastHeard, k.heardAt = heard, now
	}
	if now.Sub(k.heardAt) >= k.patience {
		return true
	}
	wait := k.interval
	if isBlocked { // the ping is for the system of a client that has left, which refuses it
		wait = min(wait, 2*goneInterval)
	}
	if now.Sub(k.lastPing) >= wait {
		k.lastPing = now
		go k.ping()
	}
	return false
}

// ping writes a ping. No answer within the timeout is no error.
func (k *socket) ping() {
	ctx, cancel := context.WithTimeout(context.Background(), pingTimeout)
	defer cancel()
	if err := k.conn.Ping(ctx); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		k.broken.Store(true)
	}
}

// closeOf returns the code and the reason with which a WebSocket is closed, for the problem that
// ended its stream, or nil. The reason is the name of the problem.
func closeOf(p *problem) (websocket.StatusCode, string) {
	if p == nil {
		return websocket.StatusNormalClosure, ""
	}
	name := strings.TrimPrefix(p.Type, typePrefix)
	switch {
	case name == stopping.name:
		return websocket.StatusGoingAway, name
	case p.Status == malformed.status:
		return websocket.StatusInvalidFramePayloadData, name
	case p.Status == tooLarge.status:
		return websocket.StatusMessageTooBig, name
	case p.Status == http.StatusTooManyRequests, p.Status == http.StatusServiceUnavailable:
		return websocket.StatusTryAgainLater, name
	case p.Status < http.StatusInternalServerError:
		return websocket.StatusPolicyViolation, name
	}
	return websocket.StatusInternalError, name
}

// itemError adds the number of an item to an error of its text or bytes.
func itemError(number int, err error) error {
	e, ok := errors.AsType[*requestError](err)
	if !ok {
		e = unreadable(err)
	}
	e.detail = fmt.Sprintf("item %d: %s", number, e.detail)
	return e
}
