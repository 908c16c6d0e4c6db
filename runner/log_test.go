package runner_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/runner"
)

const logging = `
import logging, os, sys, threading
from gophersnake import node
log = logging.getLogger("mine")
log.warning("imported")

@node
def work(x):
    print("printed")
    print("to stderr", file=sys.stderr)
    print('{"@level":"info","@message":"as a record","node":"other","@module":"x"}', file=sys.stderr)
    log.info("logged", extra={"word": x, "node": "other", "worker": 1, "call": 99, "@level": "off"})
    thread = threading.Thread(target=log.info, args=("in a thread",))
    thread.start()
    thread.join()
    if x == 1 and not os.path.exists("died"):
        open("died", "w").close()
        os._exit(3)
    return os.getpid()

@node
async def later(x):
    log.info("in a task")
    return x
`

// A logBuffer is the output of a logger.
type logBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

// records returns the records, by their messages without numbers.
func (b *logBuffer) records(t *testing.T) map[string]map[string]any {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	found := map[string]map[string]any{}
	for line := range strings.Lines(b.text.String()) {
		var record map[string]any
		require.NoError(t, json.Unmarshal([]byte(line), &record), line)
		found[fmt.Sprint(record["@message"])] = record
	}
	return found
}

func TestRecordsOfTheLogNameNodeWorkerAndCall(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(base, "nodes.py"), []byte(logging), 0o600))
	out := &logBuffer{}
	logger := hclog.New(&hclog.LoggerOptions{Output: out, Level: hclog.Debug, JSONFormat: true})
	events := &recorder{}
	r, err := loadIn(t, base, "nodes:\n  - {id: first, node_type: work, retry: {base: 1ms}}\n"+
		"  - {id: second, node_type: later}\nconnections: [{from: first, to: second}]\n",
		runner.WithLogger(logger), runner.WithEvents(events.record))
	require.NoError(t, err)
	require.NoError(t, r.Start(t.Context()))
	var pid any // of the worker that served the last call
	for _, x := range []int{1, 2} {
		pid, err = r.Run(t.Context(), x)
		require.NoError(t, err)
	}
	awaitDeaths(t, events, 1)
	died := of[runner.WorkerDied](events)
	started := of[runner.WorkerStarted](events)
	require.NoError(t, r.Close(t.Context()))
	worker := func(node string) float64 {
		for _, each := range started {
			if each.Node == node && each.PID != died[0].PID {
				return float64(each.PID)
			}
		}
		return 0
	}
	first, second := worker("first"), worker("second")
	require.InDelta(t, pid, first, 0)

	records := out.records(t)
	for message, want := range map[string]map[string]any{
		"imported":    {"@module": "first.mine", "node": "first", "worker": first},
		"printed":     {"@module": "first.stdout", "node": "first", "worker": first},
		"to stderr":   {"@module": "first.stderr", "node": "first", "worker": first},
		"in a thread": {"@module": "first.mine", "node": "first", "worker": first},
		"in a task":   {"@module": "second.mine", "node": "second", "worker": second, "call": float64(2)},
		"as a record": {"@module": "first.stderr", "node": "first", "worker": first, "extra.node": "other", "extra.@module": "x"},
		"logged": {
			"@module": "first.mine", "node": "first", "worker": first, "call": float64(2),
			"word": float64(2), "extra.node": "other", "extra.worker": float64(1), "extra.call": float64(99), "extra.@level": "off",
		},
		died[0].String(): {"@module": "first", "node": "first", "worker": float64(died[0].PID)},
		fmt.Sprintf(`node "first": worker %v ended`, pid): {"@module": "first", "node": "first", "worker": first},
		started[len(started)-1].String():                  {"@module": "first", "node": "first", "worker": first},
	} {
		record := records[message]
		if message == "imported" && record["node"] != "first" { // both nodes import the module
			want = map[string]any{"@module": "second.mine", "node": "second", "worker": second}
		}
		require.NotNil(t, record, message)
		assert.NotEmpty(t, record["@timestamp"])
		for _, key := range []string{"@timestamp", "@level", "@message", "timestamp"} { // the last one is go-plugin's
			delete(record, key)
		}
		assert.Equal(t, want, record, message)
	}
	for message, record := range records {
		assert.NotNil(t, record["node"], message)
	}
}
