package ipc

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// takeTurn keeps everybody from reading, until the connection's endTurn.
func takeTurn(t *testing.T, c *Conn) {
	call := c.NewCall()
	defer c.forget(call.head.call)
	if !c.claim(call) { // the connection's own goroutine reads
		require.Eventually(t, func() bool {
			c.wake()
			return len(call.notes) > 0
		}, 10*time.Second, 10*time.Microsecond)
	}
}

// lineUp makes a call on a goroutine of its own, whose caller is in line when it returns.
func lineUp(t *testing.T, c *Conn, p *peer, callers *sync.WaitGroup, check func(error)) *Call {
	call := c.NewCall()
	callers.Go(func() {
		_, err := call.Do(Args{})
		check(err)
	})
	p.take()
	require.Eventually(t, call.inLine.Load, 10*time.Second, 10*time.Microsecond)
	return call
}

func TestTheTurnGoesToTheLatestCallAndOnlyOnce(t *testing.T) {
	c, p := connect(t, Events{})
	takeTurn(t, c)
	var calls [4]*Call
	var callers sync.WaitGroup
	for i := range calls {
		calls[i] = lineUp(t, c, p, &callers, func(err error) { assert.NoError(t, err) })
	}
	inLine := func() (waiting [4]bool) {
		for i, call := range calls {
			waiting[i] = call.inLine.Load()
		}
		return waiting
	}
	c.endTurn()
	assert.Equal(t, [4]bool{true, true, true, false}, inLine())
	p.send(TypeResult, calls[3].head.call, []byte{0xc0}) // the next one is the latest of the others
	require.Eventually(t, func() bool { return inLine() == [4]bool{true, true, false, false} }, 10*time.Second, 10*time.Microsecond)
	for _, call := range calls[:3] {
		p.send(TypeResult, call.head.call, []byte{0xc0})
	}
	callers.Wait()
	takeTurn(t, c) // nobody has it any more
}

// Who hands out items reads for nobody meanwhile, however long that takes. He may have
// been told that it is his turn in the same moment in which the item came.
func TestWhoHasItemsToHandOutHandsTheTurnOn(t *testing.T) {
	c, p := connect(t, Events{})
	for range 100 {
		takeTurn(t, c)
		many, one := c.NewCall(), c.NewCall()
		var callers sync.WaitGroup
		answered := make(chan struct{})
		callers.Go(func() {
			assert.NoError(t, many.Items(Args{}, func(item Payload) {
				item.Release()
				<-answered
			}))
		})
		p.take()
		require.Eventually(t, many.inLine.Load, 10*time.Second, 10*time.Microsecond)
		p.send(TypeItem, many.head.call, []byte{1})
		_, err := c.readOne() // on this goroutine, whose turn it is
		require.NoError(t, err)
		c.endTurn()
		callers.Go(func() {
			_, err := one.Do(Args{})
			assert.NoError(t, err)
			close(answered)
		})
		p.take()
		p.send(TypeResult, one.head.call, []byte{0xc0})
		select {
		case <-answered:
		case <-time.After(30 * time.Second):
			require.FailNow(t, "nobody reads")
		}
		p.send(TypeResult, many.head.call, []byte{0xc0})
		callers.Wait()
	}
}

// Callers who give up, or whose connection ends, may have been told that it is their turn.
func TestATurnThatIsGivenToACallerWhoLeavesIsNotLost(t *testing.T) {
	c, p := connect(t, Events{})
	for range 200 {
		takeTurn(t, c)
		var calls [3]*Call
		var callers sync.WaitGroup
		for i := range calls {
			calls[i] = lineUp(t, c, p, &callers, func(err error) {
				if i == 0 {
					assert.NoError(t, err)
				} else if err != nil {
					assert.Equal(t, ErrAbandoned, err)
				}
			})
		}
		callers.Go(c.endTurn)
		callers.Go(calls[2].Abandon)
		callers.Go(calls[1].Abandon)
		for _, i := range []int{2, 1, 0} {
			p.send(TypeResult, calls[i].head.call, []byte{0xc0})
		}
		callers.Wait()
	}
	takeTurn(t, c)
	var callers sync.WaitGroup
	for range 3 {
		lineUp(t, c, p, &callers, func(err error) { assert.ErrorIs(t, err, ErrClosed) })
	}
	callers.Go(c.endTurn)
	callers.Go(func() { c.fail(errors.New("the end")) })
	callers.Wait()
}

// Who finds others before him in the queue leaves the writing to them.
func TestEveryQueuedCallIsWritten(t *testing.T) {
	c, p := connect(t, Events{})
	var callers sync.WaitGroup
	for range 4 {
		c.writing.Lock() // the writer is held up
		for range 3 * plenty {
			callers.Go(func() {
				_, err := c.NewCall().Do(Args{})
				assert.NoError(t, err)
			})
		}
		require.Eventually(t, func() bool {
			c.queue.Lock()
			defer c.queue.Unlock()
			return c.queue.small == 3*plenty
		}, 10*time.Second, 10*time.Microsecond)
		c.writing.Unlock()
		require.NoError(t, c.writeQueue()) // as who is held up does when he goes on
		assert.EqualValues(t, 3*plenty, c.queue.order-c.answers.Load())
		for range 3 * plenty {
			p.send(TypeResult, p.take().Call, []byte{0xc0})
		}
		callers.Wait()
		assert.Equal(t, c.queue.order, c.answers.Load())
	}
}
