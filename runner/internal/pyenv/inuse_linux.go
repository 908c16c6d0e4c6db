package pyenv

import (
	"bytes"
	"os"
	"path/filepath"
)

// pythonsInUse returns the programs that processes were started with, as far as
// they may be seen. Workers are started with their environment's own interpreter.
func pythonsInUse() map[string]bool {
	used := make(map[string]bool)
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline") // fails for a bad pattern only
	for _, file := range files {
		if line, err := os.ReadFile(file); err == nil {
			program, _, _ := bytes.Cut(line, []byte{0})
			used[string(program)] = true
		}
	}
	return used
}
