package worker

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gophersnake/gophersnake/runner/internal/lifeline"
)

// noForkServer says why workers are not forked; here they can be.
const noForkServer = ""

// reapedProcess is a worker or a template. Its parent is a reaper: a small process that
// ends all that is left of the worker when the worker or the supervisor ends. See the
// Python module reaper for what the two say to each other.
//
// The reaper does not reap the worker before the supervisor has opened its pidfd, which
// from then on never refers to another process. If the reaper ends first, which it does
// only if something kills it, the supervisor ends the worker and its descendants itself.
type reapedProcess struct {
	id     int
	pidfd  *os.File
	reaper *reaper
	reaped chan struct{} // closed by reap
}

// reaper is the parent of a reapedProcess.
type reaper struct {
	id      int
	pidfd   *os.File
	channel *lifeline.Channel
	ended   chan struct{} // closed when it has ended
	keeps   atomic.Int32  // how many further reapers it keeps when its own process has ended
	// contained means that a container has it, so that its id is not known before it reports
	// itself. Until then, id and pidfd are those of podman; after that, podman is its pidfd.
	contained bool
	podman    *os.File
}

// forkVariable makes the package fork the worker, and become its reaper, before it imports
// anything. The worker removes it.
const forkVariable = "GOPHERSNAKE_FORK=b3d1c2f0"

const (
	// reportTimeout is how long a reaper may take to report that its worker has ended, and
	// then to end.
	reportTimeout = 5 * time.Second
	// cleanTime is how long the end of a worker waits until the reaper has killed what the
	// worker left. The reaper goes on after that, for reportTimeout at most.
	cleanTime = time.Second
)

// newReaper returns a reaper that is not started, and the end of its channel that it
// inherits. The caller closes both.
func newReaper() (*reaper, *os.File, error) {
	channel, end, err := lifeline.NewChannel()
	if err != nil {
		return nil, nil, err
	}
	return &reaper{channel: channel, ended: make(chan struct{})}, end, nil
}

// adopt waits until the reaper has forked the worker and inherits its orphans, and opens
// the worker. It returns early with an error if the channel is closed. The reaper's pidfd
// must be open.
func (r *reaper) adopt() (*reapedProcess, error) {
	worker, ready := 0, false
	for worker == 0 || !ready {
		message, sender, err := r.channel.Receive()
		switch {
		case err != nil:
			return nil, err
		case (sender == r.id || r.contained) && string(message) == "reaper":
			ready, r.id = true, sender
		case sender != r.id && string(message) == "worker" && worker == 0:
			worker = sender
		default:
			return nil, fmt.Errorf("the reaper violated its protocol: process %d says %q", sender, message)
		}
	}
	pidfd, err := openChild(worker, r.id)
	if err != nil {
		return nil, err
	}
	if r.contained {
		err = r.openContained()
	}
	if err == nil {
		err = r.sendAdopted()
	}
	if err != nil {
		_ = pidfd.Close()
		return nil, err
	}
	return &reapedProcess{id: worker, pidfd: pidfd, reaper: r, reaped: make(chan struct{})}, nil
}

// openChild opens the pidfd of a process. It fails if the process is not a child of the
// given parent, which must not reap it meanwhile.
func openChild(pid, parent int) (*os.File, error) {
	pidfd, err := openProcess(pid)
	if err != nil {
		return nil, err
	}
	// The parent reaps its children only on request. So a child that it has now is the
	// process that was opened.
	if stat, _ := readStat(procFolder(pid)); stat.parent != parent {
		_ = pidfd.Close()
		return nil, fmt.Errorf("process %d is a child of process %d, not of %d", pid, stat.parent, parent)
	}
	return pidfd, nil
}

// sendAdopted sends the message with the list of the reaper's children, which a reaper
// cannot open itself if its worker is isolated.
func (r *reaper) sendAdopted() error {
	var rights []byte
	if list, err := os.Open(fmt.Sprintf("/proc/%d/task/%d/children", r.id, r.id)); err == nil {
		defer list.Close()
		rights = unix.UnixRights(int(list.Fd()))
	}
	_, _, err := r.channel.WriteMsgUnix([]byte("adopted"), rights, nil)
	return err
}

// expectEnd makes awaitEnd kill the reaper, and all that it has forked, if it lives on for
// reportTimeout: something may have stopped it.
func (r *reaper) expectEnd() { _ = r.pidfd.SetReadDeadline(time.Now().Add(reportTimeout)) }

// awaitEnd returns when the reaper has ended. It must not be reaped before.
func (r *reaper) awaitEnd() {
	for !awaitReadable(r.pidfd) {
		r.kill()
		_ = r.pidfd.SetReadDeadline(time.Time{})
	}
}

// kill kills the reaper and all that it has forked. The reaper must not be reaped yet.
func (r *reaper) kill() {
	killDescendants(r.id)
	signalPidfd(r.pidfd, syscall.SIGKILL)
}

func (r *reaper) send(format string, values ...any) error {
	_, err := fmt.Fprintf(r.channel, format, values...)
	return err
}

// watch waits for the end of the reaper, and then calls collect, which reaps it. If the
// worker lives, it is ended, because nothing would end its children any more; and collect
// is told so.
func (p *reapedProcess) watch(collect func(early bool)) {
	p.reaper.awaitEnd()
	early := !p.hasExited()
	if early {
		p.killTree()
	}
	close(p.reaper.ended)
	collect(early)
	withPidfd(p.reaper.pidfd, func(fd int) { // if the supervisor has inherited the reaper
		_ = unix.Waitid(unix.P_PIDFD, fd, nil, unix.WEXITED|unix.WNOHANG, nil)
	})
	<-p.reaped
	_ = p.reaper.pidfd.Close()
	_ = p.reaper.channel.Close()
	_ = p.pidfd.Close()
}

func (p *reapedProcess) pid() int { return p.id }

func (p *reapedProcess) signal(sig syscall.Signal) { signalPidfd(p.pidfd, sig) }

func signalPidfd(pidfd *os.File, sig syscall.Signal) {
	withPidfd(pidfd, func(fd int) { _ = unix.PidfdSendSignal(fd, sig, nil, 0) })
}

// withPidfd calls a function with a pidfd, unless that is closed.
func withPidfd(pidfd *os.File, do func(fd int)) {
	if raw, err := pidfd.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { do(int(fd)) })
	}
}

// awaitExit waits in the runtime's poller.
func (p *reapedProcess) awaitExit() { awaitReadable(p.pidfd) }

// awaitReadable returns true when a process has exited, or its pidfd is closed, and false
// when the deadline of the pidfd passes.
func awaitReadable(pidfd *os.File) bool {
	raw, err := pidfd.SyscallConn()
	if err == nil {
		err = raw.Read(func(fd uintptr) bool { return isReadable(int(fd)) })
	}
	return !errors.Is(err, os.ErrDeadlineExceeded)
}

func (p *reapedProcess) hasExited() (exited bool) {
	withPidfd(p.pidfd, func(fd int) { exited = isReadable(fd) })
	return exited
}

// isReadable reports whether a pidfd is readable, which means that its process has
// exited.
func isReadable(fd int) bool {
	n, _ := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
	return n > 0
}

// killGroup does nothing: the reaper kills what the worker leaves.
func (p *reapedProcess) killGroup() {}

// reap returns the status that the reaper reports, and waits until the reaper has killed
// what the worker left. A reaper that was stopped is continued; one that does not report, or
// does not end after that, is killed.
func (p *reapedProcess) reap() *exitStatus {
	defer close(p.reaped)
	signalPidfd(p.reaper.pidfd, syscall.SIGCONT)
	status, err := p.report()
	if errors.Is(err, os.ErrDeadlineExceeded) {
		p.reaper.kill()
	}
	if err != nil {
		status = p.reapOrphan()
	}
	if p.reaper.keeps.Load() > 0 {
		return status
	}
	p.reaper.expectEnd()
	timer := time.NewTimer(cleanTime)
	defer timer.Stop()
	select {
	case <-p.reaper.ended:
	case <-timer.C: // it goes on, until watch kills it
	}
	return status
}

// report receives the report of the reaper. Messages of other processes are ignored.
func (p *reapedProcess) report() (*exitStatus, error) {
	_ = p.reaper.channel.SetReadDeadline(time.Now().Add(reportTimeout)) // if it fails, so does the read
	for {
		message, sender, err := p.reaper.channel.Receive()
		if err != nil {
			return nil, err
		}
		if sender != p.reaper.id {
			continue
		}
		var status uint32
		var user, system float64
		var maxRSS int64
		if _, err = fmt.Fscanf(bytes.NewReader(message), "ended %d %f %f %d", &status, &user, &system, &maxRSS); err != nil {
			continue
		}
		s := &exitStatus{wait: syscall.WaitStatus(status)}
		s.usage.Utime = syscall.NsecToTimeval(int64(user * 1e9))
		s.usage.Stime = syscall.NsecToTimeval(int64(system * 1e9))
		s.usage.Maxrss = maxRSS
		return s, nil
	}
}

// reapOrphan reaps a worker whose reaper has ended first, if the supervisor has inherited
// it: orphans become children of a container's first process. Otherwise it returns nil.
func (p *reapedProcess) reapOrphan() (status *exitStatus) {
	withPidfd(p.pidfd, func(fd int) {
		var info unix.Siginfo
		err := unix.Waitid(unix.P_PIDFD, fd, &info, unix.WEXITED|unix.WNOWAIT|unix.WNOHANG, nil)
		if err != nil || info.Signo == 0 {
			return
		}
		status = &exitStatus{}
		if _, err = syscall.Wait4(p.id, &status.wait, syscall.WNOHANG, &status.usage); err != nil {
			status = nil
		}
	})
	return status
}

// killTree kills the worker and its descendants. The worker is stopped first and killed
// last, so that it starts no others meanwhile and its process id stays its own.
func (p *reapedProcess) killTree() {
	p.signal(syscall.SIGSTOP)
	killDescendants(p.id)
	if !p.hasExited() {
		_ = syscall.Kill(-p.id, syscall.SIGKILL)
	}
	p.signal(syscall.SIGKILL)
}

// maxKillRounds bounds how often killDescendants looks for processes.
const maxKillRounds = 100

// killDescendants kills the children of a process, their children and so on. It looks for
// them until it finds none that lives. The process itself must not be reaped meanwhile.
func killDescendants(root int) {
	for range maxKillRounds {
		living := descendants(root)
		if len(living) == 0 {
			return
		}
		for _, pid := range living {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}

// descendants returns the living descendants of a process, the nearest first.
func descendants(root int) []int {
	children := make(map[int][]int)
	names, _ := readNames("/proc") // an error leaves those that were read
	for _, name := range names {
		var pid int
		if n, _ := fmt.Sscan(name, &pid); n != 1 {
			continue
		}
		if stat, err := readStat(procFolder(pid)); err == nil {
			children[stat.parent] = append(children[stat.parent], pid)
		}
	}
	found := slices.Clone(children[root])
	for i := 0; i < len(found); i++ {
		found = append(found, children[found[i]]...)
	}
	return slices.DeleteFunc(found, func(pid int) bool {
		stat, err := readStat(procFolder(pid))
		return err != nil || stat.state == 'Z'
	})
}

func readNames(folder string) ([]string, error) {
	f, err := os.Open(folder)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Readdirnames(-1)
}

// forkLocked makes the template fork a reaper and a process, which inherits the process's
// files. It releases the process's lock while it waits for the reaper; if the process is
// ended then, it fails.
func (s *templateServer) forkLocked(p *process) error {
	r, end, err := newReaper()
	if err != nil {
		return err
	}
	p.ownSockets[1] = inodeOf(end)
	files := append([]*os.File{end, p.cmd.Stdout.(*os.File), p.cmd.Stderr.(*os.File)}, p.cmd.ExtraFiles...)
	reply, err := s.request(templateRequest{Fork: p.pluginEnv}, s.answerTimeout, files...)
	_ = end.Close()
	switch {
	case err != nil:
	case reply.Error != "":
		err = errors.New(reply.Error)
	default:
		if err = s.adoptLocked(p, r, reply.Forked); err == nil {
			return nil
		}
		if !p.endRequested.Load() {
			s.mu.Lock()
			s.failLocked(protocolError(err))
			s.mu.Unlock()
		}
	}
	_ = r.channel.Close() // on which the reaper ends what it has forked
	if p.endRequested.Load() {
		return err
	}
	p.stderr.logger.Warn("the template could not fork a worker, which is started without it", "error", err)
	return err
}

// adoptLocked adopts the worker of a reaper that the template reports to have forked. It
// fails if that is not the template's child.
func (s *templateServer) adoptLocked(p *process, r *reaper, pid int) (err error) {
	if r.pidfd, err = openChild(pid, s.process.pid()); err != nil {
		return err
	}
	r.id = pid
	s.keepReaper(r)
	worker, err := p.adoptLocked(r)
	if err != nil {
		_ = r.channel.Close()
		r.expectEnd()
		go func() {
			r.awaitEnd()
			s.collect(r, true)
			_ = r.pidfd.Close()
		}()
		return err
	}
	p.handle = worker
	go worker.watch(func(early bool) { s.collect(r, early) })
	return nil
}

// keepReaper makes the template's own reaper keep the reaper of a worker, so that the worker
// may outlive the template.
func (s *templateServer) keepReaper(r *reaper) {
	if own, ok := s.process.handle.(*reapedProcess); ok {
		own.reaper.keeps.Add(1)
		_ = own.reaper.send("keep %d", r.id) // if it has ended, so has the template
	}
}

// collect makes the template reap the reaper of a worker, which has ended. If the template
// has ended, its own reaper does so. That reaper has inherited what is left of a worker
// whose reaper ended early.
func (s *templateServer) collect(r *reaper, early bool) {
	if s.isAlive() {
		_, _ = s.request(templateRequest{Reap: r.id}, s.answerTimeout) // if it fails, the template ends
	}
	own, ok := s.process.handle.(*reapedProcess)
	if !ok {
		return
	}
	own.reaper.keeps.Add(-1)
	_ = own.reaper.send("drop %d", r.id) // if it has ended, so has the template
	if early {
		_ = own.reaper.send("orphans")
	}
}

// isAlive reports whether the process certainly has not exited.
func (s *templateServer) isAlive() bool {
	s.process.mu.Lock()
	defer s.process.mu.Unlock()
	return !s.process.hasExitedLocked()
}
