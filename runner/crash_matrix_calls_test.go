package runner_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/runner"
)

// call is a row of the matrix: what a node does in the middle of a call.
type call struct {
	does string // in words
	way  string // the module and function of testdata/crashes that does it
	want fate
	says string // what the caller reads, or a part of it

	async bool     // the node is
	later bool     // the worker is replaced some time after the call
	more  []string // lines of the manifest
	// during runs beside the call, until done is closed; the node writes into the file.
	during func(file string, cancel context.CancelFunc, done <-chan struct{})
	file   bool                     // the node wants a file although there is no during
	after  func(*testing.T, string) // is given the file
}

const (
	hangsAfter = "timeout: 2s"
	tooMuch    = "limits: {resident: 200MiB}"
	small      = "limits: {memory: 256MiB}"
)

func gone(f *fate) { f.replaced = true }

var calls = []call{
	// Exceptions.
	{does: "raises an exception", way: "raising.raise_value_error", want: raised("raise_value_error"), says: "ValueError: the answer is not 42"},
	{does: "raises `Permanent`", way: "raising.raise_permanent", want: declined(runner.KindExecution, "raise_permanent"), says: "never again"},
	{does: "raises `Transient`", way: "raising.raise_transient", want: raised("raise_transient"), says: "come back"},
	{does: "raises an exception that has no text", way: "raising.raise_without_a_text", want: raised("raise_without_a_text"), says: "its text cannot be had"},
	{does: "raises `StopIteration`", way: "raising.raise_stop_iteration", want: raised("raise_stop_iteration"), says: "StopIteration"},
	{does: "raises `KeyboardInterrupt`", way: "raising.raise_keyboard_interrupt", want: raised("raise_keyboard_interrupt"), says: "KeyboardInterrupt"},
	{does: "raises another `BaseException`", way: "raising.raise_base_exception", want: raised("raise_base_exception"), says: "neither an Exception nor an exit"},
	{does: "recurses for ever in Python", way: "raising.recurse", want: raised("recurse"), says: "RecursionError"},
	{does: "runs out of descriptors", way: "raising.run_out_of_descriptors", want: raised("run_out_of_descriptors"), says: "Too many open files"},
	{does: "raises in a thread of its own", way: "raising.raise_in_a_thread", want: well()},
	{does: "calls `sys.exit` in a thread of its own", way: "raising.exit_in_a_thread", want: well()},

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
	{does: "is beside itself (`Py_FatalError`)", way: "ends.fatal_error_of_python", want: died("SIGABRT", "fatal_error_of_python"), says: "SIGABRT"},
	{does: "frees memory twice", way: "ends.free_twice", want: died("SIGABRT", "free_twice"), says: "SIGABRT"},
	{does: "gets SIGSEGV", way: "ends.signal_segv", want: died("SIGSEGV", "signal_segv"), says: "SIGSEGV"},
	{does: "gets SIGFPE", way: "ends.signal_fpe", want: died("SIGFPE", "signal_fpe"), says: "SIGFPE"},
	{does: "gets SIGILL", way: "ends.signal_ill", want: died("SIGILL", "signal_ill"), says: "SIGILL"},
	{does: "gets SIGTERM", way: "ends.signal_term", want: died("SIGTERM", ""), says: "SIGTERM"},
	{does: "gets SIGHUP", way: "ends.signal_hup", want: died("SIGHUP", ""), says: "SIGHUP"},
	{does: "gets SIGINT", way: "ends.signal_int", want: raised("signal_int"), says: "KeyboardInterrupt"},
	{does: "gets a real-time signal", way: "ends.signal_real_time", want: died("SIGRTMIN", ""), says: "SIGRTMIN"},
	{does: "gets SIGKILL by its own hand", way: "ends.signal_kill", want: died("SIGKILL", ""), says: "SIGKILL"},
	{does: "gets SIGKILL by a child", way: "ends.killed_by_a_child", want: died("SIGKILL", ""), says: "SIGKILL"},
	{does: "gets SIGKILL from outside", way: "ends.wait_to_be_killed", want: died("SIGKILL", ""), says: "SIGKILL", during: killing},
	{does: "uses up its RLIMIT_CPU", way: "ends.use_up_the_cpu_time", want: died("SIGXCPU", ""), says: "SIGXCPU"},
	{does: "eats all of `limits.memory`", way: "ends.eat_memory", want: died("exit 70", "eat_memory"), says: "ran out of memory", more: []string{small}},
	{does: "takes more than `limits.resident`", way: "ends.take_resident_memory", want: died("SIGABRT", "take_resident_memory"), says: "out of memory", more: []string{tooMuch}},
	{does: "takes more than `limits.resident_soft`", way: "tampering.keep_memory", want: well().and(gone), more: []string{"limits: {resident_soft: 100MiB}"}, later: true},
	{does: "uses more than `limits.cpu_time`", way: "hangs.loop_for_ever", want: died("SIGABRT", "loop_for_ever"), says: "too much CPU time", more: []string{"limits: {cpu_time: 1s}"}},
	{does: "keeps more than 3/4 of `limits.open_files`", way: "tampering.keep_files_open", want: well().and(gone), more: []string{"limits: {open_files: 256}"}, later: true},
	{does: "dies while a child of another session holds its pipes", way: "ends.leave_a_child_that_holds_the_pipes", want: died("SIGKILL", ""), file: true, after: killChildren},
	{does: "dies while such a child holds its socket, too", way: "ends.leave_a_child_that_holds_everything", want: died("SIGKILL", ""), file: true, after: killChildren},
	{does: "switches faulthandler off and crashes", way: "tampering.switch_faulthandler_off_and_crash", want: died("SIGSEGV", ""), says: "SIGSEGV"},
	{does: "closes the autopsy file and crashes", way: "tampering.close_the_autopsy_file_and_crash", want: died("SIGSEGV", ""), says: "SIGSEGV"},

	// It gives no answer.
	{does: "loops for ever", way: "hangs.loop_for_ever", want: died("SIGABRT", "loop_for_ever"), says: "blocked in Python", more: []string{hangsAfter}},
	{does: "sleeps for ever", way: "hangs.sleep_for_ever", want: died("SIGABRT", "sleep_for_ever"), says: "blocked in Python", more: []string{hangsAfter}},
	{does: "waits for a lock that it holds", way: "hangs.wait_for_a_lock", want: died("SIGABRT", "wait_for_a_lock"), says: "blocked in Python", more: []string{hangsAfter}},
	{does: "hangs in C and holds the GIL", way: "hangs.hold_the_gil", want: died("SIGABRT", "hold_the_gil"), says: "blocked in C code that holds the GIL", more: []string{hangsAfter}},
	{does: "stops itself (SIGSTOP)", way: "hangs.stop_itself", want: died("SIGABRT", "stop_itself"), says: "the process was stopped", more: []string{hangsAfter}},
	{does: "ignores every signal and hangs", way: "hangs.ignore_every_signal", want: died("SIGKILL", ""), says: "blocked in Python", more: []string{hangsAfter}},
	{does: "blocks every signal and hangs", way: "hangs.block_every_signal", want: died("SIGKILL", ""), says: "blocked in Python", more: []string{hangsAfter}},
	{does: "catches SIGSEGV in Python and crashes", way: "tampering.catch_the_crash_in_python_and_crash", want: died("SIGABRT", "write_to_null"), says: "hung", more: []string{hangsAfter}},
	{does: "sleeps for ever in `async def`", way: "sleep_for_ever", async: true, want: fate{kind: runner.KindPythonVM, function: "sleep_for_ever", retried: true, counted: true}, says: "the call was canceled", more: []string{hangsAfter}},
	{does: "blocks the event loop", way: "block_the_loop", async: true, want: died("SIGABRT", "block_the_loop"), says: "hung", more: []string{hangsAfter}},
	{does: "is cancelled, and gives up", way: "hangs.give_up_when_cancelled", want: declined(runner.KindOther, "give_up_when_cancelled"), during: cancelling},
	{does: "is cancelled, and goes on", way: "hangs.go_on_when_cancelled", want: declined(runner.KindOther, "go_on_when_cancelled").and(gone).and(ended6), says: "after its call was canceled", during: cancelling},
	{does: "is cancelled while it holds the GIL", way: "hangs.hold_the_gil_when_cancelled", want: declined(runner.KindOther, "hold_the_gil_when_cancelled").and(gone).and(ended6), says: "after its call was canceled", during: cancelling},
	{does: "ignores the signal of a cancellation", way: "hangs.ignore_the_signal_of_a_cancellation", want: declined(runner.KindOther, "ignore_the_signal_of_a_cancellation").and(gone).and(ended6), says: "after its call was canceled", during: cancelling},
	{does: "dies of the signal of a cancellation", way: "hangs.die_of_a_cancellation", want: declined(runner.KindOther, "").and(gone).and(func(f *fate) { f.end = "SIGUSR1" }), during: cancelling},

	// Results.
	{does: "returns an open file", way: "values.return_an_open_file", want: uncarried(), says: "result.items[0]"},
	{does: "returns a set", way: "values.return_a_set", want: uncarried(), says: "set"},
	{does: "returns a cycle", way: "values.return_a_cycle", want: uncarried(), says: "cycle"},
	{does: "returns 100,000 levels", way: "values.return_what_is_too_deep", want: uncarried(), says: "deep"},
	{does: "returns an integer of 71 bits", way: "values.return_too_large_an_int", want: uncarried(), says: "64 bits"},
	{does: "returns half a character", way: "values.return_half_a_character", want: uncarried()},
	{does: "returns a value that raises when it is read", way: "values.return_what_raises_when_read", want: uncarried()},

	{does: "returns more than `limits.result`", way: "values.return_too_much", want: uncarried(), says: "limit", more: []string{"limits: {result: 1MiB}"}},

	// Output.
	{does: "floods standard output", way: "values.flood_stdout", want: well()},
	{does: "floods standard error, with NULs, in lines of a MiB", way: "values.flood_stderr", want: well()},
	{does: "prints the line of a handshake", way: "values.write_what_looks_like_a_handshake", want: well()},
	{does: "writes broken log records", way: "values.write_what_looks_like_a_log_record", want: well()},

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
	{does: "answers a call that nobody made", way: "wire.answer_a_call_that_nobody_made", want: broke("SIGABRT", "rest")},
	{does: "speaks another version", way: "wire.answer_with_another_version", want: broke("SIGABRT", "rest")},
	{does: "sends a frame of no known type", way: "wire.answer_with_an_unknown_frame", want: broke("SIGABRT", "rest")},
	{does: "names shared memory that it never gave", way: "wire.name_a_segment_that_is_not", want: broke("SIGABRT", "rest")},
	{does: "says hello again", way: "wire.say_hello_again", want: broke("SIGABRT", "rest")},
	{does: "forks, and returns twice", way: "wire.fork_and_return_twice", want: well(), file: true},
	{does: "overwrites the count of its calls and dies", way: "wire.count_too_much", want: died("exit 7", "count_too_much")},

	// The interpreter, from inside.
	{does: "closes `sys.stdout` and `sys.stderr`", way: "tampering.close_stdout", want: well()},
	{does: "closes descriptors 1 and 2", way: "tampering.close_the_pipes", want: well()},
	{does: "changes the folder", way: "tampering.change_folder", want: well()},
	{does: "clears `os.environ`", way: "tampering.clear_the_environment", want: well()},
	{does: "replaces all hooks by broken ones", way: "tampering.replace_hooks", want: well()},
	{does: "breaks `print`", way: "tampering.break_print", want: well()},
	{does: "clears `sys.modules` and `sys.path`", way: "tampering.forget_all_modules", want: well()},
	{does: "leaves 20 levels of recursion", way: "tampering.forbid_recursion", want: well()},
	{does: "leaves a thread that never rests", way: "tampering.leave_a_busy_thread", want: well()},
}

// ended6 is the end that the supervisor makes: SIGABRT, for the stacks.
func ended6(f *fate) { f.end = "SIGABRT" }

func callMatrix() part {
	seen := make([]sight, len(calls))
	var p part
	for i, c := range calls {
		p.add(c.does, func(t *testing.T) { seen[i] = c.see(t) })
	}
	p.table = func() string { return table(p.names(), seen) }
	return p
}

func (c call) see(t *testing.T) sight {
	python, nodeType := "nodes.py", "misbehave"
	if c.async {
		python, nodeType = "later.py", "later"
	}
	events := &recorder{}
	r := crashing(t, crashes, python, nodeType, append([]string{noSpare, once}, c.more...), runner.WithEvents(events.record))
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
	var s sight
	for range tries {
		fresh(r)
		got, err := r.Run(ctx, how)
		if s = see(t, r, err); s.fine {
			assert.Equal(t, "fine", got)
		}
		if !slices.Contains(c.more, hangsAfter) && !slices.Contains(c.more, tooMuch) || s.matches(c.want, c.says) {
			break // a process that the supervisor ends may have had no time to say how it is
		}
	}
	close(done)
	if c.after != nil {
		c.after(t, file)
	}
	fresh(r)
	for end := time.Now().Add(time.Minute); ; {
		next, err := r.Run(t.Context(), map[string]any{})
		require.NoError(t, err, "the node is well again")
		s.replaced = first != next
		if s.replaced || !c.later || time.Now().After(end) {
			break
		}
	}
	s.check(t, c.want, c.says)
	leavesNothing(t, r, events)
	return s
}

// killing kills each process that names itself in the file.
func killing(file string, _ context.CancelFunc, done <-chan struct{}) {
	for whenThere(file, done) {
		content, _ := os.ReadFile(file)
		if pid, err := strconv.Atoi(string(content)); err == nil && os.Remove(file) == nil {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}

func cancelling(file string, cancel context.CancelFunc, done <-chan struct{}) {
	if whenThere(file, done) {
		cancel()
	}
}

// whenThere waits for a file, or until done is closed, which is false.
func whenThere(file string, done <-chan struct{}) bool {
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()
	for {
		select {
		case <-done:
			return false
		case <-look.C:
			if exists(file)() {
				return true
			}
		}
	}
}

// killChildren ends the processes that have left their workers' groups.
func killChildren(t *testing.T, file string) {
	for pid := range strings.FieldsSeq(appears(t, file)) {
		n, err := strconv.Atoi(pid)
		require.NoError(t, err)
		assert.NoError(t, syscall.Kill(n, syscall.SIGKILL), "it had left")
	}
}
