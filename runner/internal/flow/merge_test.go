package flow

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/ipc"
)

// delayed returns its input plus an offset after a time.
func delayed(offset int64, wait time.Duration) *fake {
	return &fake{call: func(_ context.Context, in Inputs) (any, error) {
		time.Sleep(wait)
		return offset + number(in.First), nil
	}}
}

// each yields every item once.
func each(kind Kind) *fake {
	if kind == Single {
		return &fake{}
	}
	return &fake{kind: kind, items: func(_ context.Context, in Inputs, emit Emit) error {
		return emit(encoded(number(in.First)))
	}}
}

// merged is a plan in which a step merges two branches.
func merged(left, right, merge Node) *Plan {
	return newPlan(
		Step{ID: "source", Node: &fake{}},
		Step{ID: "left", Node: left, Inputs: []string{"source"}},
		Step{ID: "right", Node: right, Inputs: []string{"source"}},
		Step{ID: "merge", Node: merge, Inputs: []string{"left", "right"}, Merges: true},
	)
}

func TestAStepThatMergesTakesItemsInTheOrderOfArrival(t *testing.T) {
	for _, kind := range []Kind{Single, Generator, Stateful} {
		synctest.Test(t, func(t *testing.T) {
			p := merged(delayed(100, 3*time.Second), delayed(200, 2*time.Second), each(kind))
			assert.True(t, p.Merges())
			s := open(t, p, 1)
			go s.sendAll(t, 3) // the left branch gives its items after 3, 6 and 9 s, the right one after 2, 5 and 8
			got, err := s.receive()
			require.NoError(t, err)
			assert.Equal(t, []int64{200, 100, 201, 101, 202, 102}, got)
		})
	}
}

func TestAStepThatMergesNeedsNoEvenInputs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		none := &fake{kind: Generator, items: func(context.Context, Inputs, Emit) error { return nil }}
		s := open(t, merged(none, every(1), every(2)), 1)
		go s.sendAll(t, 20) // the window is 1, so a queue that nothing empties would block the source
		got, err := s.receive()
		require.NoError(t, err)
		assert.Equal(t, []int64{0, 2, 4, 6, 8, 10, 12, 14, 16, 18}, got)
	})
}

func TestAFaultOfOneInputEndsAStepThatMerges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bad := &fake{call: func(_ context.Context, in Inputs) (any, error) {
			if number(in.First) == 2 {
				return nil, errBad
			}
			return number(in.First), nil
		}}
		s := open(t, merged(bad, delayed(100, time.Second), &fake{}), 4)
		go func() {
			for i := 0; s.Send(i) == nil; i++ {
			}
		}()
		got, err := s.receive()
		require.ErrorIs(t, err, errBad)
		assert.Subset(t, got, []int64{0, 1})
		synctest.Wait() // Send has returned
	})
}

func TestAStepThatMergesHoldsUpItsInputs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, merged(&fake{}, &fake{}, &fake{}), 2)
		sent := 0
		go func() {
			for s.Send(sent) == nil {
				sent++
			}
		}()
		synctest.Wait()
		assert.Less(t, sent, 12, "the windows of the queues bound what is in the stream")
		for range 6 {
			_, _, ok := s.Next()
			require.True(t, ok)
		}
		s.Close(errClosed)
		synctest.Wait()
	})
}

// A stream through a random graph whose joins all merge gives each item as often as there are
// ways through the graph, whatever the windows are.
func TestStreamsThatMergeLoseNothing(t *testing.T) {
	for seed := range uint64(200) {
		synctest.Test(t, func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 1))
			const items = 15
			steps := []Step{{ID: "0", Node: each(Kind(random.IntN(3)))}}
			ways := []int{1}
			for i := 1; i < 2+random.IntN(5); i++ {
				s := Step{ID: fmt.Sprint(i), Node: each(Kind(random.IntN(3))), Output: random.IntN(4) == 0}
				ways = append(ways, 0)
				for _, from := range random.Perm(i)[:1+random.IntN(i)] {
					s.Inputs = append(s.Inputs, fmt.Sprint(from))
					ways[i] += ways[from]
				}
				s.Merges = len(s.Inputs) > 1
				steps = append(steps, s)
			}
			p := newPlan(steps...)
			want := 0
			for _, i := range p.sinks {
				want += ways[i] * items
			}
			s := open(t, p, 1+random.IntN(3))
			go s.sendAll(t, items)
			got, err := s.receive()
			require.NoError(t, err)
			require.Len(t, got, want)
			require.Equal(t, upTo(items), slices.Compact(slices.Sorted(slices.Values(got))))
		})
	}
}

func TestTheValueOfAnOutputStepIsPartOfTheResult(t *testing.T) {
	count := func(v int) *fake {
		return &fake{call: func(_ context.Context, in Inputs) (any, error) { return v + int(number(in.First)), nil }}
	}
	p := newPlan(
		Step{ID: "a", Node: count(1), Output: true},
		Step{ID: "b", Node: count(1), Inputs: []string{"a"}},
		Step{ID: "c", Node: count(1), Inputs: []string{"b"}, Output: true},
	)
	assert.False(t, p.isChain)
	assert.Equal(t, []string{"a", "c"}, p.Sinks())
	v, err := p.Run(t.Context(), 1)
	require.NoError(t, err)
	assert.Equal(t, map[string]any{"a": 2, "c": 4}, v)

	s := open(t, p, 2)
	s.sendAll(t, 1)
	got, err := s.receive()
	require.NoError(t, err)
	assert.ElementsMatch(t, []int64{1, 3}, got)
}

// The payload of an output step is kept until the result is released or the run fails, and no
// longer.
func TestTheResultKeepsThePayloadOfAnOutputStep(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("there is no shared memory, whose limit shows what is kept")
	}
	for _, c := range []struct{ isOutput, fails, isKept bool }{{true, false, true}, {true, true, true}, {false, false, false}} {
		arena := ipc.NewArena(1<<20, time.Millisecond)
		share := func(ctx context.Context) (Value, error) {
			return Encode(ctx, arena, ipc.Domain{}, "v", &ipc.Tensor{DType: ipc.Uint8, Shape: []int{600 << 10}, Data: make([]byte, 600<<10)}) // there is no room for two
		}
		last := single(func(ctx context.Context, _ any) (any, error) {
			v, err := share(ctx)
			assert.Equal(t, c.isKept, err != nil, "after the last step that takes it")
			v.Release()
			if c.fails {
				return nil, errBad
			}
			return "c", nil
		})
		p := newPlan(
			Step{ID: "a", Node: valueNode(share), Output: c.isOutput},
			Step{ID: "b", Node: &fake{call: func(context.Context, Inputs) (any, error) { return "b", nil }}, Inputs: []string{"a"}},
			Step{ID: "c", Node: last, Inputs: []string{"b"}},
		)
		out, err := p.RunShared(t.Context(), 1)
		if c.fails {
			require.ErrorIs(t, err, errBad)
		} else {
			require.NoError(t, err)
			out.Release()
		}
		v, err := share(t.Context())
		require.NoError(t, err, "the payload was released")
		v.Release()
		arena.Close()
	}
}

// valueNode is a node that returns what a function makes.
type valueNode func(ctx context.Context) (Value, error)

func (n valueNode) Kind() Kind                                        { return Single }
func (n valueNode) Probing() bool                                     { return false }
func (n valueNode) Open([]byte) Session                               { return nil }
func (n valueNode) Generate(context.Context, Inputs, Emit) error      { return nil }
func (n valueNode) Call(ctx context.Context, _ Inputs) (Value, error) { return n(ctx) }

func TestItemsThatWaitForAMergeKeepTheirOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := &fake{kind: Generator, items: func(_ context.Context, in Inputs, emit Emit) error {
			time.Sleep(time.Minute)
			return emit(encoded(number(in.First)))
		}}
		s := open(t, merged(delayed(100, 3*time.Second), delayed(200, 2*time.Second), slow), 8)
		go func() {
			for i := range 3 {
				require.NoError(t, s.Send(i))
				time.Sleep(10 * time.Second)
			}
			s.CloseSend(nil)
		}()
		got, err := s.receive()
		require.NoError(t, err)
		assert.Equal(t, []int64{200, 100, 201, 101, 202, 102}, got)
	})
}

// A stream that is stuck names the step that takes its inputs in step, and not one that merges.
func TestAStuckStreamDoesNotNameAStepThatMerges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		none := &fake{kind: Generator, items: func(context.Context, Inputs, Emit) error { return nil }}
		p := newPlan(
			Step{ID: "source", Node: &fake{}},
			Step{ID: "none", Node: none, Inputs: []string{"source"}},
			Step{ID: "merge", Node: &fake{}, Inputs: []string{"none", "source"}, Merges: true},
			Step{ID: "join", Node: sum(), Inputs: []string{"merge", "none"}},
		)
		s := open(t, p, 1)
		go func() {
			for i := 0; s.Send(i) == nil; i++ {
			}
		}()
		_, err := s.receive()
		var uneven *UnevenError
		require.ErrorAs(t, err, &uneven)
		assert.Equal(t, "join", uneven.Node)
		synctest.Wait()
	})
}
