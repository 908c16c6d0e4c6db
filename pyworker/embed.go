// Package pyworker embeds the Python package gophersnake, which nodes import and
// workers run, so that only the Go binary has to be installed.
package pyworker

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
)

//go:embed __main__.py gophersnake/*.py gophersnake/py.typed gophersnake/_worker/*.py gophersnake/_worker/*/*.py
var files embed.FS

//go:embed gophersnake/__init__.py
var packageSource string

var versionLine = regexp.MustCompile(`(?m)^__version__ = "([^"]+)"$`)

// Version returns the version of gophersnake, for instance "0.1.0". The Python package
// states it, in its __version__; the Go command and the wheel's metadata read it there.
func Version() string {
	return versionLine.FindStringSubmatch(packageSource)[1]
}

// Reaper returns the source of a module that defines fork_worker, for an interpreter that
// only starts a worker and becomes its reaper. The module reaper, whose comment describes
// what the supervisor and a reaper say to each other, is in it as a string, which is compiled
// after the fork.
func Reaper() string {
	return source("fork") + "\nREAPER = " + strconv.QuoteToASCII(source("reaper")) + "\n"
}

// source returns the source of a module of the package _worker.process.
func source(module string) string {
	text, err := files.ReadFile("gophersnake/_worker/process/" + module + ".py")
	if err != nil {
		panic(err) // the file is embedded
	}
	return string(text)
}

// Extract writes the package into a folder below root whose name is a digest of the
// content, and returns that folder: "python FOLDER" runs the worker. The folder is
// created atomically, and later calls reuse it. Errors are those of the file system.
// Extract is safe for concurrent use, also by several processes.
func Extract(root string) (string, error) {
	sum, err := digest()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(root, sum)
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	if err := os.MkdirAll(root, 0o777); err != nil {
		return "", err
	}
	temporary, err := os.MkdirTemp(root, ".new-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(temporary)
	if err := os.CopyFS(temporary, files); err != nil {
		return "", err
	}
	if err := os.Chmod(temporary, 0o755); err != nil {
		return "", err
	}
	if err := os.Rename(temporary, dir); err != nil && !errors.Is(err, fs.ErrExist) { // another process was first
		return "", err
	}
	return dir, nil
}

// digest returns a hash of the names and contents of all files.
func digest() (string, error) {
	sum := sha256.New()
	err := fs.WalkDir(files, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := files.ReadFile(path)
		fmt.Fprintf(sum, "%s %d\n%s", path, len(content), content)
		return err
	})
	return hex.EncodeToString(sum.Sum(nil))[:16], err
}
