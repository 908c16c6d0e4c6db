package worker

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin/runner"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner/internal/isolation"
)

// process is the operating system's side of a worker. It implements go-plugin's
// runner, the seam at which the process becomes ours: its group, its death with
// the supervisor's, the descriptors it is born with, and how it ended.
type process struct {
	cmd       *exec.Cmd
	announced []string // what go-plugin adds to the environment
	socketDir string   // where go-plugin wants the worker's socket
	secret    []byte
	template  *Template // may fork it; nil where there is none
	body      body      // set when it is started

	lifeline  *os.File           // write end: closed by the kernel when the supervisor dies
	autopsy   *os.File           // where the interpreter writes its last words
	shares    bool               // whether memory is shared with the worker
	isolation *isolation.Profile // nil where it may do what its user may
	place     *isolation.Place   // what it was given for itself then
	channel   *net.UnixConn      // for descriptors of shared memory; nil where none is shared
	stdout    *stdout
	stderr    *stderr

	mu       sync.Mutex
	started  time.Time
	ended    bool        // end was called; guards reason
	gone     atomic.Bool // the process has ended; set with mu held, and before it is reaped
	ending   atomic.Bool // so is this, once end was called
	reason   Reason
	breach   *Breach // that brought the end about; may be nil
	hang     Hang    // what was found of one that hung
	oomKills int64   // what the kernel had counted when it was started

	done chan struct{} // closed when the process is reaped and its pipes are drained
	// Set before done is closed.
	state       *ended // nil where it is not known
	uptime      time.Duration
	outOfMemory bool
	begun       uint64 // calls that the worker has begun
	counted     bool   // it has counted them
	dump        string
}

var _ runner.Runner = (*process)(nil)

func newProcess(cmd *exec.Cmd, logger hclog.Logger) *process {
	return &process{
		cmd:    cmd,
		secret: ipc.NewSecret(),
		stdout: newStdout(logger),
		stderr: newStderr(logger),
		done:   make(chan struct{}),
	}
}

// Start starts the process, by a fork of the template where there is one that can.
func (p *process) Start(context.Context) error {
	if s := p.template.serving(); s != nil {
		if p.start(s.forkInto(p)) == nil {
			p.template.proved()
			return nil
		}
		p.moveSocket()
	}
	return p.start(p.spawn)
}

// start makes what the process is born with, and has it born. The descriptors that
// it inherits are closed on this side whether it is or not.
func (p *process) start(bear func(lifeline *os.File) error) (err error) {
	var inherited []*os.File
	defer func() {
		for _, f := range inherited {
			_ = f.Close()
		}
		if err != nil {
			p.closeFiles()
			p.closeChannel()
		}
	}()
	pipe := func() (r, w *os.File) {
		if err == nil {
			r, w, err = os.Pipe()
		}
		return r, w
	}
	lifeline, lifelineW := pipe()
	stdoutR, stdoutW := pipe()
	stderrR, stderrW := pipe()
	p.lifeline, p.stdout.lines.file, p.stderr.lines.file = lifelineW, stdoutR, stderrR
	inherited = []*os.File{lifeline, stdoutW, stderrW}
	if err != nil {
		return err
	}
	if p.autopsy, err = newAutopsyFile(); err != nil {
		return err
	}
	if _, err = p.lifeline.Write(p.secret); err != nil {
		return err
	}
	p.cmd.Stdin = nil // the null device: a node never blocks on input()
	p.cmd.Stdout, p.cmd.Stderr = stdoutW, stderrW
	p.cmd.ExtraFiles = []*os.File{lifeline, p.autopsy} // descriptors 3 and 4
	if p.shares {
		var end *os.File
		p.channel, end, err = ipc.NewChannel()
		switch {
		case err == nil:
			inherited = append(inherited, end)
			p.cmd.ExtraFiles = append(p.cmd.ExtraFiles, end) // descriptor 5
		case !errors.Is(err, errors.ErrUnsupported):
			return err
		}
		err = nil
	}

	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended {
		return errors.New("ended before it was started")
	}
	p.oomKills = oomKills()
	if err = bear(lifeline); err != nil {
		// The system does not tell a missing folder from a missing program.
		if _, missing := os.Stat(p.cmd.Dir); p.cmd.Dir != "" && missing != nil {
			return &os.PathError{Op: "chdir", Path: p.cmd.Dir, Err: errors.Unwrap(missing)}
		}
		return err
	}
	p.started = time.Now()
	go p.watch()
	return nil
}

// drainTime is how long the pipes of a dead process are read on where a process
// that left its group still holds them.
const drainTime = 200 * time.Millisecond

// watch waits for the process, ends what is left of its group, and gathers what
// the autopsy needs before anything is closed.
func (p *process) watch() {
	p.body.await()
	p.mu.Lock()
	p.gone.Store(true)
	p.uptime = time.Since(p.started)
	p.mu.Unlock()
	p.body.endGroup()
	p.state = p.body.reap()
	p.outOfMemory = killed(p.state) && (p.place.OutOfMemory() || oomKills() > p.oomKills && p.oomKills != oomUnknown)
	p.place.Remove()
	deadline := time.Now().Add(drainTime)
	_ = p.stdout.lines.file.SetReadDeadline(deadline)
	_ = p.stderr.lines.file.SetReadDeadline(deadline)
	// Whoever reads may be held up by a logger that blocks.
	p.stdout.drained.wait(2 * drainTime)
	p.stderr.drained.wait(2 * drainTime)
	p.begun, p.counted, p.dump = readAutopsy(p.autopsy)
	p.closeFiles()
	close(p.done)
}

func (p *process) closeFiles() {
	for _, f := range []*os.File{p.lifeline, p.autopsy, p.stdout.lines.file, p.stderr.lines.file} {
		if f != nil {
			_ = f.Close()
		}
	}
}

func (p *process) closeChannel() {
	if p.channel != nil {
		_ = p.channel.Close()
	}
}

// abortGrace is how long an interpreter has to write its stacks and die of
// SIGABRT before it is killed.
const (
	abortGrace = 500 * time.Millisecond
	// memoryGrace is that of one which takes memory meanwhile.
	memoryGrace = 100 * time.Millisecond
)

// end ends the process for the given reason, the first one given being the one
// that is reported, unless it has ended by itself. SIGABRT makes faulthandler
// write the stacks of all threads, even of one that holds the GIL, and then
// kills the process, so that a dump is known to be complete when the process is
// gone. One that hangs is looked at before, which takes a moment.
func (p *process) end(reason Reason) { p.endOver(reason, nil) }

// endOver is end, over a limit that was passed.
func (p *process) endOver(reason Reason, breach *Breach) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended {
		return
	}
	p.ended = true
	p.ending.Store(true)
	if p.started.IsZero() {
		p.reason = reason
		return // Start will not start it
	}
	if p.hasEnded() {
		return
	}
	p.reason, p.breach = reason, breach
	switch {
	case !reason.wantsDump():
		p.kill()
	case reason.isHang():
		go func() {
			hang := p.findHang()
			p.mu.Lock()
			p.hang = hang
			p.mu.Unlock()
			p.abort(abortGrace)
		}()
	case reason == ReasonMemory:
		p.abort(memoryGrace)
	default:
		p.abort(abortGrace)
	}
}

// abort has the interpreter write its stacks and die, one that is stopped too: it
// finds the signal when it goes on.
func (p *process) abort(grace time.Duration) {
	p.signal(syscall.SIGABRT)
	p.signal(syscall.SIGCONT)
	time.AfterFunc(grace, p.kill)
}

// isThere reports whether the process was started and has not ended yet.
func (p *process) isThere() bool { return p.wasStarted() && !p.gone.Load() }

// expectEnd takes down that the process is about to be asked to end.
func (p *process) expectEnd() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.ended && !p.hasEnded() {
		p.reason = ReasonShutdown
	}
}

// hasEnded reports whether the process has ended, the caller holding p.mu, which
// keeps it from being reaped meanwhile.
func (p *process) hasEnded() bool { return p.gone.Load() || p.body.hasEnded() }

// kill leaves the rest of the group to watch, which ends it once the leader is
// known to be dead.
func (p *process) kill() { p.signal(syscall.SIGKILL) }

// signal sends a signal to the process; one that is gone is not an error.
func (p *process) signal(sig syscall.Signal) { p.body.signal(sig) }

// closeOnceDead closes a connection that has not been settled when the process
// is gone: a process that left its group may still hold the other end.
func (p *process) closeOnceDead(nc io.Closer, settled <-chan struct{}) {
	select {
	case <-settled:
		return
	case <-p.done:
	}
	timer := time.NewTimer(dyingTime) // the last words are still to be read
	defer timer.Stop()
	select {
	case <-settled:
	case <-timer.C:
		_ = nc.Close()
	}
}

// pid returns the process id, of a process that was started.
func (p *process) pid() int { return p.body.pid() }

func (p *process) wasStarted() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.started.IsZero()
}

// The rest is go-plugin's view of the process.

// Wait waits for the end. How the process ended is told by [Exit], not here,
// so that go-plugin has nothing to report in its own words.
func (p *process) Wait(context.Context) error {
	<-p.done
	return nil
}

// Kill is called when the handshake failed. Most often the process is dying by
// itself then, and its own end tells more than ours would.
func (p *process) Kill(context.Context) error {
	if p.wasStarted() {
		p.endUnlessDying(ReasonBroken)
	}
	return nil
}

// dyingTime is how long a process may take from closing its socket to its end,
// or the socket to give out what a process that has ended said.
const dyingTime = time.Second

// endUnlessDying waits for the process to end by itself, ends it where it does
// not, and returns when it is gone.
func (p *process) endUnlessDying(reason Reason) {
	timer := time.NewTimer(dyingTime)
	defer timer.Stop()
	select {
	case <-p.done:
	case <-timer.C:
		p.end(reason)
		<-p.done
	}
}

// ID is empty once the process is gone, which makes go-plugin's Kill return
// without dialling.
func (p *process) ID() string {
	if !p.wasStarted() {
		return ""
	}
	select {
	case <-p.done:
		return ""
	default:
		return strconv.Itoa(p.pid())
	}
}

func (p *process) Name() string                    { return "stderr" }
func (p *process) Stdout() io.ReadCloser           { return p.stdout }
func (p *process) Stderr() io.ReadCloser           { return p.stderr }
func (p *process) Diagnose(context.Context) string { return "" }

func (p *process) PluginToHost(network, addr string) (string, string, error) {
	return network, addr, nil
}

func (p *process) HostToPlugin(network, addr string) (string, string, error) {
	return network, addr, nil
}
