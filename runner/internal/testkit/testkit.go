// Package testkit holds the fixtures that the tests of several packages share. Only
// tests import it.
package testkit

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/pyworker"
)

// Long is a timeout that only failing tests reach.
const Long = time.Minute

// WithPackage unpacks the worker's Python package into a temporary folder, calls run with
// the package's folder, and removes it afterwards. It returns the result of run, which is
// an exit status, or 1 if the package cannot be unpacked. A TestMain calls it.
func WithPackage(run func(packageDir string) int) int {
	root, err := os.MkdirTemp("", "gophersnake-testkit-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(root)
	packageDir, _, err := pyworker.Extract(root)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return run(packageDir)
}

// Python returns the interpreter of the tests' workers, python3 in PATH.
func Python(t testing.TB) string {
	t.Helper()
	python, err := exec.LookPath("python3")
	require.NoError(t, err, "the tests need a Python with msgpack in PATH")
	return python
}

// Eventually checks a condition every millisecond until it holds. The test fails if the
// condition does not hold within [Long].
func Eventually(t testing.TB, condition func() bool, text ...any) {
	t.Helper()
	require.Eventually(t, condition, Long, time.Millisecond, text...)
}

// Exists returns a condition for [Eventually]: the file exists, maybe without content.
func Exists(path string) func() bool {
	return func() bool { _, err := os.Stat(path); return err == nil }
}

// Written returns a condition for [Eventually]: the file has content.
func Written(path string) func() bool {
	return func() bool { info, err := os.Stat(path); return err == nil && info.Size() > 0 }
}

// AwaitFile waits until a file has content, and returns that without the white space
// around it.
func AwaitFile(t testing.TB, path string) string {
	t.Helper()
	Eventually(t, Written(path), path)
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	return strings.TrimSpace(string(content))
}

// AwaitPID waits until a file has content, and returns the process id in it.
func AwaitPID(t testing.TB, path string) int {
	t.Helper()
	pid, err := strconv.Atoi(AwaitFile(t, path))
	require.NoError(t, err)
	return pid
}

// Gone reports whether a process does not exist, not even as a zombie.
func Gone(pid int) bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) }
