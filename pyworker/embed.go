// Package pyworker embeds the Python package gophersnake, which nodes import and
// workers run, so that only the Go binary has to be installed.
package pyworker

import (
	"bytes"
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
	"strings"
	"time"
)

//go:embed __main__.py gophersnake/*.py gophersnake/py.typed gophersnake/builtin/*.py gophersnake/_worker/*.py gophersnake/_worker/*/*.py
var files embed.FS

//go:embed gophersnake/__init__.py
var packageSource string

var versionLine = regexp.MustCompile(`(?m)^__version__ = "([^"]+)"$`)

// Version returns the version of gophersnake, for instance "0.1.0". The Python package
// states it, in its __version__; the Go command and the wheel's metadata read it there.
func Version() string {
	return versionLine.FindStringSubmatch(packageSource)[1]
}

// StartModule is the path of a module that each worker imports, below the folder that
// [Extract] returns and without its suffix.
const StartModule = "gophersnake/_worker/process/worker"

// EntryPoints is the file that registers the package's plugin with pytest, as the wheel has it.
const EntryPoints = "[pytest11]\ngophersnake.pytest_plugin = gophersnake.pytest_plugin\n"

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
// created atomically, and later calls reuse it. Each call compares the files with those of
// this program, which takes about a millisecond, and writes damaged ones again: repaired
// is then what was wrong with the first of them, else empty. Errors are those of the file
// system, and that of a file that is damaged after it was written. Extract is safe for
// concurrent use, also by several processes.
func Extract(root string) (dir, repaired string, err error) {
	sum, err := digest()
	if err != nil {
		return "", "", err
	}
	dir = filepath.Join(root, sum)
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		if err := unpack(root, dir); err != nil {
			return "", "", err
		}
	}
	damaged := damagedFiles(dir)
	if len(damaged) == 0 {
		return dir, "", nil
	}
	for _, each := range damaged {
		if err := restore(root, dir, each.path); err != nil {
			return "", "", err
		}
	}
	if again := damagedFiles(dir); len(again) > 0 {
		return "", "", fmt.Errorf("%s %s, although it was just written", filepath.Join(dir, again[0].path), again[0].fault)
	}
	return dir, damaged[0].path + " " + damaged[0].fault, nil
}

// Damage returns what is wrong with the package that [Extract] has written below root, such
// as "__main__.py is missing". It is empty if nothing is wrong, and if the package has not
// been written.
func Damage(root string) string {
	sum, err := digest()
	if err != nil {
		return err.Error()
	}
	dir := filepath.Join(root, sum)
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	if damaged := damagedFiles(dir); len(damaged) > 0 {
		return filepath.Join(dir, damaged[0].path) + " " + damaged[0].fault
	}
	return ""
}

const newPrefix = ".new-"

// unpack writes the package into a new folder.
func unpack(root, dir string) error {
	if err := os.MkdirAll(root, 0o777); err != nil {
		return err
	}
	removeOld(root)
	temporary, err := os.MkdirTemp(root, newPrefix)
	if err != nil {
		return err
	}
	defer os.RemoveAll(temporary)
	if err := os.CopyFS(temporary, files); err != nil {
		return err
	}
	if err := os.Chmod(temporary, 0o755); err != nil {
		return err
	}
	if err := os.Rename(temporary, dir); err != nil && !errors.Is(err, fs.ErrExist) { // another process was first
		return err
	}
	return nil
}

// removeOld removes what processes that were killed while they wrote have left. Nothing is
// written for an hour.
func removeOld(root string) {
	entries, _ := os.ReadDir(root)
	for _, entry := range entries {
		info, err := entry.Info()
		if err == nil && strings.HasPrefix(entry.Name(), newPrefix) && time.Since(info.ModTime()) > time.Hour {
			_ = os.RemoveAll(filepath.Join(root, entry.Name()))
		}
	}
}

// damagedFile is a file that differs from that of this program.
type damagedFile struct{ path, fault string }

// damagedFiles compares the files in a folder with those of this program.
func damagedFiles(dir string) []damagedFile {
	var damaged []damagedFile
	_ = fs.WalkDir(files, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		want, err := files.ReadFile(path)
		if err != nil {
			return err
		}
		got, err := os.ReadFile(filepath.Join(dir, path))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			damaged = append(damaged, damagedFile{path, "is missing"})
		case err != nil:
			damaged = append(damaged, damagedFile{path, "cannot be read"})
		case len(got) != len(want):
			damaged = append(damaged, damagedFile{path, fmt.Sprintf("has %d instead of %d bytes", len(got), len(want))})
		case !bytes.Equal(got, want):
			damaged = append(damaged, damagedFile{path, "has other content"})
		}
		return nil
	})
	return damaged
}

// restore writes one file of the package again, atomically: workers may be reading it. It
// removes the bytecode of the damaged one.
func restore(root, dir, path string) error {
	content, err := files.ReadFile(path)
	if err != nil {
		return err
	}
	target := filepath.Join(dir, path)
	folder := filepath.Dir(target)
	if info, err := os.Lstat(folder); err == nil && !info.IsDir() {
		if err := os.Remove(folder); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	_ = os.Chmod(folder, 0o755) // fails if the folder belongs to another user; so does the rest, then
	f, err := os.CreateTemp(root, newPrefix)
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // unless it was renamed
	_, err = f.Write(content)
	if err = errors.Join(err, f.Chmod(0o644), f.Close()); err != nil {
		return err
	}
	if info, err := os.Lstat(target); err == nil && info.IsDir() {
		_ = os.RemoveAll(target)
	}
	_ = os.RemoveAll(filepath.Join(folder, "__pycache__"))
	return os.Rename(f.Name(), target)
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
