package runner

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gophersnake/gophersnake/runner/manifest"
)

// dropStaleBytecode removes what Python has kept in __pycache__ of a pipeline's code
// that has changed since. Python compares the size and the second of the last change,
// so it takes an edit for the one before where both fall into the same second.
//
// A file that has changed since workers last began to read it is not trusted at all:
// they may have read it just before, and written just after.
func dropStaleBytecode(p *manifest.Pipeline, lastRead time.Time) error {
	folders, _ := p.CodeFolders()
	var faults []error
	for _, folder := range folders {
		kept, err := filepath.Glob(filepath.Join(escapeGlob(folder), "__pycache__", "*.pyc"))
		if err != nil {
			return err
		}
		for _, bytecode := range kept {
			module, _, _ := strings.Cut(filepath.Base(bytecode), ".")
			source, err := os.Stat(filepath.Join(folder, module+".py"))
			if err != nil {
				continue // it is not there any more, and so its bytecode is not used
			}
			written, err := os.Stat(bytecode)
			if err == nil && (source.ModTime().Before(lastRead) && source.ModTime().Before(written.ModTime())) {
				continue
			}
			if err := os.Remove(bytecode); err != nil && !errors.Is(err, fs.ErrNotExist) {
				faults = append(faults, err)
			}
		}
	}
	return errors.Join(faults...)
}

// escapeGlob has a pattern stand for a path itself.
func escapeGlob(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}
