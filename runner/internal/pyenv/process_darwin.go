package pyenv

import (
	"os/exec"
	"strings"
)

// pythonsInUse returns the programs of the processes that are visible to the user. A
// worker's program is the interpreter of its environment.
func pythonsInUse() map[string]bool {
	used := make(map[string]bool)
	out, _ := exec.Command("ps", "-axww", "-o", "command=").Output() // if it fails, no process is visible
	for line := range strings.Lines(string(out)) {
		if at := strings.Index(line, "/bin/python"); at >= 0 {
			used[line[:at]+"/bin/python"] = true
		}
	}
	return used
}
