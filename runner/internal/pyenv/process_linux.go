package pyenv

import (
	"bytes"
	"os"
	"path/filepath"
)

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
