package runner_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/runner"
)

// closing is a row of the matrix: a failure of a node when its worker shuts down.
type closing struct {
	does   string
	way    string // the function in testdata/crashes/closing.py
	before bool   // it runs in a call, and has its effect at the shutdown
	died   string // a part of the WorkerDied event's text, empty if there is none
	logged string // a part of the log
}

// killedAtClose is what the log says of a worker that does not exit in time.
const killedAtClose = "the worker did not exit within its grace period of 2s and was killed"

var closes = []closing{
	{does: "raises in `close`", way: "closing.close_raises", logged: "RuntimeError: cannot let go"},
	{does: "calls `sys.exit(9)` in `close`", way: "closing.close_exits", logged: "SystemExit: 9"},
	{does: "calls `os._exit(9)` in `close`", way: "closing.close_exits_now"},
	{does: "crashes in `close`", way: "closing.close_crashes", died: "SIGSEGV"},
	{does: "hangs in `close`", way: "closing.close_hangs", logged: killedAtClose},
	{does: "stops itself, all signals blocked", way: "closing.ignore_the_shutdown", logged: killedAtClose},
	{does: "has registered an `atexit` function that hangs", way: "closing.hang_at_exit", before: true, logged: killedAtClose},
	{does: "has registered an `atexit` function that raises", way: "closing.raise_at_exit", before: true, logged: "RuntimeError: cannot let go"},
	{does: "has registered an `atexit` function that crashes", way: "closing.crash_at_exit", before: true, died: "SIGSEGV"},
	{does: "has left a thread that never ends", way: "closing.leave_a_thread", before: true, logged: killedAtClose},
	{does: "has left a child", way: "closing.leave_children", before: true},
}

func closeMatrix() part {
	told := make([]string, len(closes))
	var p part
	for i, c := range closes {
		p.add(c.does, func(t *testing.T) { told[i] = c.observe(t) })
	}
	p.table = func() string {
		var b strings.Builder
		b.WriteString("| the node | `WorkerDied` | the log |\n| --- | --- | --- |\n")
		for i, c := range closes {
			fmt.Fprintf(&b, "| %s | %s | %s |\n", c.does, cell(told[i]), code(c.logged))
		}
		return b.String()
	}
	return p
}

func (c closing) observe(t *testing.T) string {
	var log lockedBuffer
	events := &recorder{}
	r := crashing(t, crashFolder, "nodes.py", "Closing", []string{fmt.Sprintf("params: {way: %s, before: %v}", c.way, c.before)},
		runner.WithEvents(events.record), runner.WithLogger(hclog.New(&hclog.LoggerOptions{Output: &log, Level: hclog.Info})))
	_, err := r.Run(t.Context(), nil)
	require.NoError(t, err)
	closeCleanly(t, r, events)
	assert.True(t, log.contains(c.logged))
	deaths := of[runner.WorkerDied](events)
	if c.died == "" {
		assert.Empty(t, deaths)
		return ""
	}
	require.Len(t, deaths, 1)
	var e *runner.Error
	require.True(t, errors.As(deaths[0].Err, &e))
	assert.Contains(t, e.Message, c.died)
	return e.Message
}
