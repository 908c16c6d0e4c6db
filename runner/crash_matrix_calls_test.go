package runner_test

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/internal/testkit"
)

// call is a row of the matrix: a failure of a node during a call.
type call struct {
	does string // in words; "the node" comes before it
	way  string // the module and function of testdata/crashes that does it
	want outcome
	says string // a part of the error's text

	async bool     // the node is an async function
	later bool     // the worker is replaced only some time after the call
	more  []string // lines of the manifest
	// during runs concurrently with the call, until done is closed. The node writes file.
	during func(file string, cancel context.CancelFunc, done <-chan struct{})
	file   bool                     // the node writes a file although there is no during
	after  func(*testing.T, string) // gets the file
}

const (
	withTimeout   = "timeout: 2s"
	residentLimit = "limits: {resident: 200MiB}"
	memoryLimit   = "limits: {memory: 256MiB}"
	threadLimit   = "limits: {threads: 100}"
)

func replaced(f *outcome) { f.replaced = true }

var calls = []call{
	// Exceptions.
	{does: "raises an exception", way: "raising.raise_value_error", want: raised("raise_value_error"), says: "ValueError: the answer is not 42"},
	{does: "raises `Permanent`", way: "raising.raise_permanent", want: exempt(runner.KindExecution, "raise_permanent"), says: "never again"},
	{does: "raises `Transient`", way: "raising.raise_transient", want: raised("raise_transient"), says: "come back"},
	{does: "raises an exception that has no text", way: "raising.raise_without_a_text", want: raised("raise_without_a_text"), says: "the message cannot be read"},
	{does: "raises `StopIteration`", way: "raising.raise_stop_iteration", want: raised("raise_stop_iteration"), says: "StopIteration"},
	{does: "raises `KeyboardInterrupt`", way: "raising.raise_keyboard_interrupt", want: raised("raise_keyboard_interrupt"), says: "KeyboardInterrupt"},
	{does: "raises `KeyboardInterrupt` in a background task", way: "raise_in_the_background", async: true, want: succeeded()},
	{does: "raises another `BaseException`", way: "raising.raise_base_exception", want: raised("raise_base_exception"), says: "neither an Exception nor an exit"},
	{does: "recurses forever in Python", way: "raising.recurse", want: raised("recurse"), says: "RecursionError"},
	{does: "runs out of descriptors", way: "raising.run_out_of_descriptors", want: raised("run_out_of_descriptors"), says: "Too many open files"},
	{does: "raises in a thread of its own", way: "raising.raise_in_a_thread", want: succeeded()},
	{does: "calls `sys.exit` in a thread of its own", way: "raising.exit_in_a_thread", want: succeeded()},

	// The interpreter ends.
	{does: "calls `sys.exit(0)`", way: "ends.sys_exit_0", want: died("exit 0", "sys_exit_0"), says: "sys.exit(0)"},
	{does: "calls `sys.exit(3)`", way: "ends.sys_exit_3", want: died("exit 3", "sys_exit_3"), says: "sys.exit(3)"},
	{does: "calls `sys.exit(\"text\")`", way: "ends.sys_exit_text", want: died("exit 1", "sys_exit_text"), says: "sys.exit"},
	{does: "calls `os._exit(0)`", way: "ends.exit_now_0", want: died("exit 0", "exit_now_0"), says: "os._exit(0)"},
	{does: "calls `os._exit(7)`", way: "ends.exit_now_7", want: died("exit 7", "exit_now_7"), says: "os._exit(7)"},
	{does: "calls `os._exit(7)` in a thread", way: "ends.exit_now_in_a_thread", want: died("exit 7", "exit_now_7"), says: "os._exit(7)"},
	{does: "replaces `os._exit` and exits", way: "tampering.replace_os_exit", want: died("exit 7", ""), says: "exited with code 7"},
	{does: "exits in C", way: "ends.exit_in_c", want: died("exit 5", ""), says: "the library gives up"},
	{does: "becomes another program, which ends", way: "ends.become_another_program", want: died("exit 0", ""), says: "exited with code 0"},
	{does: "becomes another program, which stays", way: "ends.become_a_program_that_stays", want: broke("SIGABRT", "")},
	{does: "writes to the null pointer", way: "ends.write_to_null", want: died("SIGSEGV", "write_to_null"), says: "SIGSEGV"},
	{does: "writes to the null pointer in a thread", way: "ends.crash_in_a_thread", want: died("SIGSEGV", "write_to_null"), says: "SIGSEGV"},
	{does: "overflows the stack in C", way: "ends.recurse_in_c", want: died("SIGSEGV", "recurse_in_c"), says: "SIGSEGV"},
	{does: "reads a mapped file that shrank", way: "ends.read_a_file_that_shrank", want: died("SIGBUS", "read_a_file_that_shrank"), says: "SIGBUS"},
	{does: "calls `os.abort`", way: "ends.abort", want: died("SIGABRT", "abort"), says: "SIGABRT"},
	{does: "calls `Py_FatalError`", way: "ends.fatal_error_of_python", want: died("SIGABRT", "fatal_error_of_python"), says: "SIGABRT"},
	{does: "frees memory twice", way: "ends.free_twice", want: died("SIGABRT", "free_twice"), says: "SIGABRT"},
	{does: "gets SIGSEGV", way: "ends.signal_segv", want: died("SIGSEGV", "signal_segv"), says: "SIGSEGV"},
	{does: "gets SIGFPE", way: "ends.signal_fpe", want: died("SIGFPE", "signal_fpe"), says: "SIGFPE"},
	{does: "gets SIGILL", way: "ends.signal_ill", want: died("SIGILL", "signal_ill"), says: "SIGILL"},
	{does: "gets SIGTERM", way: "ends.signal_term", want: died("SIGTERM", ""), says: "SIGTERM"},
	{does: "gets SIGHUP", way: "ends.signal_hup", want: died("SIGHUP", ""), says: "SIGHUP"},
	{does: "gets SIGINT", way: "ends.signal_int", want: raised("signal_int"), says: "KeyboardInterrupt"},
	{does: "gets a real-time signal", way: "ends.signal_real_time", want: died("SIGRTMIN", ""), says: "SIGRTMIN"},
	{does: "sends SIGKILL to itself", way: "ends.signal_kill", want: died("SIGKILL", ""), says: "SIGKILL"},
	{does: "gets SIGKILL from a child", way: "ends.killed_by_a_child", want: died("SIGKILL", ""), says: "SIGKILL"},
	{does: "gets SIGKILL from outside", way: "ends.wait_to_be_killed", want: died("SIGKILL", ""), says: "SIGKILL", during: killing},
	{does: "uses up its RLIMIT_CPU", way: "ends.use_up_the_cpu_time", want: died("SIGXCPU", ""), says: "SIGXCPU"},
	{does: "uses up `limits.memory`", way: "ends.eat_memory", want: died("exit 70", "eat_memory"), says: "ran out of memory", more: []string{memoryLimit}},
	{does: "takes more than `limits.resident`", way: "ends.take_resident_memory", want: died("SIGABRT", "take_resident_memory"), says: "out of memory", more: []string{residentLimit}},
	{does: "writes more to a memfd than `limits.resident`", way: "exhausts.fill_a_memfd", want: died("SIGABRT", "fill_a_memfd"), says: "out of memory", more: []string{residentLimit}},
	{does: "takes more than `limits.resident_soft`", way: "tampering.keep_memory", want: succeeded().and(replaced), more: []string{"limits: {resident_soft: 100MiB}"}, later: true},
	{does: "uses more than `limits.cpu_time`", way: "hangs.loop_for_ever", want: died("SIGABRT", "loop_for_ever"), says: "too much CPU time", more: []string{"limits: {cpu_time: 1s}"}},
	{does: "starts more threads than `limits.threads`", way: "exhausts.start_threads_without_end", want: died("SIGABRT", ""), says: "too many threads", more: []string{threadLimit}},
	{does: "keeps more than 3/4 of `limits.open_files`", way: "tampering.keep_files_open", want: succeeded().and(replaced), more: []string{"limits: {open_files: 256}"}, later: true},
	{does: "dies while a child of another session holds its pipes", way: "ends.leave_a_child_that_holds_the_pipes", want: died("SIGKILL", ""), file: true, after: assertGone},
	{does: "dies while such a child also holds its socket", way: "ends.leave_a_child_that_holds_everything", want: died("SIGKILL", ""), file: true, after: assertGone},
	{does: "switches faulthandler off and crashes", way: "tampering.switch_faulthandler_off_and_crash", want: died("SIGSEGV", ""), says: "SIGSEGV"},
	{does: "closes the autopsy file and crashes", way: "tampering.close_the_autopsy_file_and_crash", want: died("SIGSEGV", ""), says: "SIGSEGV"},

	// The node does not return.
	{does: "loops forever", way: "hangs.loop_for_ever", want: died("SIGABRT", "loop_for_ever"), says: "blocked in Python", more: []string{withTimeout}},
	{does: "sleeps forever", way: "hangs.sleep_for_ever", want: died("SIGABRT", "sleep_for_ever"), says: "blocked in Python", more: []string{withTimeout}},
	{does: "waits for a lock that it holds", way: "hangs.wait_for_a_lock", want: died("SIGABRT", "wait_for_a_lock"), says: "blocked in Python", more: []string{withTimeout}},
	{does: "hangs in C and holds the GIL", way: "hangs.hold_the_gil", want: died("SIGABRT", "hold_the_gil"), says: "blocked in C code that holds the GIL", more: []string{withTimeout}},
	{does: "stops itself (SIGSTOP)", way: "hangs.stop_itself", want: died("SIGABRT", "stop_itself"), says: "the process was stopped", more: []string{withTimeout}},
	{does: "ignores every signal and hangs", way: "hangs.ignore_every_signal", want: died("SIGKILL", ""), says: "blocked in Python", more: []string{withTimeout}},
	{does: "blocks every signal and hangs", way: "hangs.block_every_signal", want: died("SIGKILL", ""), says: "blocked in Python", more: []string{withTimeout}},
	{does: "catches SIGSEGV in Python and crashes", way: "tampering.catch_the_crash_in_python_and_crash", want: died("SIGABRT", "write_to_null"), says: "hung", more: []string{withTimeout}},
	{does: "sleeps forever in `async def`", way: "sleep_for_ever", async: true, want: outcome{kind: runner.KindPythonVM, function: "sleep_for_ever", retried: true, counted: true}, says: "the call was canceled", more: []string{withTimeout}},
	{does: "blocks the event loop", way: "block_the_loop", async: true, want: died("SIGABRT", "block_the_loop"), says: "hung", more: []string{withTimeout}},
	{does: "is canceled and stops", way: "hangs.give_up_when_canceled", want: exempt(runner.KindOther, "give_up_when_canceled"), during: canceling},
	{does: "is canceled and continues", way: "hangs.go_on_when_canceled", want: exempt(runner.KindOther, "go_on_when_canceled").and(replaced).and(byAbort), says: "after its call was canceled", during: canceling},
	{does: "is canceled while it holds the GIL", way: "hangs.hold_the_gil_when_canceled", want: exempt(runner.KindOther, "hold_the_gil_when_canceled").and(replaced).and(byAbort), says: "after its call was canceled", during: canceling},
	{does: "ignores the signal of a cancellation", way: "hangs.ignore_the_signal_of_a_cancellation", want: exempt(runner.KindOther, "ignore_the_signal_of_a_cancellation").and(replaced).and(byAbort), says: "after its call was canceled", during: canceling},
	{does: "dies from the signal of a cancellation", way: "hangs.die_of_a_cancellation", want: exempt(runner.KindOther, "").and(replaced).and(func(f *outcome) { f.end = "SIGUSR1" }), during: canceling},

	// Results.
	{does: "returns an open file", way: "values.return_an_open_file", want: notMarshaled(), says: "result.items[0]"},
	{does: "returns a set", way: "values.return_a_set", want: notMarshaled(), says: "set"},
	{does: "returns a cycle", way: "values.return_a_cycle", want: notMarshaled(), says: "cycle"},
	{does: "returns a value of 100,000 levels", way: "values.return_what_is_too_deep", want: notMarshaled(), says: "deep"},
	{does: "returns an integer of 71 bits", way: "values.return_too_large_an_int", want: notMarshaled(), says: "64 bits"},
	{does: "returns a lone surrogate", way: "values.return_half_a_character", want: notMarshaled()},
	{does: "returns a value that raises when it is read", way: "values.return_what_raises_when_read", want: notMarshaled()},

	{does: "returns more than `limits.result`", way: "values.return_too_much", want: notMarshaled(), says: "limit", more: []string{"limits: {result: 1MiB}"}},

	// Output.
	{does: "floods standard output", way: "values.flood_stdout", want: succeeded()},
	{does: "floods standard error, with NULs, in lines of a MiB", way: "values.flood_stderr", want: succeeded()},
	{does: "prints a handshake line", way: "values.write_what_looks_like_a_handshake", want: succeeded()},
	{does: "writes broken log records", way: "values.write_what_looks_like_a_log_record", want: succeeded()},

	// The connection.
	{does: "closes the socket", way: "wire.close_the_socket", want: broke("SIGABRT", "rest")},
	{does: "closes all descriptors", way: "wire.close_all_descriptors", want: died("exit 0", "")},
	{does: "writes garbage into the socket", way: "wire.write_garbage", want: broke("SIGABRT", "rest")},
	{does: "writes garbage into the socket and returns", way: "wire.write_garbage_and_return", want: broke("exit 0", "")},
	{does: "closes the socket and returns", way: "wire.close_the_socket_and_return", want: broke("exit 0", "")},
	{does: "cuts a frame short", way: "wire.cut_a_frame_short", want: broke("SIGABRT", "rest")},
	{does: "cuts a frame short and dies", way: "wire.cut_a_frame_short_and_die", want: died("exit 7", "cut_a_frame_short_and_die")},
	{does: "claims a body of 4 GiB", way: "wire.claim_a_body_of_4_gib", want: broke("SIGABRT", "rest")},
	{does: "claims 4 billion buffers", way: "wire.claim_4_billion_buffers", want: broke("SIGABRT", "rest")},
	{does: "answers a call that was never made", way: "wire.answer_a_call_that_nobody_made", want: broke("SIGABRT", "rest")},
	{does: "speaks another protocol version", way: "wire.answer_with_another_version", want: broke("SIGABRT", "rest")},
	{does: "sends a frame of an unknown type", way: "wire.answer_with_an_unknown_frame", want: broke("SIGABRT", "rest")},
	{does: "refers to shared memory that it never sent", way: "wire.name_a_segment_that_is_not", want: broke("SIGABRT", "rest")},
	{does: "says hello again", way: "wire.say_hello_again", want: broke("SIGABRT", "rest")},
	{does: "forks, and returns twice", way: "wire.fork_and_return_twice", want: succeeded(), file: true},
	{does: "overwrites the begun count and dies", way: "wire.count_too_much", want: died("exit 7", "count_too_much")},
	{does: "denies that it has begun the call and dies", way: "wire.deny_the_call", want: died("exit 7", "deny_the_call")},

	// The interpreter, from inside.
	{does: "closes `sys.stdout` and `sys.stderr`", way: "tampering.close_stdout", want: succeeded()},
	{does: "closes descriptors 1 and 2", way: "tampering.close_the_pipes", want: succeeded()},
	{does: "changes the current folder", way: "tampering.change_folder", want: succeeded()},
	{does: "clears `os.environ`", way: "tampering.clear_the_environment", want: succeeded()},
	{does: "replaces all hooks with broken ones", way: "tampering.replace_hooks", want: succeeded()},
	{does: "breaks `print`", way: "tampering.break_print", want: succeeded()},
	{does: "clears `sys.modules` and `sys.path`", way: "tampering.forget_all_modules", want: succeeded()},
	{does: "sets the recursion limit to 20 levels", way: "tampering.forbid_recursion", want: succeeded()},
	{does: "leaves a busy thread", way: "tampering.leave_a_busy_thread", want: succeeded()},
}

// byAbort is how the supervisor ends a worker: by SIGABRT, which dumps the stacks.
func byAbort(f *outcome) { f.end = "SIGABRT" }

func callMatrix() part {
	seen := make([]observation, len(calls))
	var p part
	for i, c := range calls {
		p.add(c.does, func(t *testing.T) { seen[i] = c.observe(t) })
	}
	p.table = func() string { return table(p.names(), seen) }
	return p
}

func (c call) observe(t *testing.T) observation {
	python, nodeType := "nodes.py", "misbehave"
	if c.async {
		python, nodeType = "later.py", "later"
	}
	events := &recorder{}
	r := crashing(t, crashFolder, python, nodeType, append([]string{noSpare, once}, c.more...), runner.WithEvents(events.record))
	first, err := r.Run(t.Context(), map[string]any{})
	require.NoError(t, err)

	how := map[string]any{"way": c.way}
	file := filepath.Join(t.TempDir(), "file")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan struct{})
	if c.during != nil || c.file {
		how["files"] = []any{file}
	}
	if c.during != nil {
		go c.during(file, cancel, done)
	}
	var s observation
	for range maxTries {
		resetBreaker(r)
		got, err := r.Run(ctx, how)
		if s = observe(t, r, err); s.succeeds {
			assert.Equal(t, "fine", got)
		}
		killed := func(limit string) bool { return limit == withTimeout || limit == residentLimit || limit == threadLimit }
		if !slices.ContainsFunc(c.more, killed) || s.matches(c.want, c.says) {
			break // a worker that the supervisor kills may have had no time to dump its stacks
		}
	}
	close(done)
	if c.after != nil {
		c.after(t, file)
	}
	resetBreaker(r)
	for end := time.Now().Add(time.Minute); ; {
		next, err := r.Run(t.Context(), map[string]any{})
		require.NoError(t, err, "the node works again")
		s.replaced = first != next
		if s.replaced || !c.later || time.Now().After(end) {
			break
		}
	}
	s.check(t, c.want, c.says)
	closeCleanly(t, r, events)
	return s
}

// killing kills each process that writes its id to the file.
func killing(file string, _ context.CancelFunc, done <-chan struct{}) {
	for fileAppears(file, done) {
		content, _ := os.ReadFile(file)
		if pid, err := strconv.Atoi(string(content)); err == nil && os.Remove(file) == nil {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}

func canceling(file string, cancel context.CancelFunc, done <-chan struct{}) {
	if fileAppears(file, done) {
		cancel()
	}
}

// fileAppears waits for a file; it returns false if done is closed first.
func fileAppears(file string, done <-chan struct{}) bool {
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()
	for {
		select {
		case <-done:
			return false
		case <-look.C:
			if testkit.Exists(file)() {
				return true
			}
		}
	}
}

// assertGone checks that the processes that have left their workers' process groups have
// ended, or kills them on a system without reapers.
func assertGone(t *testing.T, file string) {
	for pid := range strings.FieldsSeq(testkit.AwaitFile(t, file)) {
		n, err := strconv.Atoi(pid)
		require.NoError(t, err)
		err = syscall.Kill(n, syscall.SIGKILL)
		if runtime.GOOS == "linux" {
			assert.ErrorIs(t, err, syscall.ESRCH)
		} else {
			assert.NoError(t, err)
		}
	}
}
