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
	"github.com/gophersnake/gophersnake/runner/internal/container"
	"github.com/gophersnake/gophersnake/runner/internal/isolation"
	"github.com/gophersnake/gophersnake/runner/internal/printable"
)

// process is the operating system's process of a worker, or of a template. It
// implements go-plugin's runner, so that gophersnake itself controls the process: its
// group, the descriptors that it inherits, its end with the supervisor, and how its
// end is explained.
type process struct {
	cmd       *exec.Cmd
	pluginEnv []string // the variables that go-plugin adds to the environment
	socketDir string   // the folder that go-plugin made for the worker's socket
	secret    []byte
	template  *Template // forks the process, if it can; nil to spawn it
	handle    osProcess // set when it is started
	logger    hclog.Logger

	lifeline     *os.File             // write end; the kernel closes it when the supervisor dies
	autopsyFile  *os.File             // the interpreter writes its exit report here
	sharesMemory bool                 // whether memory is shared with the worker
	isolation    *isolation.Profile   // nil leaves the process all rights of its user
	sandbox      *isolation.Sandbox   // made for an isolated process
	container    *container.Container // nil for a process outside of one
	channel      *net.UnixConn        // carries descriptors of shared memory; nil if none is shared
	ownSockets   [2]uint64            // inodes of the process's ends of the channel, and of its reaper's
	stdout       *stdout
	stderr       *stderr

	mu           sync.Mutex   // guards the fields below, up to done
	startedAt    time.Time    // zero until the process is started
	interrupt    func() error // ends a start that waits for the reaper; nil if none does
	endRequested atomic.Bool
	gone         atomic.Bool // the process has exited; set before it is reaped
	reason       Reason
	breach       *Breach // the limit for which the process was ended, nil if none
	hang         Hang
	oomKills     int64 // the kernel's count when the process was started

	hangTimeouts hangTimeouts
	killed       chan struct{} // closed by kill, which cuts an examination short
	kill         func()

	done chan struct{} // closed when the process is reaped and its pipes are drained
	// Set before done is closed.
	status      *exitStatus // nil if unknown
	uptime      time.Duration
	outOfMemory bool
	begun       uint64 // how many calls the worker has begun, if it counted them
	counted     bool
	member      uint64 // the number of the member of a fused chain that ran last, by the worker's word
	dump        string
}

var _ runner.Runner = (*process)(nil)

// osProcess is a process that has been started: the child of a reaper or, on a system
// without reapers, of the supervisor itself.
type osProcess interface {
	pid() int
	// signal sends a signal. That the process has ended is no error.
	signal(sig syscall.Signal)
	// awaitExit returns when the process has exited, and leaves it to be reaped.
	awaitExit()
	// hasExited reports whether the process has exited. It must not be reaped yet.
	hasExited() bool
	// killGroup kills the processes that are left in the process's group.
	killGroup()
	// reap reaps a process that has exited. It returns nil if its status is unknown.
	reap() *exitStatus
}

// hangTimeouts bound the examination of a process that hangs.
type hangTimeouts struct {
	// heartbeat is how long the heartbeat thread may wait to be scheduled, if no other thread
	// waits for a processor.
	heartbeat time.Duration
	// busy bounds the examination of a process that waits for a processor.
	busy time.Duration
}

// exitStatus is how a process ended, and the resources that it had used.
type exitStatus struct {
	wait  syscall.WaitStatus
	usage syscall.Rusage
}

// wasKilled reports whether SIGKILL ended the process.
func (s *exitStatus) wasKilled() bool {
	return s != nil && s.wait.Signaled() && s.wait.Signal() == syscall.SIGKILL
}

// childProcess is a process whose parent is the supervisor itself.
type childProcess struct {
	cmd   *exec.Cmd
	pidfd *os.File // nil if the system has none
}

func (c *childProcess) pid() int { return c.cmd.Process.Pid }

func (c *childProcess) signal(sig syscall.Signal) { _ = c.cmd.Process.Signal(sig) }

// killGroup cannot hit another group: the leader is not reaped yet, so the group's id
// is not free.
func (c *childProcess) killGroup() { _ = syscall.Kill(-c.pid(), syscall.SIGKILL) }

func (c *childProcess) reap() *exitStatus {
	_ = c.cmd.Wait() // its error is the exit status
	state := c.cmd.ProcessState
	return &exitStatus{wait: state.Sys().(syscall.WaitStatus), usage: *state.SysUsage().(*syscall.Rusage)}
}

func newProcess(cmd *exec.Cmd, logger hclog.Logger) *process {
	p := &process{
		cmd:          cmd,
		secret:       ipc.NewSecret(),
		stdout:       newStdout(),
		stderr:       newStderr(),
		hangTimeouts: hangTimeouts{heartbeat: time.Second, busy: 10 * time.Second},
		killed:       make(chan struct{}),
		done:         make(chan struct{}),
	}
	p.kill = sync.OnceFunc(func() { close(p.killed) })
	p.logTo(logger)
	return p
}

// logTo sets the logger of the process and of its output. It is called before the output is
// read.
func (p *process) logTo(logger hclog.Logger) {
	p.logger = logger
	p.stdout.logger = printable.NewLogger(logger).Named("stdout")
	p.stderr.logger = printable.NewLogger(logger).Named(stderrName)
}

// Start starts the process. A template forks it, if one is ready and succeeds; otherwise
// it is spawned.
func (p *process) Start(context.Context) error {
	if server := p.template.readyServer(); server != nil {
		if p.start(server) == nil {
			p.template.recordFork()
			return nil
		}
		p.moveSocket()
	}
	return p.start(nil)
}

// start opens the files of the process, and forks it from the template, or spawns
// it if there is none. It closes this side's copies of the files that the process
// inherits; if it fails, it closes all.
func (p *process) start(template *templateServer) (err error) {
	inherited, err := p.openFiles()
	defer func() {
		for _, f := range inherited {
			_ = f.Close()
		}
		if err != nil {
			p.closeFiles()
			p.closeChannel()
		}
	}()
	if err != nil {
		return err
	}

	p.mu.Lock()
	defer p.mu.Unlock()
	if p.endRequested.Load() {
		return errEndedBefore
	}
	p.oomKills = oomKills()
	if template != nil {
		err = template.forkLocked(p)
	} else {
		err = p.spawnLocked()
	}
	if err != nil {
		// The system reports a missing folder and a missing program by the same error.
		if _, missing := os.Stat(p.cmd.Dir); p.cmd.Dir != "" && missing != nil {
			return &os.PathError{Op: "chdir", Path: p.cmd.Dir, Err: errors.Unwrap(missing)}
		}
		return err
	}
	p.startedAt = time.Now()
	p.logTo(p.logger.With("worker", p.pid()))
	go p.awaitExit()
	return nil
}

var errEndedBefore = errors.New("ended before it was started")

// openFiles opens the process's pipes, its autopsy file and, if memory is shared, its
// channel, and makes the command inherit them. It returns the files that the process
// inherits, also if it fails.
func (p *process) openFiles() (inherited []*os.File, err error) {
	pipe := func() (r, w *os.File) {
		if err == nil {
			r, w, err = os.Pipe()
		}
		return r, w
	}
	lifeline, lifelineW := pipe()
	stdoutR, stdoutW := pipe()
	stderrR, stderrW := pipe()
	p.lifeline, p.stdout.lines.File, p.stderr.lines.File = lifelineW, stdoutR, stderrR
	inherited = []*os.File{lifeline, stdoutW, stderrW}
	if err != nil {
		return inherited, err
	}
	if p.autopsyFile, err = newAutopsyFile(); err != nil {
		return inherited, err
	}
	if _, err = p.lifeline.Write(p.secret); err != nil {
		return inherited, err
	}
	p.cmd.Stdin = nil // the null device: a node never blocks in input()
	p.cmd.Stdout, p.cmd.Stderr = stdoutW, stderrW
	p.cmd.ExtraFiles = []*os.File{lifeline, p.autopsyFile} // descriptors 3 and 4
	if !p.sharesMemory {
		return inherited, nil
	}
	channel, end, err := ipc.NewChannel()
	if errors.Is(err, errors.ErrUnsupported) {
		return inherited, nil
	}
	if err != nil {
		return inherited, err
	}
	p.channel, p.ownSockets[0] = channel, inodeOf(end)
	p.cmd.ExtraFiles = append(p.cmd.ExtraFiles, end) // descriptor 5
	return append(inherited, end), nil
}

// drainTime is how long the pipes of a process that has exited are read if a process
// that left its group still holds them.
const drainTime = 200 * time.Millisecond

// awaitExit waits until the process has exited, kills the rest of its group, and
// collects the evidence for the autopsy before it closes the files.
func (p *process) awaitExit() {
	p.handle.awaitExit()
	p.mu.Lock()
	p.gone.Store(true)
	p.uptime = time.Since(p.startedAt)
	p.mu.Unlock()
	p.handle.killGroup()
	p.status = p.handle.reap()
	p.outOfMemory = p.status.wasKilled() && (p.sandbox.OutOfMemory() || oomKills() > p.oomKills && p.oomKills != oomUnknown)
	p.sandbox.Remove()
	deadline := time.Now().Add(drainTime)
	_ = p.stdout.lines.File.SetReadDeadline(deadline)
	_ = p.stderr.lines.File.SetReadDeadline(deadline)
	// A logger that blocks may hold up the goroutines that read the pipes.
	p.stdout.drained.wait(2 * drainTime)
	p.stderr.drained.wait(2 * drainTime)
	p.readAutopsy()
	p.closeFiles()
	close(p.done)
}

func (p *process) closeFiles() {
	for _, f := range []*os.File{p.lifeline, p.autopsyFile, p.stdout.lines.File, p.stderr.lines.File} {
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

const (
	// abortGrace is how long an interpreter has to write its stacks and die of SIGABRT
	// before it is killed.
	abortGrace = 500 * time.Millisecond
	// memoryGrace is the same for an interpreter that uses too much memory or too many
	// threads, and may take more until then.
	memoryGrace = 100 * time.Millisecond
	// exitGrace is how long a process may take from closing its socket to its exit,
	// and how long the socket of a process that has exited is still read.
	exitGrace = time.Second
)

// end ends the process for the given reason, unless it has exited by itself. Only
// the first call counts. end does not wait.
//
// SIGABRT makes faulthandler write the stacks of all threads, even if one of them
// holds the GIL, and then ends the process, so that the dump is complete when the
// process is gone. A process that hangs is first examined, which may take seconds. A
// later call with ReasonKilled cuts the examination short.
func (p *process) end(reason Reason) { p.endForBreach(reason, nil) }

// endForBreach is end for a limit that was passed.
func (p *process) endForBreach(reason Reason, breach *Breach) {
	if reason == ReasonKilled {
		p.kill()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.endRequested.Swap(true) {
		return
	}
	if p.startedAt.IsZero() {
		p.reason = reason
		if p.interrupt != nil {
			_ = p.interrupt()
		}
		return // start will not start it
	}
	if p.hasExitedLocked() {
		return
	}
	p.reason, p.breach = reason, breach
	switch {
	case !reason.wantsDump():
		p.signal(syscall.SIGKILL)
	case reason.isHang():
		go p.examineAndAbort()
	case reason == ReasonMemory, reason == ReasonThreads:
		p.abort(memoryGrace)
	default:
		p.abort(abortGrace)
	}
}

// examineAndAbort finds out how a process hangs, and ends it.
func (p *process) examineAndAbort() {
	hang := p.findHang()
	p.mu.Lock()
	p.hang = hang
	p.mu.Unlock()
	p.abort(abortGrace)
}

// abort makes the interpreter write its stacks and die, and kills it after the grace
// period. SIGCONT lets a stopped process receive the signal. The rest of the group is
// killed by awaitExit.
func (p *process) abort(grace time.Duration) {
	p.signal(syscall.SIGABRT)
	p.signal(syscall.SIGCONT)
	time.AfterFunc(grace, func() { p.signal(syscall.SIGKILL) })
}

// isRunning reports whether the process was started and has not exited yet.
func (p *process) isRunning() bool { return p.wasStarted() && !p.gone.Load() }

// expectShutdown records that the process is about to be asked to exit.
func (p *process) expectShutdown() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.endRequested.Load() && !p.hasExitedLocked() {
		p.reason = ReasonShutdown
	}
}

// hasExitedLocked reports whether the process has exited. The lock keeps it from
// being reaped meanwhile.
func (p *process) hasExitedLocked() bool { return p.gone.Load() || p.handle.hasExited() }

// signal sends a signal to the process. That it has ended is no error.
func (p *process) signal(sig syscall.Signal) { p.handle.signal(sig) }

// closeWhenGone closes a connection when the process is gone, unless the start has
// settled before: a process that left the group may hold the other end open.
func (p *process) closeWhenGone(nc io.Closer, settled <-chan struct{}) {
	select {
	case <-settled:
		return
	case <-p.done:
	}
	timer := time.NewTimer(exitGrace) // messages that were sent before are still to be read
	defer timer.Stop()
	select {
	case <-settled:
	case <-timer.C:
		_ = nc.Close()
	}
}

// pid returns the process id. The process must have been started.
func (p *process) pid() int { return p.handle.pid() }

func (p *process) wasStarted() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.startedAt.IsZero()
}

// waitOrEnd waits until a process that is likely to be exiting is gone. It ends the
// process for the given reason if that takes longer than exitGrace.
func (p *process) waitOrEnd(reason Reason) {
	timer := time.NewTimer(exitGrace)
	defer timer.Stop()
	select {
	case <-p.done:
	case <-timer.C:
		p.end(reason)
		<-p.done
	}
}

// The methods below are for go-plugin.

// Wait returns when the process is gone. It returns no error, so that go-plugin has
// nothing to report: [Exit] says how the process ended.
func (p *process) Wait(context.Context) error {
	<-p.done
	return nil
}

// Kill is called if the handshake failed. Most often the process is exiting by itself
// then, and its own exit says more than a kill.
func (p *process) Kill(context.Context) error {
	if p.wasStarted() {
		p.waitOrEnd(ReasonBroken)
	}
	return nil
}

// ID is empty once the process is gone: go-plugin's Kill then returns without
// dialing.
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

// Name returns the name of the logger under which go-plugin logs standard error.
func (p *process) Name() string { return stderrName }

// Stdout returns the handshake line; see [stdout].
func (p *process) Stdout() io.ReadCloser { return p.stdout }

// Stderr returns standard error; see [stderr].
func (p *process) Stderr() io.ReadCloser { return p.stderr }

// Diagnose returns nothing, because [Exit] explains how the process ended.
func (p *process) Diagnose(context.Context) string { return "" }

// PluginToHost returns the address as it is: the worker shares the host's file system.
func (p *process) PluginToHost(network, addr string) (string, string, error) {
	return network, addr, nil
}

// HostToPlugin returns the address as it is.
func (p *process) HostToPlugin(network, addr string) (string, string, error) {
	return network, addr, nil
}
