package pyenv

import (
	"context"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

// command is a program that runs to its end.
type command struct {
	args  []string
	dir   string
	env   []string // nil for the host's
	stdin string
	line  func(string) // takes each line of output; may be nil
}

// drainTime is how long the output of a program that ended is waited for, where
// something that it left behind holds it open.
const drainTime = 2 * time.Second

// run runs the program and returns what it wrote to standard output, and the end
// of all that it wrote. When the context ends, so does the program, with all that
// it started; the error is then the context's cause.
func (c command) run(ctx context.Context) (stdout, tail string, err error) {
	cmd := exec.CommandContext(ctx, c.args[0], c.args[1:]...)
	said := &lines{each: c.line}
	answer := &head{}
	cmd.Dir, cmd.Env = c.dir, c.env
	cmd.Stdin = strings.NewReader(c.stdin)
	cmd.Stdout, cmd.Stderr = both{answer, said}, said
	cmd.SysProcAttr = processAttributes()
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = drainTime
	// The parent-death signal is sent when the thread ends that started the
	// program, so the thread has to stay.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err = cmd.Run()
	said.end()
	if ctx.Err() != nil && err != nil {
		err = context.Cause(ctx)
	}
	return answer.String(), said.tail(), err
}

// without is the host's environment without the named variables.
func without(names ...string) []string {
	return slices.DeleteFunc(os.Environ(), func(entry string) bool {
		name, _, _ := strings.Cut(entry, "=")
		return slices.Contains(names, name)
	})
}
