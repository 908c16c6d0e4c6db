package ipc

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// holdRole acquires the read role, so that no goroutine reads until the test releases it.
func holdRole(t *testing.T, c *Conn) {
	call := c.NewCall(FrameCall, 0)
	defer c.calls.remove(call.header.call)
	if !c.role.claim(call) { // readWhileIdle holds it
		require.Eventually(t, func() bool {
			c.role.interrupt()
			return len(call.notices) > 0
		}, 10*time.Second, 10*time.Microsecond)
	}
}

// startWaiter makes a call on a goroutine of its own, which is a waiter when it returns.
func startWaiter(t *testing.T, c *Conn, p *peer, callers *sync.WaitGroup, check func(error)) *Call {
	call := c.NewCall(FrameCall, 0)
	callers.Go(func() {
		_, err := call.Do(Args{})
		check(err)
	})
	p.take()
	require.Eventually(t, call.waiting.Load, 10*time.Second, 10*time.Microsecond)
	return call
}

func TestTheReadRoleIsHandedToTheReaderOfTheLatestCallOnly(t *testing.T) {
	c, p := connect(t, Events{})
	holdRole(t, c)
	var calls [4]*Call
	var callers sync.WaitGroup
	for i := range calls {
		calls[i] = startWaiter(t, c, p, &callers, func(err error) { assert.NoError(t, err) })
	}
	waiters := func() (waiting [4]bool) {
		for i, call := range calls {
			waiting[i] = call.waiting.Load()
		}
		return waiting
	}
	c.role.release()
	assert.Equal(t, [4]bool{true, true, true, false}, waiters())
	p.send(frameResult, calls[3].header.call, []byte{0xc0}) // the next one is the latest of the others
	require.Eventually(t, func() bool { return waiters() == [4]bool{true, true, false, false} }, 10*time.Second, 10*time.Microsecond)
	for _, call := range calls[:3] {
		p.send(frameResult, call.header.call, []byte{0xc0})
	}
	callers.Wait()
	holdRole(t, c) // it is free
}

// A caller that emits items does not read in the meantime, however long that takes. It may
// have been handed the role at the moment when the item arrived.
func TestAReaderWithItemsToEmitReleasesTheReadRole(t *testing.T) {
	c, p := connect(t, Events{})
	for range 100 {
		holdRole(t, c)
		many, one := c.NewCall(FrameCall, 0), c.NewCall(FrameCall, 0)
		var callers sync.WaitGroup
		answered := make(chan struct{})
		callers.Go(func() {
			assert.NoError(t, many.Items(Args{}, func(item Payload) {
				item.Release()
				<-answered
			}))
		})
		p.take()
		require.Eventually(t, many.waiting.Load, 10*time.Second, 10*time.Microsecond)
		p.send(frameItem, many.header.call, []byte{1})
		_, err := c.readOne() // on this goroutine, which holds the role
		require.NoError(t, err)
		c.role.release()
		callers.Go(func() {
			_, err := one.Do(Args{})
			assert.NoError(t, err)
			close(answered)
		})
		p.take()
		p.send(frameResult, one.header.call, []byte{0xc0})
		select {
		case <-answered:
		case <-time.After(30 * time.Second):
			require.FailNow(t, "no goroutine reads")
		}
		p.send(frameResult, many.header.call, []byte{0xc0})
		callers.Wait()
	}
}

// Callers whose calls are abandoned, or whose connection ends, may just have been handed the
// role.
func TestAReadRoleHandedToAReaderThatLeavesIsNotLost(t *testing.T) {
	c, p := connect(t, Events{})
	for range 200 {
		holdRole(t, c)
		var calls [3]*Call
		var callers sync.WaitGroup
		for i := range calls {
			calls[i] = startWaiter(t, c, p, &callers, func(err error) {
				if i == 0 {
					assert.NoError(t, err)
				} else if err != nil {
					assert.Equal(t, ErrAbandoned, err)
				}
			})
		}
		callers.Go(c.role.release)
		callers.Go(func() { calls[2].Abandon() })
		callers.Go(func() { calls[1].Abandon() })
		for _, i := range []int{2, 1, 0} {
			p.send(frameResult, calls[i].header.call, []byte{0xc0})
		}
		callers.Wait()
	}
	holdRole(t, c)
	var callers sync.WaitGroup
	for range 3 {
		startWaiter(t, c, p, &callers, func(err error) { assert.ErrorIs(t, err, ErrClosed) })
	}
	callers.Go(c.role.release)
	callers.Go(func() { c.fail(errors.New("the end")) })
	callers.Wait()
}

// A caller that finds others before it in the queue leaves the writing to them.
func TestEveryQueuedCallIsWritten(t *testing.T) {
	c, p := connect(t, Events{})
	var callers sync.WaitGroup
	for range 4 {
		c.writing.Lock() // as a writer that is blocked
		for range 3 * busyCalls {
			callers.Go(func() {
				_, err := c.NewCall(FrameCall, 0).Do(Args{})
				assert.NoError(t, err)
			})
		}
		require.Eventually(t, func() bool {
			c.queue.mu.Lock()
			defer c.queue.mu.Unlock()
			return c.queue.count == 3*busyCalls
		}, 10*time.Second, 10*time.Microsecond)
		c.writing.Unlock()
		require.NoError(t, c.writeQueue()) // as that writer does when it continues
		assert.EqualValues(t, 3*busyCalls, c.queue.order-c.answers.Load())
		for range 3 * busyCalls {
			p.send(frameResult, p.take().call, []byte{0xc0})
		}
		callers.Wait()
		assert.Equal(t, c.queue.order, c.answers.Load())
	}
}
