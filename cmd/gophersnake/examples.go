package main

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/gophersnake/gophersnake/runner"
)

// The examples, without what Python leaves in their folders.
//
//go:embed examples/*/*.yaml examples/*/*.py examples/*/*.md examples/*/*.wav examples/*/*.txt
var bundled embed.FS

// exampleNames returns the names of the bundled examples.
func exampleNames() []string {
	entries, _ := bundled.ReadDir("examples") // it is in the binary
	names := make([]string, len(entries))
	for i, entry := range entries {
		names[i] = entry.Name()
	}
	return names
}

func isExample(name string) bool { return slices.Contains(exampleNames(), name) }

// exampleFiles returns the files of an example by name, its tests left out.
func exampleFiles(example string) map[string][]byte {
	files := make(map[string][]byte)
	dir := path.Join("examples", example)
	entries, _ := bundled.ReadDir(dir)
	for _, entry := range entries {
		if !strings.HasPrefix(entry.Name(), "test_") {
			files[entry.Name()], _ = bundled.ReadFile(path.Join(dir, entry.Name()))
		}
	}
	return files
}

// extractExample puts an example into a folder of the cache that is named after
// its content, and returns that folder. It appears there as a whole.
func extractExample(cache, example string) (string, error) {
	files := exampleFiles(example)
	sum := sha256.New()
	for _, name := range sortedKeys(files) {
		fmt.Fprintf(sum, "%s %d\n%s", name, len(files[name]), files[name])
	}
	folder := filepath.Join(cache, "examples", hex.EncodeToString(sum.Sum(nil))[:12])
	dir := filepath.Join(folder, example)
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	err := func() error {
		if err := os.MkdirAll(folder, 0o777); err != nil {
			return err
		}
		temporary, err := os.MkdirTemp(folder, ".new-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(temporary)
		if err := writeFiles(temporary, files); err != nil {
			return err
		}
		if err := os.Rename(temporary, dir); err != nil && !errors.Is(err, fs.ErrExist) { // another process was first
			return err
		}
		return nil
	}()
	if err != nil {
		return "", runner.Wrap(err, runner.KindIO, "unpack the example "+example)
	}
	return dir, nil
}

func writeFiles(dir string, files map[string][]byte) error {
	for _, name := range sortedKeys(files) {
		if err := os.WriteFile(filepath.Join(dir, name), files[name], 0o666); err != nil {
			return err
		}
	}
	return nil
}
