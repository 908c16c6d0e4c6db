package ipc

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// readFor reads frames until call is settled or has an item, and dispatches all frames that
// have been read ahead, so that no other caller waits for a frame that has arrived. The
// caller holds the read role.
func (c *Conn) readFor(call *Call) {
	for len(call.notices) == 0 && (call.inbox == nil || call.inbox.isEmpty()) || c.frames.ready() {
		if _, err := c.readOne(); err != nil {
			return
		}
	}
}

// readOne reads and dispatches one frame, and reports whether it was an answer or an item. It
// returns false and no error if it is interrupted. An error has ended the connection.
func (c *Conn) readOne() (isAnswer bool, err error) {
	f, err := c.frames.next()
	if err == nil {
		err = c.dispatch(f)
	}
	if err != nil {
		if c.role.resume(err) { // interrupted between two frames
			return false, nil
		}
		c.fail(c.role.cause(err))
	}
	return f.kind == frameResult || f.kind == frameError || f.kind == frameItem, err
}

// frameReader reads frames from a stream. Several small frames may share one read. Large
// bodies and buffers are read directly into the memory in which they stay. It is not safe
// for concurrent use.
type frameReader struct {
	src    io.Reader
	first  io.Reader // reads src when the next byte begins a frame
	limits Limits
	result int64      // bounds the size of a result; 0 means no bound
	inline int64      // bounds the inline buffers of a frame together; 0 means no bound of their own
	calls  *callTable // to find the answers that are results; used only if there is a bound
	shared *sharing   // resolves the segments that descriptors name; nil if no memory is shared
	buf    []byte
	r, w   int  // buf[r:w] has been read ahead
	fresh  bool // src has been read since an answer was last timed
}

// newFrameReader returns a reader of the frames that src holds.
func newFrameReader(src io.Reader, limits Limits) *frameReader {
	return &frameReader{src: src, first: src, limits: limits, buf: make([]byte, 64<<10)}
}

// ready reports whether another whole frame, one without buffers, has been read ahead.
func (fr *frameReader) ready() bool {
	h := fr.buf[fr.r:fr.w]
	if len(h) < headerSize || binary.LittleEndian.Uint32(h[16:]) != 0 {
		return false
	}
	size := headerSize + int64(binary.LittleEndian.Uint32(h[4:]))
	if h[3] != 0 {
		size += timeSize
	}
	return int64(len(h)) >= size
}

// peek returns the next n bytes without consuming them. n is at most len(buf).
func (fr *frameReader) peek(n int) ([]byte, error) {
	for fr.w-fr.r < n {
		src := fr.src
		if fr.r == fr.w {
			fr.r, fr.w = 0, 0
			src = fr.first
		} else if len(fr.buf)-fr.r < n {
			copy(fr.buf, fr.buf[fr.r:fr.w])
			fr.r, fr.w = 0, fr.w-fr.r
		}
		m, err := src.Read(fr.buf[fr.w:])
		fr.fresh = true
		fr.w += m
		if err != nil && fr.w-fr.r < n {
			if errors.Is(err, io.EOF) && fr.w > fr.r {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
	return fr.buf[fr.r : fr.r+n], nil
}

// full fills dst, first with bytes that have been read ahead.
func (fr *frameReader) full(dst []byte) error {
	n := copy(dst, fr.buf[fr.r:fr.w])
	fr.r += n
	if n == len(dst) {
		return nil
	}
	fr.fresh = true
	_, err := io.ReadFull(fr.src, dst[n:])
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// maxUpfront is how much memory is allocated for a claimed length before its bytes have
// arrived.
const maxUpfront = 64 << 20

// take reads n bytes into memory of their own. The caller has compared n with its bound. A
// claim alone costs at most maxUpfront. Once these bytes have arrived, take allocates the
// rest at once and copies them, so it never holds more than n and maxUpfront bytes. Memory
// that doubled as it was filled would take up to n bytes more.
func (fr *frameReader) take(n uint64) ([]byte, error) {
	b := make([]byte, min(n, maxUpfront))
	if err := fr.full(b); err != nil || n <= maxUpfront {
		return b, err
	}
	whole := make([]byte, n)
	copy(whole, b)
	return whole, fr.full(whole[maxUpfront:])
}

// next reads one frame. It blocks until the frame has arrived. Its error is io.EOF if the
// stream ends between two frames, and a *ProtocolError for an invalid frame.
func (fr *frameReader) next() (frame, error) {
	h, err := fr.peek(headerSize)
	if err != nil {
		return frame{}, err
	}
	if h[0] != magic {
		return frame{}, &ProtocolError{Reason: fmt.Sprintf("a frame begins with byte %#02x instead of %#02x", h[0], magic)}
	}
	if h[1] != Version {
		return frame{}, &ProtocolError{Reason: fmt.Sprintf("the peer speaks version %d of the protocol, this side version %d", h[1], Version)}
	}
	isTimed := h[3] == hasTime && (FrameType(h[2]) == frameResult || FrameType(h[2]) == frameError)
	if h[3] != 0 && !isTimed {
		return frame{}, &ProtocolError{Reason: fmt.Sprintf("a %s frame has the flags %#02x, which it cannot have", FrameType(h[2]), h[3])}
	}
	if session := binary.LittleEndian.Uint32(h[20:]); session != 0 {
		return frame{}, &ProtocolError{Reason: fmt.Sprintf("a %s frame names session %d; only the supervisor's frames belong to one", FrameType(h[2]), session)}
	}
	f := frame{kind: FrameType(h[2]), call: binary.LittleEndian.Uint64(h[8:])}
	bodyLen := int64(binary.LittleEndian.Uint32(h[4:]))
	buffers := int64(binary.LittleEndian.Uint32(h[16:]))
	mostBody, mostBuffers := fr.limits.bounds(f.kind)
	if bodyLen > mostBody {
		return frame{}, &ProtocolError{Reason: fmt.Sprintf("a %s frame claims a body of %d bytes, more than the limit of %d", f.kind, bodyLen, mostBody)}
	}
	if buffers > mostBuffers {
		return frame{}, &ProtocolError{Reason: fmt.Sprintf("a %s frame claims %d buffers, more than the limit of %d", f.kind, buffers, mostBuffers)}
	}
	fr.r += headerSize
	if isTimed {
		taken, err := fr.peek(timeSize)
		if err != nil {
			return frame{}, endInFrame(err)
		}
		f.worked = binary.LittleEndian.Uint64(taken)
		fr.r += timeSize
	}
	var room [2]descriptor // so that a table of one or two is not on the heap
	table := room[:0]
	if buffers > 0 {
		if table, err = fr.descriptors(table, f.kind, int(buffers)); err != nil {
			return frame{}, err
		}
	}
	if fr.result > 0 {
		if size := uint64(bodyLen) + sizeOf(table); size > uint64(fr.result) && fr.isResult(f) {
			f.withheld = int(size)
			return f, fr.discard(uint64(bodyLen) + inlineSizeOf(table))
		}
	}
	if bodyLen > 0 {
		if f.Body, err = fr.take(uint64(bodyLen)); err != nil {
			return frame{}, err
		}
	}
	if len(table) > 0 {
		if err := fr.buffers(&f.Payload, table); err != nil {
			f.Release()
			return frame{}, err
		}
		if f.locations != nil && fr.shared.domain.isIsolated() {
			fr.shared.detach(&f.Payload, fr.isForOthers(f))
		}
	}
	return f, nil
}

// endInFrame returns the error of a stream that cannot be read in the middle of a frame.
func endInFrame(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// isResult reports whether a frame carries a value that a node returned. The state of a
// session, which answers a snapshot frame, is not a result.
func (fr *frameReader) isResult(f frame) bool {
	return (f.kind == frameResult || f.kind == frameItem) && fr.calls.kindOf(f.call) != FrameSnapshot
}

// isForOthers reports whether a frame carries a value for the consumers of the node. The
// state of a session, and an answer that is discarded, are not for them.
func (fr *frameReader) isForOthers(f frame) bool {
	kind := fr.calls.kindOf(f.call)
	return kind == FrameCall || kind == FrameFinish
}

// discard reads n bytes of a frame and drops them.
func (fr *frameReader) discard(n uint64) error {
	dropped := make([]byte, min(n, 64<<10))
	for ; n > 0; n -= uint64(len(dropped)) {
		dropped = dropped[:min(n, uint64(len(dropped)))]
		if err := fr.full(dropped); err != nil {
			return err
		}
	}
	return nil
}

// buffers reads the inline buffers of a frame and resolves the shared ones.
func (fr *frameReader) buffers(p *Payload, table []descriptor) (err error) {
	p.Buffers = make([][]byte, len(table))
	for i, d := range table {
		if d.segment == 0 {
			p.Buffers[i], err = fr.take(d.size)
		} else {
			if p.locations == nil {
				p.locations = make([]location, len(table))
			}
			p.locations[i], p.Buffers[i], err = fr.shared.resolve(d)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// descriptor is a buffer descriptor as it was received.
type descriptor struct {
	segment      uint32 // 0 for an inline buffer
	offset, size uint64
}

// sizeOf returns the size of the buffers in a table.
func sizeOf(table []descriptor) (size uint64) {
	for _, d := range table {
		size += d.size
	}
	return size
}

// inlineSizeOf returns the size of the buffers in a table that follow inline.
func inlineSizeOf(table []descriptor) (size uint64) {
	for _, d := range table {
		if d.segment == 0 {
			size += d.size
		}
	}
	return size
}

// descriptors reads n descriptors of a frame, appends them to table and checks them.
func (fr *frameReader) descriptors(table []descriptor, t FrameType, n int) ([]descriptor, error) {
	total, inline := uint64(0), uint64(0)
	for range n {
		d, err := fr.peek(descriptorSize)
		if err != nil {
			return nil, endInFrame(err)
		}
		fr.r += descriptorSize
		segment := binary.LittleEndian.Uint32(d)
		if segment != 0 && fr.shared == nil {
			return nil, &ProtocolError{Reason: fmt.Sprintf("a %s frame names the shared segment %d; this side takes inline buffers only", t, segment)}
		}
		found := descriptor{segment, binary.LittleEndian.Uint64(d[8:]), binary.LittleEndian.Uint64(d[16:])}
		if reserved := binary.LittleEndian.Uint32(d[4:]); reserved != 0 || segment == 0 && found.offset != 0 {
			return nil, &ProtocolError{Reason: fmt.Sprintf("in a %s frame's buffer descriptor the reserved part is %d and the offset %d; both are 0 for inline bytes", t, reserved, found.offset)}
		}
		// The first check prevents an overflow of the sum.
		size := found.size
		if size > uint64(fr.limits.BufferBytes) || total+size > uint64(fr.limits.BufferBytes) {
			return nil, &ProtocolError{Reason: fmt.Sprintf("a %s frame claims buffers of more than %d bytes in all", t, fr.limits.BufferBytes)}
		}
		total += size
		if segment == 0 {
			inline += size
		}
		if fr.inline > 0 && inline > uint64(fr.inline) {
			return nil, &ProtocolError{Reason: fmt.Sprintf("a %s frame claims inline buffers of more than %d bytes in all", t, fr.inline)}
		}
		table = append(table, found)
	}
	return table, nil
}

// dispatch passes a frame on. An error ends the connection.
func (c *Conn) dispatch(f frame) error {
	switch f.kind {
	case frameResult, frameError:
		return c.answer(f)
	case frameItem:
		return c.item(f)
	}
	defer f.Release() // a worker may have sent a host's frame with buffers
	switch f.kind {
	case frameLog, frameProgress, frameRelease, frameForget:
		return c.event(f)
	case framePong:
		return nil
	}
	return &ProtocolError{Reason: fmt.Sprintf("a worker sent a %s frame", f.kind)}
}

// answer settles the call that a result or error frame answers.
func (c *Conn) answer(f frame) error {
	var failure error
	if f.kind == frameError {
		failure = c.remoteError(f)
		f.Release()
		f.Payload = Payload{}
		if _, invalid := errors.AsType[*ProtocolError](failure); invalid {
			return failure
		}
	}
	c.calls.Lock()
	call, abandoned := c.calls.open[f.call], c.calls.abandoned[f.call]
	if err := checkAnswer(f, call, failure); err != nil {
		c.calls.Unlock()
		f.Release()
		return err
	}
	if call != nil {
		delete(c.calls.open, f.call)
		c.calls.openCount.Add(-1)
	} else {
		delete(c.calls.abandoned, f.call)
	}
	if call != nil && failure != nil && c.fatal.Load() == failure { //nolint:errorlint // identity
		c.calls.unsettled = append(c.calls.unsettled, unsettled{order: call.order.Load()})
	}
	c.calls.Unlock()
	c.answers.Add(1)
	if c.frames.fresh { // answers that were read together have the same time
		c.frames.fresh = false
		c.answered.Store(int64(time.Since(c.started)))
	}
	if call != nil {
		call.worked = f.worked
		call.settle(f.Payload, failure)
		return nil
	}
	f.Release()
	if abandoned == nil {
		return &ProtocolError{Reason: fmt.Sprintf("a %s frame for call %d, which is not under way", f.kind, f.call)}
	}
	return nil
}

// checkAnswer refuses an answer that the worker cannot have given to a call, which is nil if
// it is not open. The lock of the table of calls is held.
func checkAnswer(f frame, call *Call, failure error) error {
	switch {
	case call == nil:
	case call.order.Load() == 0:
		return &ProtocolError{Reason: fmt.Sprintf("a %s frame for call %d, which the worker was not sent", f.kind, f.call)}
	case call.inbox != nil && failure == nil && !f.isNil():
		return &ProtocolError{Reason: fmt.Sprintf("call %d returns many values, and ends with a result that is not nil", f.call)}
	}
	return nil
}

// idleAfter is how long the socket may stay unread while no call is pending.
const idleAfter = 10 * time.Millisecond

// readWhileIdle reads while no caller does, so that the log records of an idle worker and its
// death are noticed. It releases the role as soon as a caller waits for it. It also reads
// while callers are blocked in writing: a worker that is blocked in writing, too, would
// otherwise never read what they write.
func (c *Conn) readWhileIdle() {
	tick := time.NewTimer(idleAfter)
	defer tick.Stop()
	for {
		select {
		case <-c.done:
			return
		case <-tick.C:
		}
		if c.role.tryClaim() {
			for {
				isAnswer, err := c.readOne()
				if err != nil || isAnswer || c.role.hasWaiters() {
					break
				}
			}
			c.role.release()
		}
		tick.Reset(idleAfter)
	}
}

const (
	// spinTime is how long a caller polls for its answer before it blocks.
	spinTime = 150 * time.Microsecond
	// spinAfter is how many consecutive reads with a single pending call precede polling.
	spinAfter = 64
)

// spinReader reads the beginnings of frames. The only caller of a quick node polls the
// socket for its answer instead of blocking at once: to block and be woken takes as long
// as the call itself, and longer if the processor has gone to sleep in the meantime.
//
// It does not poll if the last answer took longer than spinTime, nor if there were other
// callers recently. A polling caller occupies a processor on which they would make their
// next calls.
type spinReader struct {
	net.Conn
	raw   syscall.RawConn
	open  *atomic.Int64    // how many calls are open
	poll  func(fd uintptr) // polls until fd is readable or spinTime is over
	start time.Time        // of the current read
	quick bool             // the last answer arrived within spinTime
	lone  int              // consecutive reads with one pending call
}

// canPoll reports whether polling, by a caller or by its worker, can be of use. On a single
// processor, or with a quota of one, it would keep the other process from running. On systems
// other than Linux it has not been measured.
func canPoll() bool { return runtime.GOOS == "linux" && runtime.GOMAXPROCS(0) > 1 }

// newSpinReader returns a reader of nc that polls while exactly one call is open. It returns
// nc itself if polling is of no use.
func newSpinReader(nc net.Conn, open *atomic.Int64) io.Reader {
	conn, ok := nc.(syscall.Conn)
	if !ok || !canPoll() {
		return nc
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return nc
	}
	r := &spinReader{Conn: nc, raw: raw, open: open}
	r.poll = func(fd uintptr) {
		fds := [1]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		for time.Since(r.start) < spinTime && r.open.Load() == 1 {
			if n, _ := unix.Poll(fds[:], 0); n != 0 { // readable, or an error that Read returns
				return
			}
		}
	}
	return r
}

// Read implements io.Reader.
func (r *spinReader) Read(b []byte) (int, error) {
	if r.open.Load() != 1 {
		r.lone = 0
		return r.Conn.Read(b)
	}
	r.lone++
	r.start = time.Now()
	if r.quick && r.lone > spinAfter {
		_ = r.raw.Control(r.poll)
	}
	n, err := r.Conn.Read(b)
	r.quick = time.Since(r.start) < spinTime
	return n, err
}
