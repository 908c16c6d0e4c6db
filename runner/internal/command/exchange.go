package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner/internal/engine"
	"github.com/gophersnake/gophersnake/runner/internal/worker"
)

// exchange runs one call: it writes the input and returns the value of the answer. If it
// fails, the process has ended, and nothing of it is left. The error is errUndelivered if the
// program read nothing of the input.
func (p *process) exchange(ctx context.Context, input []byte) ([]byte, error) {
	p.calling.Lock()
	defer p.calling.Unlock()
	p.calls++
	interrupt := func() { p.end(&interrupted{context.Cause(ctx)}) }
	stop := context.AfterFunc(ctx, interrupt)
	defer func() {
		if !stop() {
			interrupt() // before the process can get another call
		}
	}()
	guard := p.watch()
	defer guard.release()
	answer, err := p.converse(input)
	if err == nil && p.config.Protocol == Once {
		err = p.awaitExit()
	}
	if errors.Is(err, errTooLarge) {
		err = p.tooLarge(answer)
	}
	var out []byte
	if err == nil {
		out, err = p.config.decode(answer)
	}
	if err == nil {
		return out, nil
	}
	// An answer that cannot be read may be that to another call. So none is read after it.
	p.settle(err)
	return nil, p.explain(err)
}

// converse writes the input, and returns the answer, or what was read of it.
func (p *process) converse(input []byte) ([]byte, error) {
	if p.config.Protocol == Once {
		go func() { // an error means that the program does not read all, which it need not
			_, _ = p.stdin.Write(input)
			_ = p.stdin.Close()
		}()
		return readAll(p.answers, p.mostBytes())
	}
	if err := p.refuseUnasked("before it was asked"); err != nil {
		return nil, err
	}
	written := make(chan error, 1)
	if len(input) > inPlace { // the program may write before it has read all
		go func() {
			err := p.deliver(input)
			if err != nil {
				p.settle(errInputClosed)
			}
			written <- err
		}()
	} else if err := p.deliver(input); err != nil {
		return nil, err
	} else {
		written <- nil
	}
	answer, err := p.readAnswer()
	if err != nil {
		if p.isEnding() && len(answer) == 0 && errors.Is(<-written, errUndelivered) {
			err = errUndelivered
		}
		return answer, err
	}
	if err := p.refuseUnasked("after its answer"); err != nil {
		return nil, err
	}
	timer := time.NewTimer(exitGrace)
	defer timer.Stop()
	select {
	case err = <-written:
	case <-timer.C:
		err = &engine.Error{
			Fault: engine.Transport, Reason: "the program answered before it had read its input",
			Hint: "it must read the whole input before it writes the result",
		}
	}
	return answer, err
}

// inPlace is the size up to which an input is written by its caller: an empty pipe takes it.
const inPlace = 4 << 10

// errInputClosed means that a program runs, but reads no inputs.
var errInputClosed = &engine.Error{
	Fault: engine.Transport, Reason: "the program closed its standard input, and did not exit",
}

// deliver writes an input. Its error is errUndelivered or errInputClosed.
func (p *process) deliver(input []byte) error {
	n, err := p.stdin.Write(input)
	switch {
	case err == nil:
		return nil
	case n == 0:
		return errUndelivered
	}
	return errInputClosed
}

func (p *process) readAnswer() ([]byte, error) {
	if p.config.Protocol == Msgpack {
		return readValue(p.answers, p.mostBytes())
	}
	return readLine(p.answers, p.mostBytes())
}

// mostBytes returns how many bytes an answer may have.
func (p *process) mostBytes() int64 {
	if limit := p.config.Limits.Result; limit > 0 {
		return limit
	}
	return int64(ipc.DefaultLimits().Body)
}

// refuseUnasked returns an error if the program has written more than its answers.
func (p *process) refuseUnasked(when string) error {
	if p.answers.Buffered() == 0 {
		if !isReadable(p.stdout) {
			return nil
		}
		if _, err := p.answers.Peek(1); err != nil {
			return nil // the end, which the next read reports
		}
	}
	more, _ := p.answers.Peek(p.answers.Buffered())
	return &engine.Error{
		Fault: engine.Transport, Reason: fmt.Sprintf("the program wrote %s %s", excerpt(more), when),
		Hint: "it must write exactly one result for each input; messages belong to standard error",
	}
}

// isReadable reports whether a pipe has data, or has ended.
func isReadable(f *os.File) (readable bool) {
	raw, err := f.SyscallConn()
	if err != nil {
		return false
	}
	_ = raw.Control(func(fd uintptr) {
		n, _ := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		readable = n > 0
	})
	return readable
}

// awaitExit waits until a program that has closed its output has exited, and returns an error
// unless it exited with code 0.
func (p *process) awaitExit() error {
	<-p.done
	if p.endReason() != nil || p.exit.failed != nil || p.exit.status != 0 {
		return io.EOF
	}
	return nil
}

// settle ends the process, and waits until nothing of it is left. One that has closed its
// output or input is likely to be exiting, and its own end says more than a kill.
func (p *process) settle(err error) {
	exiting := true
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		err = &engine.Error{Fault: engine.Transport, Reason: "the program closed its standard output, and did not exit"}
	case errors.Is(err, errUndelivered), errors.Is(err, errInputClosed):
		err = errInputClosed
	default:
		exiting = false
	}
	if exiting {
		timer := time.NewTimer(exitGrace)
		defer timer.Stop()
		select {
		case <-p.done:
			return
		case <-timer.C:
		}
	}
	p.end(err)
	<-p.done
}

// exitGrace is how long a program may take from closing its output or input to its exit.
const exitGrace = time.Second

// usageGuard ends a process that uses more than its limits in a call.
type usageGuard struct {
	process *process
	cpu     time.Duration // that the process had used before the call
	stopped context.Context
	stop    context.CancelFunc
	ended   chan struct{} // closed when run has returned
}

const checkInterval = 100 * time.Millisecond

// watch starts to check the limits until the guard is released.
func (p *process) watch() *usageGuard {
	l := &p.config.Limits
	if l.Resident == 0 && l.Threads == 0 && l.CPUTime == 0 {
		return nil
	}
	g := &usageGuard{process: p, ended: make(chan struct{})}
	g.stopped, g.stop = context.WithCancel(context.Background())
	if l.CPUTime > 0 {
		g.cpu = worker.GroupStats(p.id).CPU
	}
	go g.run()
	return g
}

// release ends the checks. The process is not ended for the call after that.
func (g *usageGuard) release() {
	if g != nil {
		g.stop()
		<-g.ended
	}
}

func (g *usageGuard) run() {
	defer close(g.ended)
	ticker := time.NewTicker(checkInterval)
	defer ticker.Stop()
	for {
		select {
		case <-g.stopped.Done():
			return
		case <-g.process.done:
			return
		case <-ticker.C:
		}
		if breach := g.breach(); breach != nil {
			g.process.end(breach)
			return
		}
	}
}

// breach returns the limit that the process has exceeded, nil if there is none.
func (g *usageGuard) breach() *breach {
	l, used := &g.process.config.Limits, worker.GroupStats(g.process.id)
	switch cpu := used.CPU - g.cpu; {
	case l.Resident > 0 && used.Resident > l.Resident:
		return &breach{worker.LimitResident, fmt.Sprintf("its resident memory was %d bytes, more than the limit of %d", used.Resident, l.Resident)}
	case l.Threads > 0 && used.Threads > l.Threads:
		return &breach{worker.LimitThreads, fmt.Sprintf("it had %d threads, more than the limit of %d", used.Threads, l.Threads)}
	case l.CPUTime > 0 && cpu > l.CPUTime:
		return &breach{worker.LimitCPUTime, fmt.Sprintf("the CPU time of the call was %v, more than the limit of %v", cpu, l.CPUTime)}
	}
	return nil
}

// breach is the reason of a process that has exceeded a limit.
type breach struct {
	limit worker.Limit
	text  string
}

func (b *breach) Error() string { return b.text }

// interrupted is the reason of a process whose call's context has ended. Its cause is an
// overdue if the call has passed its limit.
type interrupted struct{ cause error }

func (i *interrupted) Error() string { return i.cause.Error() }

// overdue is the cause of the end of a context whose limit has passed.
type overdue struct{ cause error }

func (o *overdue) Error() string { return o.cause.Error() }
