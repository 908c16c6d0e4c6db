package serve

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/document"
)

// streamResult runs the pipeline or the node with the body as a stream of one item, and writes each of its
// values at once. The status is that of the first value, so that an error before it is
// answered as one of a call.
func (x *exchange) streamResult(form string) error {
	body, err := x.readBody()
	if err != nil {
		return err
	}
	input, err := x.input(body)
	if err != nil {
		return err
	}
	if err := x.takeTurn(x.ctx); err != nil {
		return err
	}
	defer x.pipeline.turns.Release()
	s, err := x.openStream()
	if err != nil {
		return err
	}
	defer func() { _ = s.Close() }()
	if err := s.Send(input); err != nil {
		return err
	}
	s.CloseSend()
	return newStreamWriter(x, form).copy(s, nil)
}

// openStream opens a stream through the pipeline or the node.
func (x *exchange) openStream() (*runner.Stream, error) {
	if x.node != "" {
		return x.pipeline.runner.Node(x.node).Stream(x.ctx)
	}
	return x.pipeline.runner.Stream(x.ctx)
}

// streamLines runs the pipeline or the node on the lines of the body, and writes each value at once, while
// further lines arrive. cancel ends the run.
func (x *exchange) streamLines(form string, cancel context.CancelCauseFunc) error {
	if err := x.control.EnableFullDuplex(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	// To end the reading of the input ends that of the connection: a further request would
	// seem to have been left by its client.
	x.closeConnection()
	if err := x.pipeline.runner.Start(x.ctx); err != nil {
		return err
	}
	s, err := x.openStream()
	if err != nil {
		return err
	}
	out := newStreamWriter(x, form)
	if x.req.ProtoMajor == 1 {
		// The server cannot use the connection again: it may still read the body while it reads the
		// next request, and a read that close has ended counts as the end of the connection.
		x.w.Header().Set("Connection", "close")
	}
	if err := out.begin(); err != nil { // the client may wait for it before it sends anything
		cancel(err)
	}
	in := newLineReader(x, cancel)
	defer x.watchClient(cancel, in, out)()
	go in.read()
	go in.send(s)
	err = out.copy(s, in.feeder)
	_ = s.Close()
	in.close()
	return err
}

// feeder sends the items of an input into a stream. It has a goroutine of its own, so that it
// can end the input while the goroutine that reads waits for the client.
type feeder struct {
	x *exchange
	// items are called once each, in order.
	items chan feed
	ctx   context.Context // ends when no further item is wanted
	cease context.CancelFunc
	sent  chan struct{} // closed when the feeder has ended
	err   error         // what ended the input early; valid then
	stop  chan struct{} // closed when no further item is wanted
}

// feed is one item of an input.
type feed struct {
	// item returns the item, or the error that ends the input: io.EOF at its end.
	item func() (any, error)
	// held is how many bytes of the handler's memory are held until the item is sent.
	held int64
}

// newFeeder returns a feeder that keeps as many items as room says. The caller calls end.
func newFeeder(x *exchange, room int) *feeder {
	f := &feeder{x: x, items: make(chan feed, room), sent: make(chan struct{}), stop: make(chan struct{})}
	f.ctx, f.cease = context.WithCancel(x.ctx)
	return f
}

// end says that no further item is wanted.
func (f *feeder) end() {
	close(f.stop)
	f.cease()
}

// put passes an item to the feeder, and blocks until there is room for it. The feeder gives back
// the bytes that are held for it. It returns false if no further item is wanted.
func (f *feeder) put(item func() (any, error), held int64) bool {
	select {
	case f.items <- feed{item, held}:
		return true
	case <-f.stop:
	case <-f.sent:
	}
	f.x.h.held.give(held)
	return false
}

// failure waits for the end of the input, and returns what ended it early.
func (f *feeder) failure() error {
	<-f.sent
	return f.err
}

// send sends items until the input or the stream ends, or the handler drains.
func (f *feeder) send(s *runner.Stream) {
	defer f.giveRest()
	defer s.CloseSend()
	for {
		var v any
		var err error
		var held int64
		select {
		case next := <-f.items:
			held = next.held
			v, err = next.item()
		case <-f.x.h.drained.Done():
			err = fault(stopping, "the service drains, and reads no further inputs")
		case <-f.stop:
			return
		}
		if err == nil {
			err = f.x.passTurn(f.ctx)
		}
		if err == nil {
			err = s.Send(v)
		}
		f.x.h.held.give(held)
		if err == nil {
			continue
		}
		if !errors.Is(err, io.EOF) {
			f.err = err
		}
		return
	}
}

// giveRest ends the feeder, and gives back what is held for the items that it has not taken.
func (f *feeder) giveRest() {
	close(f.sent)
	for {
		select {
		case next := <-f.items:
			f.x.h.held.give(next.held)
		default:
			return
		}
	}
}

// lineReader sends the lines of a body into a stream. One goroutine reads the lines, and that
// of the feeder sends them.
type lineReader struct {
	*feeder
	x      *exchange
	cancel context.CancelCauseFunc
	from   *bufio.Reader
	count  int // of the items that were read

	// blocked says that the reading goroutine waits until its line is wanted.
	blocked atomic.Bool
	reads   chan struct{} // closed when the reading goroutine has ended
}

func newLineReader(x *exchange, cancel context.CancelCauseFunc) *lineReader {
	return &lineReader{
		feeder: newFeeder(x, 0), x: x, cancel: cancel, from: bufio.NewReader(x.req.Body), reads: make(chan struct{}),
	}
}

// close ends the input, and returns when no goroutine uses the body.
func (l *lineReader) close() {
	l.end()
	_ = l.x.control.SetReadDeadline(time.Unix(1, 0)) // ends the read in progress
	<-l.reads
	<-l.sent
	_ = l.x.control.SetReadDeadline(time.Now().Add(restTimeout))
}

// restTimeout is how long the server reads the rest of a body after its answer, so that the
// client gets the answer.
const restTimeout = time.Second

// read reads lines until the input ends.
func (l *lineReader) read() {
	defer close(l.reads)
	for {
		v, held, err := l.next()
		l.blocked.Store(true)
		if !l.put(func() (any, error) { return v, err }, held) || err != nil {
			return
		}
		l.blocked.Store(false)
	}
}

// next returns the value of the next line that is not blank, and io.EOF at the end. It also
// returns how many bytes are held for the line, even if it fails.
func (l *lineReader) next() (v any, held int64, err error) {
	for {
		line, held, err := l.readLine()
		if err != nil {
			return nil, held, err
		}
		if line = bytes.TrimSpace(line); len(line) == 0 {
			l.x.h.held.give(held)
			continue
		}
		v, err := document.Parse(line)
		if err != nil {
			return nil, held, itemError(l.count+1, err)
		}
		l.count++
		return v, held, nil
	}
}

// readLine reads the next line, and returns how many bytes are held for it, even if it fails.
// The last line may have no line feed.
func (l *lineReader) readLine() (line []byte, held int64, err error) {
	for {
		part, err := l.from.ReadSlice('\n')
		line = append(line, part...)
		if !l.x.h.held.take(int64(len(part))) {
			return nil, held, l.x.h.memoryFull()
		}
		held += int64(len(part))
		switch {
		case int64(len(line)) > l.x.h.maxBody:
			return nil, held, bodyTooLarge(l.x.h.maxBody)
		case err == nil, errors.Is(err, io.EOF) && len(line) > 0:
			return line, held, nil
		case errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF):
			return nil, held, io.EOF
		default: // the connection has ended in the middle of the body, or close was called
			l.cancel(errClientGone)
			return nil, held, bodyError(err)
		}
	}
}

// streamWriter writes the values of a stream.
type streamWriter struct {
	x     *exchange
	form  string // the content type of the stream
	begun bool
	count int
	// put writes the text of a record. The event names its kind.
	put func(event string, text []byte) error
	// binary, if it is not nil, writes a value that needs no record, and returns true.
	binary func(item runner.Item) (bool, error)
	// failure is the problem that ended the stream, nil if there is none.
	failure *problem

	writing sync.Mutex // held while something is written
}

// newStreamWriter returns a writer of a stream of events or lines.
func newStreamWriter(x *exchange, form string) *streamWriter {
	s := &streamWriter{x: x, form: typeLines}
	s.put = func(_ string, text []byte) error { return s.writeText(string(text) + "\n") }
	if form == typeEvents {
		s.form, s.put = form, func(event string, text []byte) error {
			return s.writeText(fmt.Sprintf("event: %s\nid: %d\ndata: %s\n\n", event, s.count, text))
		}
	}
	return s
}

// record is the JSON form of a value, or of the error that ends a stream.
type record struct {
	Node   string   `json:"node,omitempty"` // if there are several sinks
	Result *rawJSON `json:"result,omitempty"`
	Binary *content `json:"binary,omitempty"` // of the binary frames that follow
	Error  *problem `json:"error,omitempty"`
}

// rawJSON is JSON text.
type rawJSON []byte

// MarshalJSON returns the text.
func (r rawJSON) MarshalJSON() ([]byte, error) { return r, nil }

// begin writes the header.
func (s *streamWriter) begin() error {
	if s.begun {
		return nil
	}
	s.begun = true
	s.x.w.Header().Set("Content-Type", s.form)
	s.x.w.Header().Set("X-Accel-Buffering", "no") // for nginx
	s.x.extendWrite()
	s.x.w.WriteHeader(http.StatusOK)
	return s.flush()
}

func (s *streamWriter) flush() error {
	if err := s.x.control.Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return errClientGone
	}
	return nil
}

// copy writes all values of a stream, and then the error that ended it or its input, if it has
// one. It returns an error only if nothing was written.
func (s *streamWriter) copy(from *runner.Stream, in *feeder) error {
	for {
		item, err := from.Recv()
		if err == io.EOF { //nolint:errorlint // a node's error may wrap io.EOF
			if in != nil {
				return s.end(in.failure())
			}
			return s.end(nil)
		}
		if err == nil {
			err = s.write(item)
		}
		if errors.Is(err, errClientGone) {
			return nil
		}
		if err != nil {
			return s.end(err)
		}
	}
}

// write writes one value.
func (s *streamWriter) write(item runner.Item) error {
	if s.binary != nil {
		if ok, err := s.binary(item); ok || err != nil {
			s.count++
			return err
		}
	}
	text, _, err := encodeJSON(item.Value)
	if err != nil {
		return err
	}
	if err := s.begin(); err != nil {
		return err
	}
	s.count++
	return s.writeRecord("result", record{Node: s.sink(item), Result: (*rawJSON)(&text)})
}

// sink returns the node of a value if there are several sinks.
func (s *streamWriter) sink(item runner.Item) string {
	if s.x.node == "" && len(s.x.pipeline.sinks) > 1 {
		return item.Node
	}
	return ""
}

// end ends the stream, with an error if there is one.
func (s *streamWriter) end(err error) error {
	if err != nil && (!s.begun || s.x.isGone()) {
		return err
	}
	if err := s.begin(); err != nil {
		return nil // the client has left
	}
	if err != nil {
		s.failure = s.x.problemOf(err)
		s.x.report(s.failure, err)
		_ = s.writeRecord("error", record{Error: s.failure})
		return nil
	}
	if s.form == typeEvents {
		_ = s.writeText(fmt.Sprintf("event: end\ndata: {\"results\":%d}\n\n", s.count))
	}
	return nil
}

func (s *streamWriter) writeRecord(event string, r record) error {
	text, err := document.Encode(r, "")
	if err != nil {
		return err
	}
	return s.put(event, text)
}

// writeEmpty writes a record that clients skip: an empty line, or a comment.
func (s *streamWriter) writeEmpty() error {
	if s.form == typeEvents {
		return s.writeText(":\n\n")
	}
	return s.writeText("\n")
}

func (s *streamWriter) writeText(text string) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	s.x.extendWrite()
	if _, err := io.WriteString(s.x.w, text); err != nil {
		return errClientGone
	}
	return s.flush()
}
