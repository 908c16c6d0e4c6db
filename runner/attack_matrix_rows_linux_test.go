package runner_test

import (
	"bytes"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner"
)

var protocolAttacks = []attack{
	{does: "releases a segment twice", way: "releases_twice", stop: "the loans of each worker are counted", want: ended(), says: "more than it was lent"},
	{does: "releases a segment zero times", way: "releases_nothing", stop: "the same", want: ended(), says: "releases no reference"},
	{does: "releases the segments of its neighbors", way: "releases_for_others", stop: "the same", want: ended(), says: "which it was not lent"},
	{does: "says that a segment of the host is gone", way: "forgets_the_hosts", stop: "a worker forgets only its own", want: ended(), says: "which is not its own"},
	{does: "shares 8 GiB that take no memory", way: "shares_8_gib", stop: "`WithSharedMemory`, by size and before mapping", want: ended(), says: "that it may share"},
	{does: "shares 64 TiB", way: "shares_64_tib", stop: "the same", want: ended(), says: "that it may share"},
	{does: "sends 1 GiB through the socket", way: "streams_through_the_socket", stop: "the same bound, before memory is allocated", want: ended(), says: "claims inline buffers of more than"},
	{does: "shares 200 segments", way: "shares_200_segments", stop: "the number of segments, a part of the host's descriptors", want: ended(), says: "segment"},
	{does: "shares memory that it can shrink", way: "shares_what_can_shrink", stop: "the seals are checked", want: ended(), says: "size of a segment is not sealed"},
	{does: "shares memory that others could write to", way: "shares_what_it_can_change", stop: "the same", want: ended(), says: "not sealed against writing"},
	{does: "shares a file", way: "shares_a_file", stop: "the seals are checked", want: ended(), says: "not shared memory"},
	{does: "names a segment that never arrives", way: "names_what_never_comes", stop: "the host does not wait for it", want: ended(), says: "no descriptor"},
	{does: "sends half of a frame", way: "sends_half_a_frame", stop: "the call's timeout", want: died("SIGABRT", "").and(unrepeated), says: "no answer within 2s", quick: true},
	{does: "sends a frame a byte at a time", way: "sends_a_byte_at_a_time", stop: "the call's timeout", want: died("SIGABRT", "").and(unrepeated), says: "no answer within 2s", quick: true},
	{does: "returns 32 MiB of empty arrays", way: "returns_empty_arrays", stop: "the budget of decoded memory", want: outcome{kind: runner.KindMarshaling, replaced: true}, says: "memory"},
	{does: "logs 15 MiB of empty arrays", way: "logs_empty_arrays", stop: "the same, for messages", want: ended(), says: "memory"},
	{does: "raises 15 MiB of empty arrays", way: "raises_empty_arrays", stop: "the same", want: ended(), says: "memory"},
	{does: "reports 15 MiB of empty arrays as progress", way: "reports_empty_arrays", stop: "the same", want: ended(), says: "memory"},
	{does: "raises a chain of 100,000 causes", way: "nests_exceptions", stop: "the depth of messages", want: ended(), says: "deep"},
	{does: "answers its neighbors' calls", way: "answers_another_call", stop: "each connection has its own calls", want: ended(), says: "which is not under way"},
	{does: "reports progress of its neighbors' calls", way: "reports_on_another_call", stop: "the same", want: ended(), says: "which the worker was not sent"},
	{does: "sends items for a call that has one result", way: "floods_items", stop: "the kind of the call is checked", want: ended(), says: "item"},
	{does: "denies that a call has begun, which must not be repeated", way: "denies_the_call", stop: "the host goes by what it wrote", want: died("exit 3", "").and(unrepeated), says: "os._exit(3)",
		more: []string{"idempotent: false", "retry: {fixed: 1ms, max_attempts: 3}"},
		check: func(t *testing.T, seen *attacked) string {
			assert.Len(t, readLines(t, seen.file), 1, "it ran once")
			return ""
		}},
	{does: "asks for a retry in 30 years", way: "asks_for_a_retry_in_30_years", stop: "the policy's budget, and at most a minute", want: outcome{kind: runner.KindExecution}, says: "later",
		more: []string{"retry: {fixed: 1ms, max_attempts: 1, budget: 200ms}"},
		check: func(t *testing.T, seen *attacked) string {
			assert.Less(t, seen.took, time.Minute)
			return ""
		}},
}

var memoryAttacks = []attack{
	{does: "reads memory that its neighbor was sent", way: "reads_its_neighbors", stop: "isolated nodes share no segments", want: succeeded(), says: "no data but its own"},
	{does: "writes to memory that it was lent", way: "writes_to_its_neighbors", stop: "the segment is sealed before it is lent", want: succeeded(), says: "PermissionError"},
	{does: "keeps all memory that it is lent", way: "keeps_its_inputs", stop: "further inputs go through the socket", want: succeeded(), check: neighborIsServed},
	{does: "fills files in memory", way: "fills_a_file_in_memory", stop: "`limits.resident` counts them", want: died("SIGABRT", "").and(unrepeated), says: "ran out of memory", limits: "{resident: 300MiB}"},
	{does: "starts threads without end", way: "starts_threads", stop: "`limits.threads`", want: died("SIGABRT", "").and(unrepeated), says: "threads", limits: "{threads: 100}"},
	{does: "drops all that ends it with the host", way: "outlives_its_supervisor", stop: "the host ends it, and what it left", want: broke("SIGABRT", "").and(unrepeated), says: "connection"},
}

var systemAttacks = []attack{
	{does: "signals the host", way: "signals_the_host", stop: "Landlock, or a namespace of process ids", want: succeeded(), check: func(t *testing.T, seen *attacked) string {
		assert.Regexp(t, "^(PermissionError|ProcessLookupError): ", seen.answer)
		return "the node's answer: PermissionError, or ProcessLookupError in a namespace"
	}},
	{does: "lets the kernel signal the host (`F_SETOWN`)", way: "lets_the_kernel_signal_the_host", stop: "Landlock, when the signal is sent", want: succeeded(), says: "the host lives"},
	{does: "takes leases of files that others open", way: "leases_the_code", stop: "seccomp", want: succeeded(), says: "PermissionError"},
	{does: "uses descriptors that it inherits", way: "uses_what_it_inherits", stop: "they are closed before its first code runs", want: succeeded(), says: "no descriptor"},
	{does: "forks", way: "forks", stop: "seccomp", want: succeeded(), says: "PermissionError"},
	{does: "leaves 300 nested folders", way: "digs_deep", stop: "the temporary folder is removed level by level", want: succeeded(), says: "dug"},
	{does: "leaves a folder that cannot be listed", way: "hides_files", stop: "the host may list it", want: succeeded(), says: "hidden"},
	{does: "says that its heartbeat is its lifeline", way: "keeps_its_pipe", stop: "the timeout", want: died("SIGABRT", "").and(unrepeated), says: "no answer within 2s", quick: true},
	{does: "has a name and a mode that hide its memory", way: "looks_small", stop: "`limits.resident`", want: died("SIGABRT", "").and(unrepeated), says: "ran out of memory", limits: "{resident: 200MiB}"},
}

var textAttacks = []attack{
	{does: "logs commands for a terminal", way: "logs_commands", stop: "text of a node is escaped when it becomes output", want: succeeded(), check: loggedPrintable},
	{does: "raises commands for a terminal", way: "raises_commands", stop: "the same", want: outcome{kind: runner.KindExecution}, says: `\x1b]52`},
	{does: "raises an exception of 15 MiB", way: "raises_16_mib", stop: "texts of messages are cut", want: outcome{kind: runner.KindExecution, replaced: true}, says: "AAAA",
		check: func(t *testing.T, seen *attacked) string {
			assert.Less(t, len(seen.says), 1<<20)
			return "A…"
		}},
	{does: "logs 15 MiB at a time", way: "logs_16_mib", stop: "the same", want: succeeded(), check: loggedLittle},
	{does: "prints 64 MiB without a line feed", way: "prints_a_line_without_end", stop: "lines are cut", want: succeeded(), says: "printed"},
	{does: "invents an exit report that names secret files", way: "invents_an_exit_report", stop: "the host reads only source that the worker may read", want: died("SIGKILL", "").and(unrepeated), says: "SIGKILL", check: func(t *testing.T, seen *attacked) string {
		require.NotEmpty(t, seen.failure.Traceback)
		for _, frame := range seen.failure.Traceback {
			assert.Equal(t, "/etc/shadow", frame.File)
			assert.Empty(t, frame.Source)
		}
		return ""
	}},
	{does: "makes its exit report a terabyte long", way: "claims_to_be_a_terabyte", stop: "the host reads 256 KiB of it", want: died("SIGKILL", "").and(unrepeated), says: "SIGKILL"},
}

// neighborIsServed sends the attacker more than all shared memory, and then its neighbor a
// value that takes half of it.
func neighborIsServed(t *testing.T, seen *attacked) string {
	large := &ipc.Tensor{DType: ipc.Uint8, Shape: []int{8 << 20}, Data: make([]byte, 8<<20)}
	input, _ := neighborData("neighbor", neighborSize)
	for range 12 {
		_, err := seen.runner.Run(t.Context(), map[string]any{"to_attacker": map[string]any{"data": large}, "to_neighbor": input})
		require.NoError(t, err)
	}
	input, want := neighborData("neighbor", 32<<20)
	result, err := seen.runner.Run(t.Context(), map[string]any{"to_attacker": map[string]any{"data": large}, "to_neighbor": input})
	require.NoError(t, err)
	neighbor := result.(map[string]any)["neighbor"].(map[string]any)
	assert.True(t, bytes.Equal(want, neighbor["data"].(*ipc.Tensor).Data))
	return fmt.Sprintf("the node's answer: `%v`; 12 more of its calls succeed, and its neighbor's", seen.answer)
}

// logged returns the log once it contains a text.
func (seen *attacked) logged(t *testing.T, text string) string {
	t.Helper()
	assert.Eventually(t, func() bool { return seen.log.contains(text) }, time.Minute, time.Millisecond)
	seen.log.mu.Lock()
	defer seen.log.mu.Unlock()
	return strings.Clone(seen.log.String())
}

func loggedPrintable(t *testing.T, seen *attacked) string {
	shown := ""
	for line := range strings.Lines(seen.logged(t, `raw \x9b2J\x1bc`)) {
		assert.Equal(t, runner.Printable(line), line)
		assert.False(t, strings.HasPrefix(line, "2026-01-01"), "a forged record: %q", line)
		if _, rest, found := strings.Cut(line, "raw "); found {
			shown = "raw " + strings.TrimSpace(rest)
		}
	}
	shown, _, _ = strings.Cut(shown, ": node=") // the fields differ from run to run
	return "in the log: `" + shown + "`"
}

func loggedLittle(t *testing.T, seen *attacked) string {
	log := seen.logged(t, "AAAA")
	assert.Less(t, len(log), 1<<20)
	return "in the log: `AAAA…`"
}

// lies are what a node can say of itself when it starts, with a part of the error.
var lies = []struct{ lie, says string }{
	{"a batch of 2⁴⁰ calls", "batch is 1099511627776, not from 0 to 4096"},
	{"a batch of -1 calls", "batch is -1"},
	{"2⁶² calls at once", "concurrency is 4611686018427387904"},
	{"a wait that is no number", "max_wait is NaN"},
	{"a wait of 30 years", "max_wait is 1e+09"},
	{"a million parameters", "memory"},
	{"a docstring of 10 MiB", "doc has 10485760 bytes"},
	{"line -5", "line is -5"},
}

// lieMatrix is about the descriptions of nodes. A node that lies does not start.
func lieMatrix() part {
	seen := make([]string, len(lies))
	var p part
	for i, each := range lies {
		p.add("claims "+each.lie, func(t *testing.T) {
			base, err := filepath.Abs(hostileFolder)
			require.NoError(t, err)
			r := parse(t, "version: v1\nnodes: [{id: node, node_type: liar, python: liar.py, isolation: strict, retry: none, env: {LIE: \""+each.lie+"\"}}]\n",
				base, runner.WithSystemPython())
			err = r.Start(t.Context())
			s := observe(t, r, err)
			assert.Equal(t, runner.KindTransport, s.kind)
			assert.Contains(t, s.says, each.says)
			seen[i] = attack{}.cell(&attacked{observation: s})
		})
	}
	p.table = func() string {
		var b strings.Builder
		b.WriteString("| a node claims | the start | what the operator sees |\n| --- | --- | --- |\n")
		for i, each := range lies {
			fmt.Fprintf(&b, "| %s | `transport` | %s |\n", each.lie, seen[i])
		}
		return b.String()
	}
	return p
}
