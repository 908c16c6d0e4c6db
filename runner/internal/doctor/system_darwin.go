package doctor

import (
	"os/exec"
	"runtime"
	"syscall"
)

func checkPlatform() Finding {
	return Finding{Name: "platform"}.ok("darwin/%s: unlinked files replace memfd, and a thread watches the lifeline", runtime.GOARCH)
}

func platformChecks() []Finding { return nil }

func spawnAttributes(cmd *exec.Cmd) *int {
	none := -1
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return &none
}

func (f Finding) withoutPidfd() Finding { return f.ok("process groups") }
