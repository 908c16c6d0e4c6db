package pyenv

import (
	"bytes"
	"os"
	"path/filepath"
	"syscall"
)

// processAttributes gives a program a session of its own, so that it can be killed with
// all that it starts, and cannot wait for a password at the terminal. The kernel kills
// it when the supervisor ends.
func processAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
}

// pythonsInUse returns the programs of the processes that are visible to the user. A
// worker's program is the interpreter of its environment.
func pythonsInUse() map[string]bool {
	used := make(map[string]bool)
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline") // it fails only for a malformed pattern
	for _, file := range files {
		if line, err := os.ReadFile(file); err == nil {
			program, _, _ := bytes.Cut(line, []byte{0})
			used[string(program)] = true
		}
	}
	return used
}
