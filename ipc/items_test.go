package ipc

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/vmihailenco/msgpack/v5"
)

// sendItems answers a call with n items and waits for credit when the window is full. It
// returns how many of the items have not been credited.
func (p *peer) sendItems(call uint64, n int) (owed int) {
	for i := range n {
		for owed == DefaultWindow().Items {
			owed -= p.takeCredit(call)
		}
		p.send(frameItem, call, pack(p.t, i))
		owed++
	}
	p.send(frameResult, call, []byte{0xc0})
	return owed
}

func (p *peer) takeCredit(call uint64) int {
	f := p.take()
	assert.Equal(p.t, frameCredit, f.kind)
	assert.Equal(p.t, call, f.call)
	var n int
	assert.NoError(p.t, msgpack.Unmarshal(f.Body, &n))
	return n
}

func decoded(t *testing.T, p Payload) any {
	v, err := p.Decode("item", DefaultLimits())
	require.NoError(t, err)
	return v
}

func TestItemsArriveInOrderBeforeTheAnswer(t *testing.T) {
	for _, n := range []int{0, 1, 15, 16, 17, 1000} {
		c, p := connect(t, Events{})
		go func() { p.sendItems(p.take().call, n) }()
		var got []any
		require.NoError(t, c.NewCall(FrameCall, 0).Items(Args{}, func(item Payload) { got = append(got, decoded(t, item)) }))
		require.Len(t, got, n)
		for i, v := range got {
			assert.EqualValues(t, i, v)
		}
	}
}

func TestNoMoreItemsAreCreditedThanWereTaken(t *testing.T) {
	c, p := connect(t, Events{})
	window := DefaultWindow().Items
	taken := make(chan struct{})
	credited := make(chan int)
	go func() {
		call := p.take().call
		for i := range window {
			p.send(frameItem, call, pack(t, i))
		}
		credit := 0
		for credit < window {
			credit += p.takeCredit(call)
			credited <- credit
		}
		p.send(frameResult, call, []byte{0xc0})
	}()
	done := make(chan error, 1)
	go func() { done <- c.NewCall(FrameCall, 0).Items(Args{}, func(Payload) { <-taken }) }()
	for range window/2 - 1 {
		taken <- struct{}{}
	}
	select {
	case n := <-credited:
		t.Fatalf("%d items were credited, of which %d are taken", n, window/2-1)
	case taken <- struct{}{}: // the half
	}
	assert.Equal(t, window/2, <-credited)
	close(taken)
	assert.Equal(t, window, <-credited)
	require.NoError(t, <-done)
}

func TestALargeItemIsCreditedByItself(t *testing.T) {
	c, p := connect(t, Events{})
	go func() {
		call := p.take().call
		p.send(frameItem, call, pack(t, make([]byte, DefaultWindow().Bytes/2)))
		assert.Equal(t, 1, p.takeCredit(call))
		p.send(frameResult, call, []byte{0xc0})
	}()
	items := 0
	require.NoError(t, c.NewCall(FrameCall, 0).Items(Args{}, func(Payload) { items++ }))
	assert.Equal(t, 1, items)
}

func TestItemsAreEmittedBeforeTheErrorThatFollowsThem(t *testing.T) {
	c, p := connect(t, Events{})
	go func() {
		call := p.take().call
		p.send(frameItem, call, pack(t, 1))
		p.send(frameItem, call, pack(t, 2))
		assert.NoError(t, p.nc.Close())
	}()
	var got []any
	err := c.NewCall(FrameCall, 0).Items(Args{}, func(item Payload) { got = append(got, decoded(t, item)) })
	require.ErrorIs(t, err, ErrClosed)
	assert.Equal(t, []any{int64(1), int64(2)}, got)
}

func TestOtherCallsAreAnsweredWhileOneDoesNotTakeItsItems(t *testing.T) {
	c, p := connect(t, Events{})
	go func() {
		stuck, quick := p.take(), p.take()
		p.send(frameItem, stuck.call, pack(t, 1))
		p.send(frameResult, quick.call, []byte{0xc0})
		p.send(frameResult, stuck.call, []byte{0xc0})
	}()
	release, done := make(chan struct{}), make(chan error, 1)
	call := c.NewCall(FrameCall, 0)
	go func() { done <- call.Items(Args{}, func(Payload) { <-release }) }()
	require.Eventually(t, func() bool { return call.Order() == 1 }, 10*time.Second, time.Millisecond)
	_, err := c.NewCall(FrameCall, 0).Do(Args{})
	require.NoError(t, err)
	close(release)
	require.NoError(t, <-done)
}

func TestItemsOutOfProtocolEndTheConnection(t *testing.T) {
	for name, c := range map[string]struct {
		worker func(p *peer, call uint64)
		many   bool
		says   string
	}{
		"for a call that gives one value": {func(p *peer, call uint64) { p.send(frameItem, call, []byte{0xc0}) }, false, "returns one value"},
		"for no call":                     {func(p *peer, call uint64) { p.send(frameItem, call+7, []byte{0xc0}) }, true, "not under way"},
		"beyond the credit": {func(p *peer, call uint64) {
			var frames []byte // in one write, so that the caller cannot credit in between
			for range 10 * DefaultWindow().Items {
				frames = append(frames, encodeFrame(frame{kind: frameItem, call: call, Payload: Payload{Body: []byte{0xc0}}})...)
			}
			_, _ = p.nc.Write(frames)
		}, true, "more than the 16 items"},
	} {
		t.Run(name, func(t *testing.T) {
			conn, p := connect(t, Events{})
			go func() { c.worker(p, p.take().call) }()
			var err error
			if c.many {
				err = conn.NewCall(FrameCall, 0).Items(Args{}, func(Payload) {})
			} else {
				_, err = conn.NewCall(FrameCall, 0).Do(Args{})
			}
			require.ErrorIs(t, err, ErrClosed)
			assert.ErrorContains(t, err, c.says)
		})
	}
}

func TestFramesOfASessionNameIt(t *testing.T) {
	c, p := connect(t, Events{})
	state, err := Encode("state", "before")
	require.NoError(t, err)
	input, err := Encode("input", 5)
	require.NoError(t, err)
	for _, step := range []struct {
		kind FrameType
		args Args
		body []byte
	}{
		{FrameOpen, Args{}, []byte{0x90}},
		{FrameOpen, OneArg(state), append([]byte{0x91}, state.Body...)},
		{FrameCall, OneArg(input), []byte{0x92, 0x91, 5, 0x80}},
		{FrameSnapshot, Args{}, nil},
		{FrameFinish, Args{}, nil},
	} {
		go func() {
			h, err := p.peek(headerSize)
			assert.NoError(t, err)
			assert.EqualValues(t, 9, binary.LittleEndian.Uint32(h[20:]), step.kind)
			binary.LittleEndian.PutUint32(h[20:], 0) // so that it can be read as a worker's frame
			f := p.take()
			assert.Equal(t, step.kind, f.kind)
			assert.Equal(t, step.body, f.Body, step.kind)
			p.send(frameResult, f.call, []byte{0xc0})
		}()
		_, err := c.NewCall(step.kind, 9).Do(step.args)
		require.NoError(t, err)
	}
	require.NoError(t, c.Drop(9))
	h, err := p.peek(headerSize)
	require.NoError(t, err)
	assert.Equal(t, byte(frameDrop), h[2])
	assert.EqualValues(t, 9, binary.LittleEndian.Uint32(h[20:]))
}

// A result that a worker made up does not count as the end of its values.
func TestAResultThatIsNotNilDoesNotEndTheItems(t *testing.T) {
	for _, body := range [][]byte{{0xc1}, {0x01}, {0xc0, 0xc0}, {}} {
		c, p := connect(t, Events{})
		go func() {
			call := p.take().call
			p.send(frameItem, call, pack(t, 1))
			p.send(frameResult, call, body)
		}()
		err := c.NewCall(FrameCall, 0).Items(Args{}, func(Payload) {})
		var wrong *ProtocolError
		require.ErrorAs(t, err, &wrong)
		assert.Contains(t, wrong.Reason, "ends with a result that is not nil")
		require.ErrorIs(t, err, ErrClosed)
	}
}
