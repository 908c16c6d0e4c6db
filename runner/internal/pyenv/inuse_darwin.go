package pyenv

import (
	"os/exec"
	"strings"
)

// pythonsInUse returns the programs that processes were started with, as far as
// they may be seen. Workers are started with their environment's own interpreter.
func pythonsInUse() map[string]bool {
	used := make(map[string]bool)
	out, _ := exec.Command("ps", "-axww", "-o", "command=").Output() // without it, none are known
	for line := range strings.Lines(string(out)) {
		if at := strings.Index(line, "/bin/python"); at >= 0 {
			used[line[:at]+"/bin/python"] = true
		}
	}
	return used
}
