package cli

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/fixtures"
	"github.com/gophersnake/gophersnake/runner"
)

// injecting is a node whose texts hold commands for a terminal, in every place that shows them.
const injecting = `
import logging
from gophersnake import Json, node, progress

EVIL = "\x1b]52;c;aGk=\x07\x9b2J\u202e"

@node(name="N" + EVIL)
class N:
    def __init__(self, title: str = EVIL): ...
    def setup(self): progress(EVIL)
    def process(self, value: EVIL) -> EVIL:
        progress("in a call" + EVIL, 0.5)
        logging.warning(EVIL)
        print(EVIL)
        if value == "fail":
            raise ValueError(EVIL)
        if value == "document":
            return Json({EVIL: [EVIL]})
        return {EVIL: [EVIL]} if value == "map" else EVIL

N.__doc__ = EVIL
`

func TestNothingOfANodeIsACommandForTheTerminal(t *testing.T) {
	const file, pipeline = "nodes.py", "pipeline.yaml"
	fixtures.Chdir(t, map[string]string{
		file:     injecting,
		pipeline: "version: v1\nnodes: [{id: n, node_type: N, python: 'nodes.py:N', retry: none}]\n",
	})
	for _, args := range [][]string{
		{"nodes", file},
		{"nodes", file, "--output", "json"},
		{"run", pipeline, "text", "--output", "pretty"},
		{"run", pipeline, "map", "--output", "pretty"},
		{"run", pipeline, "map", "--output", "json"},
		{"run", pipeline, "document", "--output", "pretty"},
		{"run", pipeline, "document", "--output", "json"},
		{"run", pipeline, "fail"},
		{"run", pipeline, "fail", "--output", "json"},
	} {
		got := command(t, args...)
		assert.Equal(t, runner.Printable(got.out), got.out, args)
		assert.Equal(t, runner.Printable(got.err), got.err, args)
		assert.Contains(t, got.out+got.err, "]52;c;aGk=", args)
		if args[0] == "run" {
			assert.Contains(t, got.err, "in a call", args)
		}
	}
}
