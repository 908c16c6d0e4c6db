package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// patience is how long a process may take to end after it was asked to.
const patience = 5 * time.Second

// process is a process whose descendants end with it. It leads a session of its
// own: Ctrl-C does not reach it, and what it starts can be found again, even what
// has made itself a process group, as Ray's workers and dora's nodes do.
type process struct {
	command *exec.Cmd
	stderr  bytes.Buffer
	ended   chan struct{}
	err     error // once it has ended
}

// startProcess starts a command. Where ctx ends, the process is asked to end, and
// then made to.
func startProcess(ctx context.Context, prepare func(*exec.Cmd) error, name string, args ...string) (*process, error) {
	p := &process{command: exec.CommandContext(ctx, name, args...), ended: make(chan struct{})}
	p.command.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	p.command.Cancel = func() error { return syscall.Kill(-p.pid(), syscall.SIGTERM) }
	p.command.WaitDelay = patience
	p.command.Stderr = &p.stderr
	if err := prepare(p.command); err != nil {
		return nil, err
	}
	if err := p.command.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(p.ended)
		p.err = p.command.Wait()
		p.kill() // its descendants, where it left any
	}()
	return p, nil
}

func (p *process) pid() int { return p.command.Process.Pid }

// wait waits until the process has ended, and ends it where that takes too long.
func (p *process) wait(limit time.Duration) error {
	timer := time.AfterFunc(limit, p.kill)
	defer timer.Stop()
	<-p.ended
	return p.err
}

// kill ends the process and its descendants.
func (p *process) kill() {
	_ = syscall.Kill(-p.pid(), syscall.SIGKILL)
	killed := map[int]bool{}
	for again := true; again; {
		again = false
		for _, pid := range inSession(p.pid()) {
			if !killed[pid] {
				killed[pid], again = true, true // it may have started another one just now
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
	}
}

// inSession returns the processes of a session that still live. Without /proc it
// knows of none; then the process group is all that is ended.
func inSession(session int) []int {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	var living []int
	for _, path := range stats {
		stat, _ := os.ReadFile(path) // it may have ended meanwhile
		text := string(stat)
		fields := strings.Fields(text[strings.LastIndex(text, ")")+1:]) // state, parent, group, session, …
		if len(fields) > 3 && fields[0] != "Z" && fields[0] != "X" && fields[3] == strconv.Itoa(session) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			living = append(living, pid)
		}
	}
	return living
}
