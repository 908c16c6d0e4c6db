package runner_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/runner"
)

// injecting is a node that puts commands for a terminal, and lines that look like records
// of the log, into every text of its own. Its file name holds one, too.
const injecting = `
import json, logging, os, sys
from gophersnake import node, progress

EVIL = "\x1b]52;c;aGk=\x07\u202e\x9b2J\rfine\n2026-01-01T00:00:00.000Z [ERROR] runner: forged"

@node
class Inject:
    """\x1b[31mdoc"""
    def setup(self):
        progress(EVIL)
    def process(self, how):
        if how == "raise":
            error = ValueError(EVIL)
            if hasattr(error, "add_note"):
                error.add_note(EVIL)
            raise error from RuntimeError(EVIL)
        logging.getLogger(EVIL).warning(EVIL, extra={EVIL: EVIL})
        print(EVIL, flush=True)
        os.write(1, b"raw \x9b2J\x1bc\n")
        os.write(2, EVIL.encode() + b"\n")
        record = {"@message": EVIL, "@level": "error", "@timestamp": "2026-01-01T00:00:00.000000Z", EVIL: EVIL}
        os.write(2, json.dumps(record).encode() + b"\n")
        os.write(2, b"the last line\n")
`

func assertPrintable(t *testing.T, text string) {
	t.Helper()
	assert.Equal(t, runner.Printable(text), text)
	for line := range strings.Lines(text) {
		assert.False(t, strings.HasPrefix(line, "2026-01-01"), "a forged record: %q", line)
	}
}

func TestTextOfANodeCannotInjectIntoATerminalOrALog(t *testing.T) {
	base := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(base, "nodes.py"), []byte(injecting), 0o600))
	var log lockedBuffer
	events := &recorder{}
	r, err := loadIn(t, base, "nodes: [{id: n, node_type: Inject, retry: {fixed: 1ms, max_attempts: 0}}]\n",
		runner.WithLogger(hclog.New(&hclog.LoggerOptions{Output: &log, Level: hclog.Trace})), runner.WithEvents(events.record))
	require.NoError(t, err)
	_, err = r.Run(t.Context(), "log")
	require.NoError(t, err)
	require.Eventually(t, func() bool { return log.contains("the last line") }, 10*time.Second, time.Millisecond)
	assert.Eventually(t, func() bool { return log.contains(`raw \x9b2J\x1bc`) }, 10*time.Second, time.Millisecond)
	assert.True(t, log.contains(`\x1b]52;c;aGk=\x07`), "it is visible")
	log.mu.Lock()
	logged := strings.Clone(log.String())
	log.mu.Unlock()
	for line := range strings.Lines(logged) {
		assert.Equal(t, runner.Printable(line), line)
		if strings.Contains(line, "forged") {
			own := strings.HasPrefix(line, "  ") || strings.HasPrefix(line, "20") && !strings.HasPrefix(line, "2026-01-01")
			assert.True(t, own, "a forged record: %q", line)
		}
	}
	for _, e := range of[runner.SetupProgress](events) {
		assertPrintable(t, e.String())
	}

	_, err = r.Run(t.Context(), "raise")
	require.Error(t, err)
	assertPrintable(t, err.Error())
	assertPrintable(t, fmt.Sprintf("%v", err))
	report := fmt.Sprintf("%+v", err)
	assert.Equal(t, runner.Printable(report), report)
	assert.Contains(t, report, `\x1b]52;c;aGk=\x07\u202e\x9b2J\x0dfine`)
	var e *runner.Error
	require.True(t, errors.As(err, &e))
	assert.Contains(t, e.Message, "\x1b]52", "a program gets the original text")
}
