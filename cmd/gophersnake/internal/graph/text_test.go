package graph

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/fixtures"
	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/terminal"
	"github.com/gophersnake/gophersnake/runner"
)

func TestDrawings(t *testing.T) {
	p, err := runner.Load(fixtures.Pipeline(t, `nodes:
  - {id: source, node_type: echo, workers: {min: 1, max: 2}}
  - {id: one, node_type: echo}
  - {id: ten, node_type: "a<b>", python: nodes.py}
  - {id: mix, node_type: made}
connections:
  - {from: source, to: one}
  - {from: source, to: mix.left}
  - {from: one, to: ten, fuse: true}
  - {from: ten, to: mix.right}`))
	require.NoError(t, err)
	assert.Equal(t, `●    source  echo  1 to 2 workers
├─╮
│ ●  one     echo
│ │
│ ●  ten     a<b>  fused with one, nodes.py
├─╯
●    mix     made  left ← source, right ← ten
`, Text(p, terminal.Style{}))
	dot := Dot(p)
	assert.Contains(t, dot, `"ten" [label="ten\na<b>"]`)
	assert.Contains(t, dot, `"ten" -> "mix" [label="right"]`)
	assert.Contains(t, dot, `"one" -> "ten" [style=bold]`)
	mermaid := Mermaid(p)
	assert.Contains(t, mermaid, "n1 ==> n2")
	assert.Contains(t, mermaid, `n2["ten<br/>a#lt;b#gt;"]`)
	assert.Contains(t, mermaid, `n2 -->|"right"| n3`)
}
