package runner_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/runner"
)

// typed are nodes whose annotations say something about their values.
const typed = `
import dataclasses
from typing import Any
from gophersnake import node

@dataclasses.dataclass
class Item:
    price: float

@node
def shout(value: Any) -> str: return str(value)
@node
def number(value: Any) -> float: return 1.5
@node
def items(value: Any) -> list[Item]: return [Item(1)]
@node
def names(value: Any) -> list[dict[str, str]]: return []
@node
def anything(value): return value
@node
def add(value: int, other: int = 0) -> int: return value + other
@node
def total(items: list[Item]) -> float: return sum(item.price for item in items)
@node(types=False)
def loose(value: int) -> int: return value
`

// loadTyped loads a pipeline of these nodes.
func loadTyped(t *testing.T, text string) *runner.Runner {
	t.Helper()
	base := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(base, "nodes.py"), []byte(typed), 0o600))
	r, err := loadIn(t, base, text)
	require.NoError(t, err)
	return r
}

func TestAConnectionOfTypesThatExcludeEachOtherIsAFault(t *testing.T) {
	t.Parallel()
	for from, c := range map[string]struct{ to, fault, open string }{
		"shout":    {"add", `"from" returns str, which never fits the input "value" of "to", int: text instead of an integer`, ""},
		"names":    {"total", `"from" returns list[dict[str, str]], which never fits the input "items" of "to", list[nodes.Item]: text instead of a number at [].price`, ""},
		"number":   {"add", "", `"from" returns float, which may not fit the input "value" of "to", int: a number instead of an integer`},
		"items":    {"total", "", ""},
		"anything": {"add", "", ""},
		"loose":    {"total", "", ""},
		"add":      {"loose", "", ""},
		"total":    {"anything", "", ""},
	} {
		t.Run(from+" to "+c.to, func(t *testing.T) {
			r := loadTyped(t, "nodes: [{id: from, node_type: "+from+"}, {id: to, node_type: "+c.to+"}]\nconnections: [{from: from, to: to}]\n")
			all, err := r.Describe(t.Context())
			require.Len(t, all, 2)
			if c.fault == "" {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, c.fault)
				assert.Equal(t, runner.KindManifest, runner.KindOf(err))
			}
			var open []string
			if c.open != "" {
				open = []string{c.open}
			}
			assert.Equal(t, open, r.OpenConnections(all))
		})
	}
}

func TestTheInputOfAPortIsCompared(t *testing.T) {
	t.Parallel()
	r := loadTyped(t, "nodes: [{id: n, node_type: number}, {id: s, node_type: shout}, {id: to, node_type: add}]\n"+
		"connections: [{from: n, to: to.value}, {from: s, to: to.other}]\n")
	all, err := r.Describe(t.Context())
	require.ErrorContains(t, err, `"s" returns str, which never fits the input "other" of "to", int`)
	assert.NotContains(t, err.Error(), `"n" returns`)
	assert.Len(t, r.OpenConnections(all), 1)
}

func TestADescriptionHasTheSchemasOfAnnotations(t *testing.T) {
	t.Parallel()
	r := loadTyped(t, "nodes: [{id: total, node_type: total}, {id: add, node_type: add, params: {other: 1}}, {id: any, node_type: anything}]\n")
	all, err := r.Describe(t.Context())
	require.NoError(t, err)
	item := `{"title":"Item","type":"object","properties":{"price":{"type":"number"}},"required":["price"]}`
	assert.JSONEq(t, `{"type":"array","items":{"$ref":"#/$defs/Item"},"$defs":{"Item":`+item+`}}`, string(all[0].Inputs[0].Schema))
	assert.JSONEq(t, `{"type":"number"}`, string(all[0].Output))
	assert.JSONEq(t, `{"type":"integer","default":0}`, string(all[1].Params[0].Schema))
	assert.JSONEq(t, `{}`, string(all[2].Output))
}

// The input is at fault: another attempt would fail as well, and the node works.
func TestAnInputOfAnotherTypeIsNotRetriedAndDoesNotCount(t *testing.T) {
	t.Parallel()
	attempts := 0
	base := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(base, "nodes.py"), []byte(typed), 0o600))
	r, err := loadIn(t, base, single("total"), runner.WithEvents(func(e runner.Event) {
		if _, ok := e.(runner.CallRetried); ok {
			attempts++
		}
	}))
	require.NoError(t, err)
	wrong := []any{map[string]any{"price": 1}, map[string]any{"price": 2}, map[string]any{"price": 2}, map[string]any{"price": "five"}}
	for range 6 { // the breaker opens after 5 failures
		_, err = r.Run(t.Context(), wrong)
		require.ErrorContains(t, err, `input[3].price: expected a number, got "five"`)
		assert.Equal(t, runner.KindMarshaling, runner.KindOf(err))
	}
	assert.Zero(t, attempts)
	value, err := r.Run(t.Context(), wrong[:3])
	require.NoError(t, err)
	assert.InDelta(t, 5.0, value, 0)
}
