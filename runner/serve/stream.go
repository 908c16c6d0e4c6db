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

// streamResult runs the pipeline with the body as a stream of one item, and writes each of its
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
	s, err := x.pipeline.runner.Stream(x.ctx)
	if err != nil {
		return err
	}
	defer func() { _ = s.Close() }()
	if err := s.Send(input); err != nil {
		return err
	}
	s.CloseSend()
	out := &streamWriter{x: x, events: form == typeEvents}
	return out.copy(s, nil)
}

// streamLines runs the pipeline on the lines of the body, and writes each value at once, while
// further lines arrive. cancel ends the run.
func (x *exchange) streamLines(form string, cancel context.CancelCauseFunc) error {
	if err := x.control.EnableFullDuplex(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	if err := x.pipeline.runner.Start(x.ctx); err != nil {
		return err
	}
	s, err := x.pipeline.runner.Stream(x.ctx)
	if err != nil {
		return err
	}
	out := &streamWriter{x: x, events: form == typeEvents}
	if err := out.begin(); err != nil { // the client may wait for it before it sends anything
		cancel(err)
	}
	in := newLineReader(x, cancel)
	defer x.watchClient(cancel, in, out)()
	go in.read()
	go in.send(s)
	err = out.copy(s, in)
	_ = s.Close()
	in.close()
	return err
}

// lineReader sends the lines of a body into a stream. One goroutine reads the lines and
// another sends them, so that the latter can end the input while the former waits for the
// client.
type lineReader struct {
	x      *exchange
	cancel context.CancelCauseFunc
	from   *bufio.Reader
	lines  chan inputLine
	count  int // of the items that were read

	// blocked says that the reading goroutine waits until its line is wanted.
	blocked atomic.Bool

	stop  chan struct{} // closed when no further line is wanted
	reads chan struct{} // closed when the reading goroutine has ended
	sent  chan struct{} // closed when the sending goroutine has ended
	err   error         // what ended the input early; valid then

}

// inputLine is the value of a line, or the error that ends the input.
type inputLine struct {
	value any
	err   error
}

func newLineReader(x *exchange, cancel context.CancelCauseFunc) *lineReader {
	return &lineReader{
		x: x, cancel: cancel, from: bufio.NewReader(x.req.Body), lines: make(chan inputLine),
		stop: make(chan struct{}), reads: make(chan struct{}), sent: make(chan struct{}),
	}
}

// close ends the input, and returns when no goroutine uses the body.
func (l *lineReader) close() {
	close(l.stop)
	_ = l.x.control.SetReadDeadline(time.Unix(1, 0)) // ends the read in progress
	<-l.reads
	<-l.sent
}

// failure waits for the end of the input, and returns what ended it early.
func (l *lineReader) failure() error {
	<-l.sent
	return l.err
}

// read reads lines until the input ends.
func (l *lineReader) read() {
	defer close(l.reads)
	for {
		v, err := l.next()
		l.blocked.Store(true)
		select {
		case l.lines <- inputLine{v, err}:
			l.blocked.Store(false)
		case <-l.stop:
			return
		}
		if err != nil {
			return
		}
	}
}

// send sends items until the input or the stream ends, or the handler drains.
func (l *lineReader) send(s *runner.Stream) {
	defer close(l.sent)
	defer s.CloseSend()
	for {
		var line inputLine
		select {
		case line = <-l.lines:
		case <-l.x.h.drained.Done():
			line.err = fault(stopping, "the service drains, and reads no further inputs")
		case <-l.stop:
			return
		}
		err := line.err
		if err == nil {
			err = s.Send(line.value)
		}
		if err == nil {
			continue
		}
		if !errors.Is(err, io.EOF) {
			l.err = err
		}
		return
	}
}

// next returns the value of the next line that is not blank, and io.EOF at the end.
func (l *lineReader) next() (any, error) {
	for {
		line, err := l.readLine()
		if err != nil {
			return nil, err
		}
		if line = bytes.TrimSpace(line); len(line) == 0 {
			continue
		}
		v, err := document.Parse(line)
		if err != nil {
			return nil, l.lineError(err)
		}
		l.count++
		return v, nil
	}
}

// lineError adds the number of the item to the error of its line.
func (l *lineReader) lineError(err error) error {
	e := unreadable(err)
	e.detail = fmt.Sprintf("item %d: %s", l.count+1, e.detail)
	return e
}

// readLine reads the next line. The last one may have no line feed.
func (l *lineReader) readLine() ([]byte, error) {
	var line []byte
	for {
		part, err := l.from.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case int64(len(line)) > l.x.h.maxBody:
			return nil, bodyTooLarge(l.x.h.maxBody)
		case err == nil, errors.Is(err, io.EOF) && len(line) > 0:
			return line, nil
		case errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF):
			return nil, io.EOF
		default: // the connection has ended in the middle of the body, or close was called
			l.cancel(errClientGone)
			return nil, bodyError(err)
		}
	}
}

// streamWriter writes the values of a stream.
type streamWriter struct {
	x      *exchange
	events bool // server-sent events, not lines of JSON
	begun  bool
	count  int

	writing sync.Mutex // held while something is written
}

// record is the JSON form of a value, or of the error that ends a stream.
type record struct {
	Node   string   `json:"node,omitempty"` // if there are several sinks
	Result *rawJSON `json:"result,omitempty"`
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
	contentType := typeLines
	if s.events {
		contentType = typeEvents
	}
	s.x.w.Header().Set("Content-Type", contentType)
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
func (s *streamWriter) copy(from *runner.Stream, in *lineReader) error {
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
	text, _, err := encodeJSON(item.Value)
	if err != nil {
		return err
	}
	if err := s.begin(); err != nil {
		return err
	}
	r := record{Result: (*rawJSON)(&text)}
	if len(s.x.pipeline.sinks) > 1 {
		r.Node = item.Node
	}
	s.count++
	return s.writeRecord("result", r)
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
		p := s.x.problemOf(err)
		s.x.report(p, err)
		_ = s.writeRecord("error", record{Error: p})
		return nil
	}
	if s.events {
		_ = s.writeText(fmt.Sprintf("event: end\ndata: {\"results\":%d}\n\n", s.count))
	}
	return nil
}

func (s *streamWriter) writeRecord(event string, r record) error {
	text, err := document.Encode(r, "")
	if err != nil {
		return err
	}
	if !s.events {
		return s.writeText(string(text) + "\n")
	}
	return s.writeText(fmt.Sprintf("event: %s\nid: %d\ndata: %s\n\n", event, s.count, text))
}

// writeEmpty writes a record that clients skip: an empty line, or a comment.
func (s *streamWriter) writeEmpty() error {
	if s.events {
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
