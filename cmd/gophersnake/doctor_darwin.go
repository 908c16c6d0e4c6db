package main

import (
	"os/exec"
	"runtime"
	"syscall"
)

func checkPlatform() check {
	return check{Name: "platform"}.ok("darwin/%s: unlinked files stand for memfd, a thread watches the lifeline", runtime.GOARCH)
}

func platformChecks() []check { return nil }

func spawnAttributes(cmd *exec.Cmd) *int {
	none := -1
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return &none
}

func (c check) withoutPidfd() check { return c.ok("process groups") }
