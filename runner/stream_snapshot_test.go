package runner_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/runner"
)

// saving is a stateful node whose state is saved after 16 items. At item 20 its worker dies
// once, if the folder has a file "die"; another worker then restores the state.
const saving = `
import asyncio, os, sys, time
from gophersnake import node

@node(stateful=True)
class Saving:
    HOW process(self, n: int):
        if n == 20 and os.path.exists("die"):
            os.unlink("die")
            os._exit(3)
        return n
    HOW snapshot(self):
        SNAPSHOT
    HOW restore(self, state):
        RESTORE
    HOW begin(self):
        BEGIN
`

// TestFaultsOfAStateAreNamed compares what a caller reads if the state of a node cannot be
// created, saved or restored.
func TestFaultsOfAStateAreNamed(t *testing.T) {
	t.Parallel()
	const sleep = "time.sleep(60)"
	for name, c := range map[string]struct {
		begin, snapshot, restore string // statements; "return 1" by default
		more                     []string
		kind                     runner.Kind
		operation, path          string
		message, hint            string // parts
	}{
		"snapshot raises": {
			snapshot: `raise ValueError("no")`, kind: runner.KindExecution,
			operation: "snapshot", message: `in node "Saving" during snapshot: ValueError: no (BASE/nodes.py:`,
		},
		"snapshot returns a refused type": {
			snapshot: "return {'seen': {1}}", kind: runner.KindMarshaling,
			operation: "snapshot", path: "snapshot.seen",
			message: `during snapshot: snapshot.seen: a set has no form on the wire`,
			hint:    "instead of x, return list(x), or sorted(x) if its elements have an order",
		},
		"snapshot has keys that are no strings": {
			snapshot: "return {'seen': {1: 2}}", kind: runner.KindMarshaling,
			operation: "snapshot", path: "snapshot.seen",
			message: `during snapshot: cannot carry snapshot.seen: a map key is an integer; keys must be strings`,
			hint:    "instead of x, return {str(key): value for key, value in x.items()}",
		},
		"snapshot is nested too deep": {
			snapshot: "s = 1\n        for _ in range(70): s = [s]\n        return s", kind: runner.KindMarshaling,
			operation: "snapshot", path: "snapshot" + strings.Repeat("[0]", 64),
			message: "nested deeper than 64 levels",
			hint:    "instead of x, return gophersnake.Json.dump(x), or less nesting",
		},
		"snapshot hangs": {
			snapshot: sleep, more: []string{"timeout: 300ms"}, kind: runner.KindPythonVM,
			operation: "snapshot", message: "during snapshot: HUNG",
			hint: "if the work may take this long, raise the node's timeout in the manifest",
		},
		"snapshot ends the worker": {
			snapshot: "os._exit(4)", kind: runner.KindPythonVM,
			operation: "snapshot", message: "during snapshot: the node called os._exit(4) (BASE/nodes.py: in snapshot)",
		},
		"snapshot calls sys.exit": {
			snapshot: "sys.exit(4)", kind: runner.KindPythonVM,
			operation: "snapshot", message: "during snapshot: the node called sys.exit(4)",
			hint: "a node must not exit: let it return, or raise an exception",
		},
		"restore raises": {
			restore: `raise ValueError("old")`, kind: runner.KindExecution,
			operation: "restore", message: `during restore: ValueError: old (BASE/nodes.py:`,
		},
		"restore hangs": {
			restore: sleep, more: []string{"timeout: 300ms"}, kind: runner.KindPythonVM,
			operation: "restore", message: "during restore: HUNG",
			hint: "if the work may take this long, raise the node's timeout in the manifest",
		},
		"restore ends the worker": {
			restore: "os._exit(4)", kind: runner.KindPythonVM,
			operation: "restore", message: "during restore: the node called os._exit(4) (BASE/nodes.py: in restore)",
		},
		"begin ends the worker": {
			begin: "os._exit(4)", kind: runner.KindPythonVM,
			operation: "begin", message: "during begin: the node called os._exit(4) (BASE/nodes.py: in begin)",
		},
	} {
		for _, how := range []string{"def", "async def"} {
			t.Run(fmt.Sprint(name, " in ", how), func(t *testing.T) {
				t.Parallel()
				base := t.TempDir()
				source := saving
				for key, statement := range map[string]string{"BEGIN": c.begin, "SNAPSHOT": c.snapshot, "RESTORE": c.restore} {
					if statement == "" {
						statement = "return 1"
					}
					if how == "async def" {
						statement = strings.ReplaceAll(statement, "time.sleep", "await asyncio.sleep")
					}
					source = strings.ReplaceAll(source, key, statement)
				}
				source = strings.ReplaceAll(source, "HOW", how)
				require.NoError(t, os.WriteFile(filepath.Join(base, "nodes.py"), []byte(source), 0o600))
				if c.restore != "" {
					require.NoError(t, os.WriteFile(filepath.Join(base, "die"), nil, 0o600))
				}
				r, err := loadIn(t, base, single("Saving", append(c.more, "python: nodes.py", "retry: {max_attempts: 1, base: 1ms}")...))
				require.NoError(t, err)
				require.NoError(t, r.Start(t.Context()))
				s := open(t, r)
				feed(t, s, upTo(40)...)
				_, err = values(s)
				var e *runner.Error
				require.ErrorAs(t, err, &e)
				line := strings.ReplaceAll(e.Error(), base, "BASE")
				line = strings.NewReplacer(
					"the interpreter hung: no answer within 300ms", "HUNG", "no answer within 300ms; the call was canceled", "HUNG",
				).Replace(line) // a sync node that blocks loses its worker, an async one does not
				line = regexp.MustCompile(`nodes\.py:\d+`).ReplaceAllString(line, "nodes.py:")
				assert.Equal(t, c.kind, e.Kind, line)
				assert.Equal(t, c.operation, e.Operation, line)
				assert.Equal(t, c.path, e.Path)
				assert.Contains(t, line, c.message)
				assert.Equal(t, c.hint, e.Hint, line)
			})
		}
	}
}

func TestAnotherRunnerContinuesAStreamFromItsCheckpoint(t *testing.T) {
	t.Parallel()
	first := start(t, streaming("Ledger"))
	require.True(t, first.Resumes())
	s := open(t, first)
	for n := range 5 { // their values fit into the window of the sink
		require.NoError(t, s.Send(n))
	}
	c, err := s.Checkpoint()
	require.NoError(t, err)
	assert.Equal(t, map[string]int{"Ledger": 10}, c.Emitted)
	require.NoError(t, s.Send(5)) // lost with the stream
	require.NoError(t, s.Close())
	s, err = start(t, streaming("Ledger")).Stream(t.Context(), runner.WithCheckpoint(c))
	require.NoError(t, err)
	feed(t, s, 5)
	got, err := values(s)
	require.NoError(t, err)
	assert.Equal(t, []any{[]any{"item", int64(5)}, []any{"total", int64(15)}, []any{"end", int64(15)}, []any{"calls", int64(1)}}, got)
}

func TestAStreamWhoseStateCannotBeRestoredHasNoCheckpoint(t *testing.T) {
	t.Parallel()
	r := start(t, streaming("Pairs"))
	assert.False(t, r.Resumes())
	_, err := open(t, r).Checkpoint()
	require.ErrorIs(t, err, runner.KindOther)
	assert.ErrorContains(t, err, "has no checkpoints")
}
