package runner_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/runner"
)

// inputs is how many inputs each cell of the poison matrix has, one of which is poison.
const (
	inputs = 60
	poison = 23
)

// poisonWays are the columns of the matrix: what the node does with the poison.
var poisonWays = []string{
	"raises an exception", "gives a bad result", "raises `MemoryError`", "kills the interpreter", "hangs",
}

// poisonedNodes are the rows of the matrix.
var poisonedNodes = []struct {
	name, nodeType string
	result         func(n int64) any
}{
	{"plain", "plain", twice},
	{"batch", "batch", twice},
	{"async", "concurrent", twice},
	{"threads", "threaded", twice},
	{"generator", "generator", both},
	{"async generator", "concurrent_generator", both},
	{"stateful", "Stateful", func(n int64) any { return []any{2 * n} }},
	{"async stateful", "ConcurrentStateful", func(n int64) any { return []any{2 * n} }},
}

func twice(n int64) any { return 2 * n }
func both(n int64) any  { return []any{n, 2 * n} }

// runPoisoned gives a node all inputs at the same time, and returns how many results are
// right, and the errors by kind.
func runPoisoned(t *testing.T, nodeType, way string, result func(int64) any, lines ...string) (right int, failed map[runner.Kind]int) {
	t.Helper()
	lines = append(lines, "retry: {fixed: 1ms, max_attempts: 1}")
	if way == "hangs" {
		lines = append(lines, "timeout: 3s")
	}
	r := crashing(t, "testdata", "poison.py", nodeType, lines)
	var running sync.WaitGroup
	var mu sync.Mutex
	failed = map[runner.Kind]int{}
	for i := range inputs {
		running.Go(func() {
			var input any = i
			if i == poison {
				input = way
			}
			got, err := r.Run(t.Context(), input)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failed[runner.KindOf(err)]++
				assert.Equal(t, poison, i, "%v", err)
				return
			}
			if assert.Equal(t, result(int64(i)), got) {
				right++
			}
		})
	}
	running.Wait()
	return right, failed
}

// TestPoisonMatrix shows that one input that a node cannot bear fails alone. docs/poison.md
// has the results.
func TestPoisonMatrix(t *testing.T) {
	cells := make([]string, len(poisonedNodes)*len(poisonWays))
	var p part
	for i, node := range poisonedNodes {
		for j, way := range poisonWays {
			p.add(node.name+" "+way, func(t *testing.T) {
				right, failed := runPoisoned(t, node.nodeType, way, node.result)
				cells[i*len(poisonWays)+j] = poisonCell(right, failed)
				assert.Equal(t, inputs-1, right)
			})
		}
	}
	p.table = func() string {
		var b strings.Builder
		fmt.Fprintf(&b, "| the node, and one input that | %s |\n|%s\n", strings.Join(poisonWays, " | "), strings.Repeat(" --- |", 1+len(poisonWays)))
		for i, node := range poisonedNodes {
			fmt.Fprintf(&b, "| %s | %s |\n", node.name, strings.Join(cells[i*len(poisonWays):(i+1)*len(poisonWays)], " | "))
		}
		return b.String()
	}
	tables, complete := runParts(t, concurrentRows, p)
	if testing.Verbose() {
		t.Log("\n" + p.table())
	}
	if complete {
		compareDocs(t, "docs/poison.md", tables)
	}
}

func poisonCell(right int, failed map[runner.Kind]int) string {
	text := fmt.Sprintf("%d right", right)
	for _, kind := range []runner.Kind{runner.KindExecution, runner.KindMarshaling, runner.KindPythonVM, runner.KindTransport, runner.KindOther, runner.KindManifest, runner.KindIO} {
		if failed[kind] > 0 {
			text += fmt.Sprintf(", %d `%v`", failed[kind], kind)
		}
	}
	return text
}

// A node that may not run twice loses the calls that ran together. The error says so, and
// the breaker counts the death once.
func TestCallsThatMayNotRunTwiceFailTogetherAndSaySo(t *testing.T) {
	t.Parallel()
	r := crashing(t, "testdata", "poison.py", "batch", []string{"idempotent: false", "breaker: {failures: 2}"})
	_, err := r.Run(t.Context(), 1)
	require.NoError(t, err)
	var running sync.WaitGroup
	var mu sync.Mutex
	var together []*runner.Error
	for i := range 5 {
		running.Go(func() {
			var input any = i
			if i == 0 {
				input = "kills the interpreter"
			}
			_, err := r.Run(t.Context(), input)
			if e := runner.AsError(err); err != nil {
				mu.Lock()
				together = append(together, e)
				mu.Unlock()
			}
		})
	}
	running.Wait()
	counted, begun := 0, 0
	for _, e := range together {
		if !strings.Contains(e.Message, "it had not begun this call") {
			begun++
		}
	}
	for _, e := range together {
		assert.Equal(t, runner.KindPythonVM, e.Kind)
		wasBegun := !strings.Contains(e.Message, "it had not begun this call")
		if wasBegun && begun > 1 {
			assert.Contains(t, e.Message, "under way, and any of them may have caused it")
		}
		if !wasBegun || begun > 1 {
			assert.Contains(t, e.Hint, "let it be idempotent")
		}
		if !e.BreakerExempt {
			counted++
		}
	}
	assert.Equal(t, 1, counted)
	assert.Equal(t, 1, r.Scheduler().Breaker("node").Failures())
}
