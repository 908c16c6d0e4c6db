// Package examples holds the example pipelines that the gophersnake command carries.
package examples

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/gophersnake/gophersnake/runner"
)

// The patterns leave out the caches that Python writes into the folders.
//
//go:embed */*.yaml */*.py */*.md */*.wav */*.txt
var bundled embed.FS

// Names returns the names of the examples in alphabetical order.
func Names() []string {
	entries, _ := bundled.ReadDir(".") // cannot fail: the folder is in the binary
	names := make([]string, len(entries))
	for i, entry := range entries {
		names[i] = entry.Name()
	}
	return names
}

// Exists reports whether there is an example of this name.
func Exists(name string) bool { return slices.Contains(Names(), name) }

// Files returns the contents of an example's files by name, with its tests. It returns an
// empty map if there is no such example.
func Files(example string) map[string][]byte {
	files := make(map[string][]byte)
	entries, _ := bundled.ReadDir(example)
	for _, entry := range entries {
		files[entry.Name()], _ = bundled.ReadFile(example + "/" + entry.Name())
	}
	return files
}

// Extract writes an example into a folder below cache and returns that folder. The name of
// the folder is derived from the content. If the folder exists already, Extract writes
// nothing. The folder appears at once and complete, so several processes may extract
// the same example at the same time.
func Extract(cache, example string) (string, error) {
	files := Files(example)
	sum := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(files)) {
		fmt.Fprintf(sum, "%s %d\n%s", name, len(files[name]), files[name])
	}
	parent := filepath.Join(cache, "examples", hex.EncodeToString(sum.Sum(nil))[:12])
	dir := filepath.Join(parent, example)
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	if err := extract(parent, dir, files); err != nil {
		return "", runner.Wrap(err, runner.KindIO, "unpack the example "+example).
			WithHint("make the folder writable, or free space there, or choose another folder with --cache-dir or GOPHERSNAKE_CACHE")
	}
	return dir, nil
}

// extract writes files into a temporary folder in parent and renames it to dir.
func extract(parent, dir string, files map[string][]byte) error {
	if err := os.MkdirAll(parent, 0o777); err != nil {
		return err
	}
	temporary, err := os.MkdirTemp(parent, ".new-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temporary)
	if err := WriteFiles(temporary, files); err != nil {
		return err
	}
	err = os.Rename(temporary, dir)
	if errors.Is(err, fs.ErrExist) { // another process was faster
		return nil
	}
	return err
}

// WriteFiles writes files, given by name, into a folder that exists. It overwrites
// files that exist.
func WriteFiles(dir string, files map[string][]byte) error {
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := os.WriteFile(filepath.Join(dir, name), files[name], 0o666); err != nil {
			return err
		}
	}
	return nil
}
