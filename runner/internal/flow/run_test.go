package flow

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/ipc"
)

func increment(_ context.Context, v any) (any, error) { return v.(int) + 1, nil }

func TestAChainRunsOneStepAfterTheOther(t *testing.T) {
	p := newPlan(
		Step{ID: "a", Node: single(increment)},
		Step{ID: "b", Node: single(increment), Inputs: []string{"a"}},
	)
	assert.True(t, p.isChain)
	assert.Equal(t, []string{"b"}, p.Sinks())
	v, err := p.Run(t.Context(), 1)
	require.NoError(t, err)
	assert.Equal(t, 3, v)
}

func TestAGraphGivesTheValuesOfAllSinks(t *testing.T) {
	p := newPlan(
		Step{ID: "a", Node: single(increment)},
		Step{ID: "b", Node: single(increment), Inputs: []string{"a"}},
		Step{ID: "c", Node: sum(), Inputs: []string{"a", "b"}},
		Step{ID: "d", Node: single(increment), Inputs: []string{"b"}},
	)
	assert.False(t, p.isChain)
	out, err := p.RunShared(t.Context(), 1)
	require.NoError(t, err)
	v, err := out.View()
	require.NoError(t, err)
	assert.Equal(t, map[string]any{"c": int64(5), "d": 4}, v)
	out.Release()
}

func TestAFailureCancelsTheOtherSteps(t *testing.T) {
	bad := single(func(context.Context, any) (any, error) { return nil, errBad })
	held := single(func(ctx context.Context, _ any) (any, error) {
		<-ctx.Done()
		return nil, context.Cause(ctx)
	})
	_, err := diamond(bad, held).Run(t.Context(), 1)
	require.ErrorIs(t, err, errBad)
	_, err = newPlan(Step{ID: "a", Node: bad}).Run(t.Context(), 1)
	require.ErrorIs(t, err, errBad)
}

func TestASourceThatTakesEncodedInputGetsItEncoded(t *testing.T) {
	p := newPlan(Step{ID: "a", Node: &fake{call: func(_ context.Context, in Inputs) (any, error) {
		return in.First.Payload.Decode("v", ipc.DefaultLimits())
	}}, Encoded: true})
	v, err := p.Run(t.Context(), 7)
	require.NoError(t, err)
	assert.Equal(t, int64(7), v)

	_, err = p.Run(t.Context(), make(chan int))
	var input *InputError
	require.ErrorAs(t, err, &input)
	var value *ipc.ValueError
	require.ErrorAs(t, err, &value)
	assert.Equal(t, value.Error(), err.Error())

	s := open(t, p, 1)
	require.ErrorAs(t, s.Send(make(chan int)), &input)
	s.sendAll(t, 1)
	got, err := s.receive()
	require.NoError(t, err)
	assert.Equal(t, upTo(1), got)
}

func TestAValueThatCannotBeReadIsTheErrorOfItsSink(t *testing.T) {
	bad := Value{Payload: ipc.Payload{Body: []byte{0xc1}}, Encoded: true}
	out := Result{one: bad}
	_, err := out.View()
	require.ErrorContains(t, err, "result")
	p := newPlan(Step{ID: "a"}, Step{ID: "b"})
	out = Result{plan: p, many: []Value{{Native: 1}, bad}}
	_, err = out.View()
	require.ErrorContains(t, err, "result.b")
}

func TestARunOfAChainAllocatesNothing(t *testing.T) {
	p := newPlan(Step{ID: "a", Node: &fake{}}, Step{ID: "b", Node: &fake{}, Inputs: []string{"a"}})
	input := any("v")
	assert.Zero(t, testing.AllocsPerRun(100, func() {
		_, err := p.Run(t.Context(), input)
		require.NoError(t, err)
	}))
}
