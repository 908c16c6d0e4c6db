package reloading

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gophersnake/gophersnake/runner/manifest"
)

// DropStaleBytecode removes bytecode that Python keeps in __pycache__ for files of a
// pipeline's code that have changed since. Python compares the size and the second of
// the last change, so it would miss the later one of two edits within a second.
//
// The bytecode of a file that has changed since workers last began to read the code
// is removed in any case: they may have read the file just before an edit and written
// the bytecode just after it.
func DropStaleBytecode(p *manifest.Pipeline, lastRead time.Time) error {
	folders, _ := p.CodeFolders()
	var faults []error
	for _, folder := range folders {
		files, err := filepath.Glob(filepath.Join(escapeGlob(folder), "__pycache__", "*.pyc"))
		if err != nil {
			return err
		}
		for _, bytecode := range files {
			module, _, _ := strings.Cut(filepath.Base(bytecode), ".")
			source, err := os.Stat(filepath.Join(folder, module+".py"))
			if err != nil {
				continue // Python does not use bytecode without its source
			}
			written, err := os.Stat(bytecode)
			if err == nil && source.ModTime().Before(lastRead) && source.ModTime().Before(written.ModTime()) {
				continue
			}
			if err := os.Remove(bytecode); err != nil && !errors.Is(err, fs.ErrNotExist) {
				faults = append(faults, err)
			}
		}
	}
	return errors.Join(faults...)
}

// escapeGlob returns the pattern that matches only the given path.
func escapeGlob(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}
