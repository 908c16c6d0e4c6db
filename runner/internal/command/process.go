package command

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/gophersnake/gophersnake/runner/internal/lifeline"
	"github.com/gophersnake/gophersnake/runner/internal/output"
	"github.com/gophersnake/gophersnake/runner/internal/printable"
)

// process is one run of the program.
//
//	state     entered when                       a call
//	starting  startProcess begins                is not possible
//	ready     startProcess returns               begins at once
//	serving   exchange begins                    is not possible
//	ending    end or closeInput is called, or    fails
//	          the program exits by itself
//	ended     done is closed: nothing is left    fails
type process struct {
	config  *Config
	id      int      // process id of the program
	stdin   *os.File // write end
	stdout  *os.File // read end
	answers *bufio.Reader
	stderr  stderr

	calling sync.Mutex // held during a call; the files are closed by its holder
	calls   uint64     // how many it has been given

	startedAt time.Time
	idleSince time.Time // guarded by the lock of the pool

	kill func()        // kills all processes
	done chan struct{} // closed when all processes have ended
	exit exit          // set before done is closed

	mu     sync.Mutex // guards the fields below
	reason error      // why this process was ended; nil if it ended by itself
	ending bool       // end or closeInput was called
}

// exit is how a program ended.
type exit struct {
	status syscall.WaitStatus
	// failed is why nothing is known of that, nil if it is.
	failed error
}

// drainTime is how long the output of a program that has ended is read, if a process that has
// left its group holds the pipe open.
const drainTime = 200 * time.Millisecond

// startProcess starts the program, and returns when it runs.
func startProcess(ctx context.Context, n *Node) (*process, error) {
	p := &process{config: &n.config, startedAt: time.Now(), done: make(chan struct{})}
	inherited, err := p.openFiles()
	closeInherited := sync.OnceFunc(func() {
		for _, f := range inherited {
			_ = f.Close()
		}
	})
	if err != nil {
		closeInherited()
		p.closeFiles()
		return nil, cannotRun(n.path, err)
	}
	var running context.Context
	running, p.kill = context.WithCancel(context.Background())
	cmd := exec.CommandContext(running, n.path)
	cmd.Args = n.config.Args
	cmd.Dir, cmd.Env = n.config.Dir, n.config.Env
	cmd.Stdout, cmd.Stderr = inherited[1], inherited[2]
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }

	started := make(chan error, 1)
	go func() {
		err := lifeline.RunReaped(cmd, lifeline.Reaped{Python: n.config.Python, Stdin: inherited[0], Started: func(pid int) {
			closeInherited()
			p.id = pid
			started <- n.config.Limits.apply(pid)
		}})
		closeInherited()
		p.finish(err)
	}()
	go p.stderr.read(n.config.Logger.With("command", n.config.Args[0]))
	select {
	case err = <-started:
	case <-p.done:
		err = p.exit.failed
		if line := lastLine(p.stderr.tail.String()); line != "" || err == nil {
			err = fmt.Errorf("it ended before it ran (%w): %s", err, line)
		}
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	if err != nil {
		p.kill()
		<-p.done
		p.closeFiles()
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, cannotRun(n.path, err)
	}
	return p, nil
}

// openFiles opens the pipes. It returns the ends that the program inherits, also if it fails.
func (p *process) openFiles() (inherited []*os.File, err error) {
	pipe := func() (r, w *os.File) {
		if err == nil {
			r, w, err = os.Pipe()
		}
		return r, w
	}
	stdin, stdinW := pipe()
	stdoutR, stdout := pipe()
	stderrR, stderrW := pipe()
	p.stdin, p.stdout = stdinW, stdoutR
	p.answers = bufio.NewReaderSize(stdoutR, 32<<10)
	p.stderr.lines = output.Lines{File: stderrR, OnRead: p.stderr.tail.Add}
	p.stderr.drained = make(chan struct{})
	return []*os.File{stdin, stdout, stderrW}, err
}

func (p *process) closeFiles() {
	for _, f := range []*os.File{p.stdin, p.stdout, p.stderr.lines.File} {
		_ = f.Close()
	}
}

// finish records the end of the process. A call that reads meanwhile gets the end of the
// output, within drainTime.
func (p *process) finish(err error) {
	p.kill() // it frees the context
	deadline := time.Now().Add(drainTime)
	_ = p.stdout.SetReadDeadline(deadline)
	_ = p.stderr.lines.File.SetReadDeadline(deadline)
	_ = p.stdin.SetWriteDeadline(deadline)
	select {
	case <-p.stderr.drained:
	case <-time.After(2 * drainTime): // the logger blocks
	}
	if status, ok := errors.AsType[*lifeline.ExitError](err); ok {
		p.exit.status = status.Status
	} else {
		p.exit.failed = err
	}
	close(p.done)
}

// end kills all processes for a reason. The first reason counts. end does not wait.
func (p *process) end(reason error) {
	p.mu.Lock()
	if !p.ending {
		p.reason = reason
	}
	p.ending = true
	p.mu.Unlock()
	p.kill()
}

// closeInput tells the program that there are no further calls.
func (p *process) closeInput() {
	p.mu.Lock()
	p.ending = true
	p.mu.Unlock()
	_ = p.stdin.Close()
}

// endReason returns why the process was ended, nil if it was not.
func (p *process) endReason() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.reason
}

// wasAsked reports whether the program was only asked to end.
func (p *process) wasAsked() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ending && p.reason == nil
}

// isEnding reports whether end or closeInput was called, or the program has ended.
func (p *process) isEnding() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.done:
		return true
	default:
		return p.ending
	}
}

// stderr reads the standard error of a program.
type stderr struct {
	lines   output.Lines
	tail    output.Tail
	drained chan struct{} // closed at the end
}

// read writes the lines to the log until the end.
func (s *stderr) read(logger hclog.Logger) {
	defer close(s.drained)
	log := printable.NewLogger(logger)
	for {
		line, err := s.lines.Next()
		if err != nil {
			return
		}
		log.Info(string(line))
	}
}
