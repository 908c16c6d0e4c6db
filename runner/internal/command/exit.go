package command

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"

	"github.com/gophersnake/gophersnake/runner/internal/engine"
	"github.com/gophersnake/gophersnake/runner/internal/lifeline"
	"github.com/gophersnake/gophersnake/runner/internal/worker"
)

// explain returns the error of a call, given what converse or decode returned. The process
// has ended.
func (p *process) explain(err error) error {
	reason := p.endReason()
	e, known := errors.AsType[*engine.Error](err)
	own, _ := errors.AsType[*engine.Error](reason)
	var breach *breach
	var ended *interrupted
	var late *overdue
	switch {
	case errors.Is(err, errUndelivered) && reason == nil && p.notExecuted() == nil:
		return err
	case errors.As(reason, &ended) && !errors.As(ended.cause, &late):
		return &worker.CanceledError{Cause: ended.cause}
	case late != nil:
		e = &engine.Error{
			Fault: engine.Transport, Reason: "the program did not answer in time, and was killed", Cause: late.cause,
			Hint: "if it has answered, its output may be in a buffer: let it flush each result (jq --unbuffered, python3 -u, stdbuf -oL)",
		}
	case errors.As(reason, &breach):
		e = &engine.Error{Fault: engine.Transport, Reason: "the program was killed: " + breach.text, Limit: string(breach.limit)}
	case known:
	case errors.Is(err, errInvalid):
		e = &engine.Error{Fault: engine.Marshaling, Reason: "the program answered with something else than msgpack", Cause: err}
	case own != nil:
		e = own
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, errUndelivered):
		e = p.exitError()
	default:
		e = &engine.Error{Fault: engine.Transport, Reason: "the output of the program cannot be read", Cause: err}
	}
	e = new(*e) // it may be shared
	e.PID, e.Stderr, e.NotBegun = p.id, p.stderr.tail.String(), false
	return e
}

// tooLarge says that an answer exceeds its bound.
func (p *process) tooLarge(answer []byte) *engine.Error {
	e := &engine.Error{
		Fault: engine.Marshaling, Path: "result", Limit: string(worker.LimitResult),
		Reason: fmt.Sprintf("the program answered with more than %d bytes, beginning with %s", p.mostBytes(), excerpt(answer)),
		Hint:   "raise limits.result, or let the program write less",
	}
	if p.config.Limits.Result == 0 {
		e.Hint = "pass large results in files, or let the program write less"
	}
	return e
}

// notExecuted returns why the kernel did not execute the program, nil if it did. The process
// has ended.
func (p *process) notExecuted() *engine.Error {
	number, ok := strings.CutPrefix(reasonLine(p.stderr.tail.String()), lifeline.CannotExecute)
	if !ok || p.exit.failed != nil || p.exit.status.ExitStatus() != lifeline.ExitCannotExecute {
		return nil
	}
	errno, _ := syscallNumber(number)
	return cannotRun(p.config.Args[0], errno)
}

// exitError says how a program ended that was not killed by this process.
func (p *process) exitError() *engine.Error {
	if e := p.notExecuted(); e != nil {
		return e
	}
	line := reasonLine(p.stderr.tail.String())
	status := p.exit.status
	switch {
	case p.exit.failed != nil:
		return &engine.Error{Fault: engine.Transport, Reason: "the program ended, but how is unknown", Cause: p.exit.failed}
	case status.Signaled():
		return signalError(status.Signal())
	}
	code := status.ExitStatus()
	e := &engine.Error{Fault: engine.Execution, Reason: fmt.Sprintf("the program exited with code %d", code), ExitCode: &code}
	if code == 0 {
		e.Fault, e.Reason = engine.Transport, "the program exited with code 0 before it had answered"
		e.Hint = "let it read inputs until its standard input ends, or use the protocol once"
	}
	if line != "" {
		e.Reason += ", saying: " + line
	}
	return e
}

func signalError(signal syscall.Signal) *engine.Error {
	e := &engine.Error{
		Fault: engine.Transport, Signal: worker.SignalName(signal),
		Reason: fmt.Sprintf("the program was killed by %s (%v)", worker.SignalName(signal), signal),
	}
	if signal == syscall.SIGKILL {
		e.Reason += ", which gophersnake did not send"
		e.Hint = "check whether the machine, or the memory cgroup, ran out of memory"
	}
	return e
}

func syscallNumber(text string) (syscall.Errno, error) {
	var number int
	_, err := fmt.Sscan(text, &number)
	return syscall.Errno(number), err
}

// reasonLine returns the line of standard error that most likely says why a program exited:
// that of a fault of Go's runtime, below which its stacks follow, or else the last line.
func reasonLine(text string) string {
	for line := range strings.Lines(text) {
		for _, begins := range []string{"panic: ", "fatal error: "} {
			if strings.HasPrefix(line, begins) {
				return lastLine(strings.TrimSpace(line))
			}
		}
	}
	return lastLine(text)
}

// maxLastLine is how many bytes of standard error go into a message.
const maxLastLine = 500

func lastLine(text string) string {
	line := text[strings.LastIndexByte(text, '\n')+1:]
	if len(line) > maxLastLine {
		line = strings.ToValidUTF8(line[:maxLastLine], "") + "…"
	}
	return line
}
