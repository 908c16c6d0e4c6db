package runner_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/runner"
)

// bound are nodes of all kinds whose annotations say what they take and return.
const bound = `
import dataclasses
from collections.abc import Iterator
from typing import Any, Optional
from gophersnake import node

@dataclasses.dataclass
class Item:
    price: float
    count: int = 1

@node
def total(items: list[Item]) -> float: return sum(item.price * item.count for item in items)
@node
def find(price: float) -> Optional[Item]: return Item(price) if price else None
@node
def same(value: Any) -> Any: return value
@node
def split(item: Item) -> Iterator[float]:
    for _ in range(item.count): yield item.price
@node
def add(left: int, right: int) -> int: return left + right
@node
def now() -> str: return "now"
`

func loadBound(t *testing.T, text string, opts ...runner.Option) *runner.Runner {
	t.Helper()
	base := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(base, "nodes.py"), []byte(bound), 0o600))
	r, err := loadIn(t, base, text, opts...)
	require.NoError(t, err)
	return r
}

type (
	item struct {
		Price float64 `json:"price"`
		Count int     `json:"count,omitempty"`
	}
	textItem struct {
		Price string `json:"price"`
	}
)

func TestATypeThatFitsIsBoundAndCalled(t *testing.T) {
	t.Parallel()
	r := loadBound(t, single("total"))
	h, err := runner.Bind[[]item, float64](t.Context(), r)
	require.NoError(t, err, "Bind starts the runner")
	sum, err := h.Call(t.Context(), []item{{2, 3}, {Price: 0.5}})
	require.NoError(t, err)
	assert.InDelta(t, 6.5, sum, 0)

	s, err := runner.BindStream[[]item, float64](t.Context(), r)
	require.NoError(t, err)
	stream, err := s.Open(t.Context())
	require.NoError(t, err)
	require.NoError(t, stream.Send([]item{{1, 1}}))
	stream.CloseSend()
	for sum, err := range stream.All() {
		require.NoError(t, err)
		assert.InDelta(t, 1, sum, 0)
	}
	node, err := runner.BindNode[[]item, any](t.Context(), r, "total")
	require.NoError(t, err)
	any5, err := node.Call(t.Context(), []item{{5, 1}})
	require.NoError(t, err)
	assert.Equal(t, 5.0, any5)
}

func TestATypeThatDoesNotFitIsRefusedWhenItIsBound(t *testing.T) {
	t.Parallel()
	r := loadBound(t, single("total"))
	_, err := runner.Bind[[]textItem, string](t.Context(), r)
	require.ErrorIs(t, err, runner.KindMarshaling)
	faults := asError(t, err).Faults()
	require.Len(t, faults, 2)
	assert.EqualError(t, faults[0], `marshaling error in node "total" during bind: input[].price: In[].Price is string, but "total" takes a number`)
	assert.Equal(t, "input[].price", asError(t, faults[0]).Path)
	assert.EqualError(t, faults[1], `marshaling error in node "total" during bind: result: Out is string, but "total" returns a number`)

	_, err = runner.BindStream[[]item, string](t.Context(), r)
	assert.ErrorContains(t, err, `result: Out is string, but "total" returns a number`)
	_, err = runner.BindNode[chan int, float64](t.Context(), r, "total")
	assert.ErrorContains(t, err, `In: a Go value of type chan int has no form on the wire`)
	_, err = runner.BindNode[any, any](t.Context(), r, "sum")
	assert.EqualError(t, err, `manifest error: there is no node "sum"; the nodes are total`)
}

// The schemas are those of what a run or a call takes and returns: of all ports, of several
// sinks, of many values.
func TestBindComparesTheShapesOfRunsAndCalls(t *testing.T) {
	t.Parallel()
	r := loadBound(t, "nodes:\n  - {id: find, node_type: find}\n  - {id: split, node_type: split}\n  - {id: one, node_type: same}\n"+
		"  - {id: add, node_type: add}\n  - {id: now, node_type: now}\n"+
		"connections: [{from: find, to: split}, {from: one, to: add.left}, {from: one, to: add.right}]\n")
	type results struct {
		Split []float64 `json:"split"`
		Add   []int     `json:"add"`
		Now   []string  `json:"now"`
	}
	_, err := runner.Bind[float64, results](t.Context(), r)
	require.NoError(t, err)
	_, err = runner.Bind[string, struct {
		Add int `json:"add"`
	}](t.Context(), r)
	assert.ErrorContains(t, err, `input: In is string, but "find" takes a number`)
	assert.ErrorContains(t, err, `result.add: Out.Add is int, but the pipeline returns a list`)

	type ports struct{ Up, Right int }
	_, err = runner.BindNode[ports, int](t.Context(), r, "add")
	assert.ErrorContains(t, err, `In is runner_test.ports without it, but "add" takes a map with the key "left"`)
	_, err = runner.BindNode[map[string]int, int](t.Context(), r, "add")
	require.NoError(t, err)
	_, err = runner.BindNode[float64, item](t.Context(), r, "find")
	require.ErrorContains(t, err, `Out is runner_test.item, but "find" returns a map (Item) or null`)
	assert.Equal(t, "use a pointer for a value that may be None", asError(t, err).Hint)
	_, err = runner.BindNode[float64, *item](t.Context(), r, "find")
	require.NoError(t, err)
	_, err = runner.BindNode[item, float64](t.Context(), r, "split")
	assert.ErrorContains(t, err, `Out is float64, but "split" returns a list`)
	many, err := runner.BindNode[item, []float32](t.Context(), r, "split")
	require.NoError(t, err)
	all, err := many.Call(t.Context(), item{2, 2})
	require.NoError(t, err)
	assert.Equal(t, []float32{2, 2}, all)
	_, err = runner.BindNode[chan int, string](t.Context(), r, "now")
	assert.ErrorContains(t, err, "no form on the wire", "also if the node takes no input")
}

// A test with Go functions binds the types of the program, and needs no Python.
func TestAGoFunctionFitsEveryType(t *testing.T) {
	t.Parallel()
	r := loadBound(t, single("total"), runner.WithPython("/nowhere"),
		runner.WithNode("total", func(context.Context, runner.Input) (any, error) { return map[string]any{"price": "x"}, nil }))
	h, err := runner.Bind[[]item, item](t.Context(), r)
	require.NoError(t, err)
	_, err = h.Call(t.Context(), nil)
	assert.ErrorContains(t, err, `result.price: expected a number, got "x"`)
	h, err = runner.BindNode[[]item, item](t.Context(), r, "total")
	require.NoError(t, err)
	_, err = h.Call(t.Context(), nil)
	assert.ErrorContains(t, err, `in node "total"`)
}

func TestBindReturnsTheErrorOfARunnerThatDoesNotStart(t *testing.T) {
	t.Parallel()
	r := loadBound(t, single("total"), runner.WithPython("/nowhere"))
	_, first := runner.Bind[any, any](t.Context(), r)
	_, second := runner.BindNode[any, any](t.Context(), r, "total")
	_, third := runner.BindStream[any, any](t.Context(), r)
	for _, err := range []error{first, second, third} {
		require.Error(t, err)
		assert.NotErrorIs(t, err, runner.KindMarshaling)
	}
	require.NoError(t, r.Close(t.Context()))
	_, err := runner.Bind[any, any](t.Context(), r)
	assert.ErrorContains(t, err, "the runner is closed")
	e, ok := errors.AsType[*runner.Error](err)
	require.True(t, ok)
	assert.Equal(t, runner.KindOther, e.Kind)
}
