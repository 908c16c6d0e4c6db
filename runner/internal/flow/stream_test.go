package flow

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestValuesOfConcurrentCallsStayInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := single(func(_ context.Context, v any) (any, error) {
			time.Sleep(time.Duration(100-v.(int)) * time.Second) // the last one returns first
			return v, nil
		})
		s := open(t, newPlan(Step{ID: "a", Node: slow}), 100)
		began := time.Now()
		s.sendAll(t, 100)
		got, err := s.receive()
		require.NoError(t, err)
		assert.Equal(t, upTo(100), got)
		assert.Equal(t, 100*time.Second, time.Since(began), "all calls ran at once")
		assert.Equal(t, 100, s.Received())
		assert.Equal(t, 1, s.ends)
	})
}

func TestAWindowBoundsWhatIsInAStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int32
		count := single(func(_ context.Context, v any) (any, error) { calls.Add(1); return v, nil })
		s := open(t, newPlan(Step{ID: "a", Node: &fake{}}, Step{ID: "b", Node: count, Inputs: []string{"a"}}), 4)
		sent := 0
		go func() {
			for s.Send(sent) == nil {
				sent++
			}
		}()
		synctest.Wait()
		assert.Equal(t, 3*4, sent, "a window before each node, and one behind the last")
		assert.EqualValues(t, 4, calls.Load())
		_, _, ok := s.Next()
		require.True(t, ok)
		synctest.Wait()
		assert.Equal(t, 3*4+1, sent)
		s.Close(errClosed)
		synctest.Wait() // Send has returned
	})
}

func TestValuesBeforeAFaultAreReceivedBeforeIt(t *testing.T) {
	bad := single(func(_ context.Context, v any) (any, error) {
		if v == 3 {
			return nil, errBad
		}
		return v, nil
	})
	for _, window := range []int{1, 8} {
		s := open(t, newPlan(Step{ID: "a", Node: bad}, Step{ID: "b", Node: &fake{}, Inputs: []string{"a"}}), window)
		go func() {
			for i := 0; s.Send(i) == nil; i++ { // until it returns the fault
			}
		}()
		got, err := s.receive()
		require.ErrorIs(t, err, errBad)
		assert.Equal(t, upTo(3), got)
		require.ErrorIs(t, s.Send(1), errBad)
		s.CloseSend(nil)
		s.Close(errClosed)
		_, _, ok := s.Next()
		require.False(t, ok)
		require.ErrorIs(t, s.Err(), errBad, "it stays the error of the stream")
		assert.Equal(t, 1, s.ends)
	}
}

func TestAFaultOfTheInputFollowsTheItems(t *testing.T) {
	s := open(t, newPlan(Step{ID: "a", Node: &fake{}}), 4)
	require.NoError(t, s.Send(0))
	s.CloseSend(errBad)
	s.CloseSend(errors.New("another one"))
	got, err := s.receive()
	require.ErrorIs(t, err, errBad)
	assert.Equal(t, upTo(1), got)

	s = open(t, newPlan(Step{ID: "a", Node: &fake{}}), 4)
	s.CloseSend(nil)
	require.ErrorIs(t, s.Send(0), ErrSendClosed)
	_, _, ok := s.Next()
	require.False(t, ok)
	require.NoError(t, s.Err())
}

func TestStoppingAStreamCancelsItsCalls(t *testing.T) {
	for name, stop := range map[string]func(s *Stream, cancel context.CancelCauseFunc){
		"close":   func(s *Stream, _ context.CancelCauseFunc) { s.Close(errClosed) },
		"abort":   func(s *Stream, _ context.CancelCauseFunc) { s.Abort(errClosed) },
		"context": func(_ *Stream, cancel context.CancelCauseFunc) { cancel(errClosed) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				held := single(func(ctx context.Context, _ any) (any, error) {
					<-ctx.Done()
					return nil, context.Cause(ctx)
				})
				ctx, cancel := context.WithCancelCause(t.Context())
				ends := 0
				s := Open(ctx, newPlan(Step{ID: "a", Node: held}), 4, nil, func(error) { ends++ })
				require.NoError(t, s.Send(0))
				synctest.Wait()
				stop(s, cancel)
				_, _, ok := s.Next()
				require.False(t, ok)
				require.ErrorIs(t, s.Err(), errClosed)
				require.ErrorIs(t, s.Send(0), errClosed)
				s.Abort(errBad)
				s.Close(errBad)
				require.ErrorIs(t, s.Err(), errClosed, "the first reason counts")
				assert.Equal(t, 1, ends)
			})
		})
	}
}

func TestAProbeIsMadeAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int32
		gate := make(chan struct{})
		node := single(func(_ context.Context, v any) (any, error) {
			calls.Add(1)
			<-gate
			return v, nil
		})
		node.probing = true
		s := open(t, newPlan(Step{ID: "a", Node: node}), 8)
		for i := range 8 {
			require.NoError(t, s.Send(i))
		}
		synctest.Wait()
		assert.EqualValues(t, 1, calls.Load())
		gate <- struct{}{}
		synctest.Wait()
		assert.EqualValues(t, 8, calls.Load())
		close(gate)
		s.CloseSend(nil)
		got, err := s.receive()
		require.NoError(t, err)
		assert.Equal(t, upTo(8), got)
	})
}

func TestAGeneratorWaitsForRoomForEachValue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		emitted := int64(0)
		var ended error
		node := &fake{kind: Generator, items: func(_ context.Context, _ Inputs, emit Emit) error {
			for ; ; emitted++ {
				if ended = emit(encoded(emitted)); ended != nil {
					return ended
				}
			}
		}}
		s := open(t, newPlan(Step{ID: "a", Node: node}), 4)
		require.NoError(t, s.Send(0))
		synctest.Wait()
		assert.EqualValues(t, 4, emitted)
		for want := range int64(10) {
			v, sink, ok := s.Next()
			require.True(t, ok)
			assert.Equal(t, want, number(v))
			assert.Equal(t, "a", sink)
		}
		s.Close(errClosed)
		require.ErrorIs(t, ended, errClosed)
	})
}

func TestASessionIsFinishedAndClosed(t *testing.T) {
	total := int64(0)
	node := &fake{kind: Stateful, items: func(_ context.Context, in Inputs, _ Emit) error {
		total += number(in.First)
		return nil
	}}
	node.finish = func(emit Emit) error { return emit(encoded(total)) }
	s := open(t, newPlan(Step{ID: "a", Node: node}), 4)
	s.sendAll(t, 5)
	got, err := s.receive()
	require.NoError(t, err)
	assert.Equal(t, []int64{10}, got)
	assert.Equal(t, 1, node.closed)

	node.finish = func(Emit) error { return errBad }
	s = open(t, newPlan(Step{ID: "a", Node: node}), 4)
	s.sendAll(t, 2)
	_, err = s.receive()
	require.ErrorIs(t, err, errBad)
	node.items = func(context.Context, Inputs, Emit) error { return errBad }
	s = open(t, newPlan(Step{ID: "a", Node: node}), 4)
	s.sendAll(t, 1)
	_, err = s.receive()
	require.ErrorIs(t, err, errBad)
	assert.Equal(t, 3, node.closed)
}

func TestInputsAreTakenInStep(t *testing.T) {
	s := open(t, diamond(single(increment), every(1)), 3)
	go s.sendAll(t, 50)
	got, err := s.receive()
	require.NoError(t, err)
	for i, v := range got {
		require.EqualValues(t, 2*i+1, v)
	}
	assert.Len(t, got, 50)
}

func TestAnInputThatEndsBeforeAnotherIsAnError(t *testing.T) {
	s := open(t, diamond(&fake{}, every(2)), 16)
	s.sendAll(t, 6)
	got, err := s.receive()
	var uneven *UnevenError
	require.ErrorAs(t, err, &uneven)
	assert.Equal(t, UnevenError{Node: "sum", Fewer: "right", FewerN: 3, More: "left", MoreN: uneven.MoreN, Ended: true}, *uneven)
	assert.ErrorContains(t, err, `"right" ended after 3 items and "left" has given`)
	assert.Equal(t, []int64{0, 3, 6}, got)
}

func TestAStreamThatCannotContinueIsStopped(t *testing.T) {
	s := open(t, diamond(&fake{}, every(100)), 4)
	go func() {
		for i := 0; s.Send(i) == nil; i++ { // until the stream is stopped
		}
	}()
	got, err := s.receive()
	var uneven *UnevenError
	require.ErrorAs(t, err, &uneven)
	assert.False(t, uneven.Ended)
	assert.ErrorContains(t, err, `"left" gave 5 items, of which no more may wait, when "right" had given 1`)
	assert.Equal(t, []int64{0}, got)
}
