package flow

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/ipc"
)

// errBad is the error of the nodes in these tests.
var errBad = errors.New("bad luck")

// errClosed is the reason why tests close a stream.
var errClosed = errors.New("closed")

// fake is a node of any kind whose work is a Go function.
type fake struct {
	kind    Kind
	probing bool
	call    func(ctx context.Context, in Inputs) (any, error)
	items   func(ctx context.Context, in Inputs, emit Emit) error
	finish  func(emit Emit) error
	closed  int
}

func (f *fake) Kind() Kind          { return f.kind }
func (f *fake) Probing() bool       { return f.probing }
func (f *fake) Open([]byte) Session { return f }
func (f *fake) Close()              { f.closed++ }

func (f *fake) Call(ctx context.Context, in Inputs) (Value, error) {
	if f.call == nil {
		return in.First, nil
	}
	v, err := f.call(ctx, in)
	return Value{Native: v}, err
}

func (f *fake) Generate(ctx context.Context, in Inputs, emit Emit) error {
	return f.items(ctx, in, emit)
}

func (f *fake) Item(ctx context.Context, in Inputs, emit Emit) error {
	defer in.Release()
	return f.items(ctx, in, emit)
}

func (f *fake) Save(context.Context) ([]byte, error) { return nil, nil }

func (f *fake) Finish(_ context.Context, emit Emit) error {
	if f.finish == nil {
		return nil
	}
	return f.finish(emit)
}

// single returns a node that computes its value from its first input.
func single(fn func(ctx context.Context, v any) (any, error)) *fake {
	return &fake{call: func(ctx context.Context, in Inputs) (any, error) { return fn(ctx, in.First.Native) }}
}

// sum adds all inputs.
func sum() *fake {
	return &fake{call: func(_ context.Context, in Inputs) (any, error) {
		total := number(in.First)
		for i := range in.Rest {
			total += number(in.At(i + 1))
		}
		return total, nil
	}}
}

// every yields each n-th item.
func every(n int64) *fake {
	return &fake{kind: Generator, items: func(_ context.Context, in Inputs, emit Emit) error {
		if v := number(in.First); v%n == 0 {
			return emit(encoded(v))
		}
		return nil
	}}
}

func number(v Value) int64 {
	native, err := v.Decode("v")
	if err != nil {
		panic(err)
	}
	switch n := native.(type) {
	case int:
		return int64(n)
	case int64:
		return n
	}
	panic("not a number")
}

func encoded(v any) ipc.Payload {
	payload, err := ipc.Encode("v", v)
	if err != nil {
		panic(err)
	}
	return payload
}

const queueBytes = 1 << 20

func newPlan(steps ...Step) *Plan { return NewPlan(steps, nil, queueBytes) }

// diamond is a plan in which two branches meet in a sum.
func diamond(left, right Node) *Plan {
	return newPlan(
		Step{ID: "source", Node: &fake{}},
		Step{ID: "left", Node: left, Inputs: []string{"source"}},
		Step{ID: "right", Node: right, Inputs: []string{"source"}},
		Step{ID: "sum", Node: sum(), Inputs: []string{"left", "right"}},
	)
}

// opened is a stream that counts how often it has ended.
type opened struct {
	*Stream
	ends int
}

func open(t *testing.T, p *Plan, window int) *opened {
	t.Helper()
	o := &opened{}
	o.Stream = Open(t.Context(), p, window, nil, func(error) { o.ends++ })
	return o
}

// sendAll sends the numbers from 0 and then ends the input.
func (o *opened) sendAll(t *testing.T, n int) {
	t.Helper()
	for i := range n {
		require.NoError(t, o.Send(i))
	}
	o.CloseSend(nil)
}

// receive receives to the end.
func (o *opened) receive() (all []int64, err error) {
	for {
		v, _, ok := o.Next()
		if !ok {
			return all, o.Err()
		}
		all = append(all, number(v))
		v.Release()
	}
}

func upTo(n int) []int64 {
	all := make([]int64, n)
	for i := range all {
		all[i] = int64(i)
	}
	return all
}
