package pyenv

import (
	"archive/zip"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestMain lets the test binary run as another process with one task.
func TestMain(m *testing.M) {
	if text := os.Getenv("GOPHERSNAKE_TEST_TASK"); text != "" {
		if err := perform(text); err != nil {
			fmt.Println("error:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// task is the work of another process.
type task struct {
	Find   string
	Ensure *order
}

// order is the part of a [Spec] that another process receives.
type order struct {
	Interpreter  Interpreter
	Requirements []string
	CacheDir     string
	Base         string
}

// perform finds an interpreter, or creates an environment and prints the stages.
func perform(text string) error {
	var t task
	if err := json.Unmarshal([]byte(text), &t); err != nil {
		return err
	}
	if t.Find != "" {
		_, err := Find(context.Background(), FindOptions{Explicit: t.Find})
		return err
	}
	_, err := Ensure(context.Background(), Spec{
		Interpreter: t.Ensure.Interpreter, Requirements: t.Ensure.Requirements, CacheDir: t.Ensure.CacheDir, Base: t.Ensure.Base,
		Progress: func(p Progress) {
			if p.Line == "" {
				fmt.Println(p.Stage)
			}
		},
	})
	return err
}

// anotherProcess returns a command that runs this test binary with a task.
func anotherProcess(t *testing.T, work task) *exec.Cmd {
	t.Helper()
	text, err := json.Marshal(work)
	require.NoError(t, err)
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), "GOPHERSNAKE_TEST_TASK="+string(text))
	return cmd
}

// installers are the names of the installers that tests run with.
var installers = []string{"uv", "pip"}

// realPython finds the interpreter of the tests, before PATH is changed.
var realPython = sync.OnceValues(func() (Interpreter, error) {
	return Find(context.Background(), FindOptions{})
})

var realUV = sync.OnceValues(func() (string, error) { return exec.LookPath("uv") })

// isolated excludes the settings of the user and the network. The packages that a test
// may install are in the folder that it returns. Only the named installer is on PATH.
func isolated(t *testing.T, installer string) (python Interpreter, wheels string) {
	t.Helper()
	python, err := realPython()
	require.NoError(t, err)
	bin := t.TempDir()
	if installer == "uv" {
		path, err := realUV()
		if err != nil {
			t.Skip("uv is not on PATH; scripts/test puts it there")
		}
		require.NoError(t, os.Symlink(path, filepath.Join(bin, "uv")))
	}
	for _, entry := range os.Environ() {
		name, _, _ := strings.Cut(entry, "=")
		if strings.HasPrefix(name, "PIP_") || strings.HasPrefix(name, "UV_") {
			t.Setenv(name, "")
			require.NoError(t, os.Unsetenv(name))
		}
	}
	home := t.TempDir()
	wheels = filepath.Join(home, "wheels")
	require.NoError(t, os.Mkdir(wheels, 0o700))
	for name, value := range map[string]string{
		"PATH": bin + ":/usr/bin:/bin", "HOME": home, "XDG_CONFIG_HOME": filepath.Join(home, ".config"),
		"XDG_CONFIG_DIRS": home, "UV_CACHE_DIR": filepath.Join(home, "uv"), "PIP_CACHE_DIR": filepath.Join(home, "pip"),
		"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": wheels, "VIRTUAL_ENV": "", "CONDA_PREFIX": "", "GOPHERSNAKE_PYTHON": "",
	} {
		t.Setenv(name, value)
	}
	if installer != "uv" {
		_, err := exec.LookPath("uv")
		if err == nil {
			t.Setenv("PATH", bin)
		}
	}
	wheel(t, wheels, "msgpack", "1.1.0")
	wheel(t, wheels, "msgspec", "0.20.0")
	return python, wheels
}

// wheel makes a package of one module that holds its version. More are lines of its
// metadata.
func wheel(t *testing.T, dir, name, version string, more ...string) string {
	t.Helper()
	path := filepath.Join(dir, fmt.Sprintf("%s-%s-py3-none-any.whl", name, version))
	f, err := os.Create(path)
	require.NoError(t, err)
	defer f.Close()
	archive := zip.NewWriter(f)
	info := fmt.Sprintf("%s-%s.dist-info/", name, version)
	var listing strings.Builder
	for _, file := range [][2]string{
		{name + ".py", fmt.Sprintf("version = %q\n", version)},
		{info + "METADATA", fmt.Sprintf("Metadata-Version: 2.1\nName: %s\nVersion: %s\n%s\n", name, version, strings.Join(more, "\n"))},
		{info + "WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"},
	} {
		w, err := archive.Create(file[0])
		require.NoError(t, err)
		_, err = w.Write([]byte(file[1]))
		require.NoError(t, err)
		fmt.Fprintf(&listing, "%s,,%d\n", file[0], len(file[1]))
	}
	w, err := archive.Create(info + "RECORD")
	require.NoError(t, err)
	_, err = w.Write([]byte(listing.String() + info + "RECORD,,\n"))
	require.NoError(t, err)
	require.NoError(t, archive.Close())
	return path
}

// strippedPython makes a copy of the interpreter whose library lacks some modules.
func strippedPython(t *testing.T, without ...string) Interpreter {
	t.Helper()
	real, err := realPython()
	require.NoError(t, err)
	root := t.TempDir()
	library := filepath.Join("lib", fmt.Sprintf("python%d.%d", real.Version.Major, real.Version.Minor))
	require.NoError(t, os.MkdirAll(filepath.Join(root, library, "site-packages"), 0o700))
	require.NoError(t, os.Mkdir(filepath.Join(root, "bin"), 0o700))
	entries, err := os.ReadDir(filepath.Join(real.BasePrefix, library))
	if err != nil {
		t.Skip("the interpreter's library is in another folder: ", err)
	}
	hidden := map[string]bool{"site-packages": true, "dist-packages": true}
	for _, name := range without {
		hidden[name] = true
	}
	for _, entry := range entries {
		if !hidden[entry.Name()] {
			target := filepath.Join(real.BasePrefix, library, entry.Name())
			require.NoError(t, os.Symlink(target, filepath.Join(root, library, entry.Name())))
		}
	}
	path := filepath.Join(root, "bin", "python")
	content, err := os.ReadFile(real.Resolved)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, content, 0o700))
	found, err := Find(t.Context(), FindOptions{Explicit: path})
	if err != nil || found.BasePrefix != root {
		t.Skipf("a copy of the interpreter does not work: %v", err)
	}
	return found
}

// pythonWithPip returns a copy of an interpreter that has its pip, but not ensurepip.
func pythonWithPip(t *testing.T, real Interpreter) Interpreter {
	t.Helper()
	library := filepath.Join("lib", fmt.Sprintf("python%d.%d", real.Version.Major, real.Version.Minor), "site-packages")
	found, err := filepath.Glob(filepath.Join(real.BasePrefix, library, "pip*"))
	require.NoError(t, err)
	if len(found) == 0 {
		t.Skip("the interpreter's pip is elsewhere")
	}
	python := strippedPython(t, "ensurepip")
	for _, path := range found {
		require.NoError(t, os.Symlink(path, filepath.Join(python.Prefix, library, filepath.Base(path))))
	}
	return python
}

// inEnvironment runs code in an environment and returns what it prints.
func inEnvironment(t *testing.T, env Environment, code string) string {
	t.Helper()
	out, err := exec.Command(env.Python, "-c", code).CombinedOutput()
	require.NoError(t, err, string(out))
	return strings.TrimSpace(string(out))
}

// script makes a shell script.
func script(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o700))
	return path
}

// pipe makes a named pipe. Reading it ends when the program that has opened its other
// end has ended.
func pipe(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "pipe")
	require.NoError(t, syscall.Mkfifo(path, 0o600))
	return path
}

// fault returns the error as an *Error, which every failure must be.
func fault(t *testing.T, err error) *Error {
	t.Helper()
	var e *Error
	require.ErrorAs(t, err, &e)
	require.Same(t, e, err, "it is not wrapped")
	require.NotContains(t, e.Error(), "\n")
	return e
}

// assertEmpty checks that no incomplete environment and no held lock is left.
func assertEmpty(t *testing.T, cache string) {
	t.Helper()
	entries, err := os.ReadDir(envsDir(cache))
	if os.IsNotExist(err) {
		return
	}
	require.NoError(t, err)
	for _, entry := range entries {
		assert.Equal(t, ".locks", entry.Name())
	}
	locks, err := os.ReadDir(filepath.Join(envsDir(cache), ".locks"))
	require.NoError(t, err)
	for _, entry := range locks {
		lock := lockOf(cache, entry.Name())
		locked, err := lock.TryLock()
		require.NoError(t, err)
		assert.True(t, locked, "a lock is held")
		require.NoError(t, lock.Close())
	}
}
