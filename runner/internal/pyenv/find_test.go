package pyenv

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func readAll(r io.Reader) (string, error) {
	content, err := io.ReadAll(r)
	return string(content), err
}

func TestCacheDir(t *testing.T) {
	t.Setenv("GOPHERSNAKE_CACHE", "")
	t.Setenv("XDG_CACHE_HOME", "/somewhere")
	t.Setenv("HOME", "/home/somebody")
	dir, err := CacheDir("")
	require.NoError(t, err)
	assert.Equal(t, "gophersnake", filepath.Base(dir))
	t.Setenv("GOPHERSNAKE_CACHE", "/elsewhere")
	dir, err = CacheDir("")
	require.NoError(t, err)
	assert.Equal(t, "/elsewhere", dir)
	dir, err = CacheDir("relative")
	require.NoError(t, err)
	assert.True(t, filepath.IsAbs(dir))
	t.Setenv("GOPHERSNAKE_CACHE", "")
	t.Setenv("XDG_CACHE_HOME", "")
	t.Setenv("HOME", "")
	_, err = CacheDir("")
	assert.NotEmpty(t, fault(t, err).Hint)
}

func TestTheOrderOfChoice(t *testing.T) {
	python, _ := isolated(t, "pip")
	bin := t.TempDir()
	require.NoError(t, os.Symlink(python.Resolved, filepath.Join(bin, "python3")))
	require.NoError(t, os.Symlink(python.Resolved, filepath.Join(bin, "mine")))
	t.Setenv("PATH", bin)
	env := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(env, "bin"), 0o700))
	require.NoError(t, os.Symlink(python.Resolved, pythonOf(env)))
	cache := t.TempDir()
	find := func(o FindOptions) Interpreter {
		o.CacheDir = cache
		found, err := Find(t.Context(), o)
		require.NoError(t, err)
		assert.Equal(t, python.Version, found.Version)
		return found
	}
	assert.Equal(t, "python3 on PATH", find(FindOptions{}).Source)
	t.Setenv("CONDA_PREFIX", env)
	assert.Equal(t, "CONDA_PREFIX", find(FindOptions{}).Source)
	t.Setenv("VIRTUAL_ENV", env)
	found := find(FindOptions{})
	assert.Equal(t, "VIRTUAL_ENV", found.Source)
	assert.Equal(t, pythonOf(env), found.Path)
	t.Setenv("VIRTUAL_ENV", filepath.Join(env, "gone"))
	assert.Equal(t, "CONDA_PREFIX", find(FindOptions{}).Source)
	t.Setenv("GOPHERSNAKE_PYTHON", "mine")
	found = find(FindOptions{})
	assert.Equal(t, "GOPHERSNAKE_PYTHON", found.Source)
	assert.Equal(t, filepath.Join(bin, "mine"), found.Path)
	assert.Equal(t, "manifest", find(FindOptions{Manifest: env}).Source)
	found = find(FindOptions{Manifest: "no-such", Explicit: python.Resolved})
	assert.Equal(t, "--python", found.Source)
	assert.Equal(t, python.Resolved, found.Path)
}

func TestAVersionIsFound(t *testing.T) {
	python, _ := isolated(t, "pip")
	bin := t.TempDir()
	// A command with the name of the version that does not run, like a shim that is not enabled.
	minor := fmt.Sprintf("%d.%d", python.Version.Major, python.Version.Minor)
	require.NoError(t, os.Symlink(script(t, "off", "echo command not found >&2; exit 127"), filepath.Join(bin, "python"+minor)))
	require.NoError(t, os.Symlink(python.Resolved, filepath.Join(bin, "python3")))
	t.Setenv("PATH", bin)
	for _, wanted := range []string{"3", minor, python.Version.String()} {
		found, err := Find(t.Context(), FindOptions{Explicit: wanted})
		require.NoError(t, err, wanted)
		assert.True(t, found.Version.matches(wanted))
	}
	_, err := Find(t.Context(), FindOptions{Explicit: "3.99"})
	e := fault(t, err)
	assert.Equal(t, "cannot find Python 3.99, from --python: it is not installed on this machine", e.Error())
	assert.Contains(t, e.Hint, "gophersnake doctor")
}

func TestProgramsThatCannotBeUsed(t *testing.T) {
	isolated(t, "pip")
	folder := t.TempDir()
	data := filepath.Join(folder, "data")
	require.NoError(t, os.WriteFile(data, []byte("x"), 0o600))
	for name, want := range map[string]string{
		"no-such-command":                "executable file not found",
		filepath.Join(folder, "missing"): "no such file or directory",
		folder:                           "no such file or directory",
		data:                             "is not executable",
		script(t, "silent", "exit 0"):    "it is not a Python interpreter",
		script(t, "broken", "echo broken >&2; exit 3"): "it does not work as a Python interpreter",
	} {
		_, err := Find(t.Context(), FindOptions{Explicit: name})
		e := fault(t, err)
		assert.Contains(t, e.Error(), want)
		assert.Contains(t, e.Error(), ", from --python")
		assert.NotEmpty(t, e.Hint)
	}
	t.Setenv("PATH", folder)
	_, err := Find(t.Context(), FindOptions{})
	assert.Contains(t, fault(t, err).Hint, "install Python 3.10 or newer")
}

func TestAnInterpreterThatIsTooOld(t *testing.T) {
	all, err := Interpreters(t.Context(), "")
	require.NoError(t, err)
	for _, old := range all {
		if old.Version.Compare(oldest) >= 0 {
			continue
		}
		_, err := Find(t.Context(), FindOptions{Explicit: old.Path})
		e := fault(t, err)
		assert.Contains(t, e.Message, "workers need 3.10 or newer")
		assert.Contains(t, e.Message, old.Version.String())
		return
	}
	t.Skip("no old interpreter is installed")
}

func TestProbesAreCached(t *testing.T) {
	isolated(t, "pip")
	python := strippedPython(t)
	cache := t.TempDir()
	find := func() string {
		found, err := Find(t.Context(), FindOptions{Explicit: python.Path, CacheDir: cache})
		require.NoError(t, err)
		return found.ABI
	}
	first := find()
	kept, err := filepath.Glob(filepath.Join(cache, "interpreters", "*"))
	require.NoError(t, err)
	require.Len(t, kept, 1)

	file, err := identify(python.Path)
	require.NoError(t, err)
	changed := python
	changed.ABI = "from the cache"
	writeCached(cache, file, changed)
	assert.Equal(t, "from the cache", find())
	for _, corrupt := range []string{"", "{", "null", `{"of":{}}`} {
		require.NoError(t, os.WriteFile(kept[0], []byte(corrupt), 0o600))
		assert.Equal(t, first, find())
	}
	writeCached(cache, file, changed)
	content, err := os.ReadFile(python.Path)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(python.Path, append(content, 0), 0o700)) // as an upgrade would
	assert.Equal(t, first, find())
}

func TestAShimIsFollowedEachTime(t *testing.T) {
	real, _ := isolated(t, "pip")
	other := strippedPython(t)
	shim := script(t, "python3", `exec "$TARGET" "$@"`)
	cache := t.TempDir()
	for range 2 {
		for _, target := range []Interpreter{real, other} {
			t.Setenv("TARGET", target.Path)
			found, err := Find(t.Context(), FindOptions{Explicit: shim, CacheDir: cache})
			require.NoError(t, err)
			assert.Equal(t, target.Path, found.Path)
			assert.Equal(t, target.Prefix, found.Prefix)
		}
	}
}

// A shim of pyenv is asked again only if something that its answer depends on has changed.
func TestAShimOfPyenvIsAskedOnce(t *testing.T) {
	real, _ := isolated(t, "pip")
	other := strippedPython(t)
	root, cache := t.TempDir(), t.TempDir()
	write := func(name, content string) {
		path := filepath.Join(root, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
		require.NoError(t, os.WriteFile(path, []byte(content), 0o700))
	}
	// Like pyenv it takes the version of the folder, and else the global one.
	write("libexec/pyenv", "#!/bin/sh\nshift 2\necho asked >> '"+root+"/asked'\n"+
		"version=$(cat .python-version 2> /dev/null || cat '"+root+"/version')\nexec \"$version\" \"$@\"\n")
	write("shims/python3", "#!/bin/sh\nprogram=python3\nexec \""+root+"/libexec/pyenv\" exec \"$program\" \"$@\"\n")
	write("version", real.Path)
	asked := func() int {
		content, err := os.ReadFile(filepath.Join(root, "asked"))
		require.NoError(t, err)
		return strings.Count(string(content), "asked")
	}
	find := func(want Interpreter) {
		t.Helper()
		for range 2 {
			found, err := Find(t.Context(), FindOptions{Explicit: filepath.Join(root, "shims/python3"), CacheDir: cache})
			require.NoError(t, err)
			assert.Equal(t, want.Path, found.Path)
		}
	}
	folder := t.TempDir()
	t.Chdir(folder)
	find(real)
	assert.Equal(t, 1, asked())
	write("version", other.Path)
	find(other)
	assert.Equal(t, 2, asked(), "another global version")
	require.NoError(t, os.WriteFile(filepath.Join(folder, ".python-version"), []byte(real.Path), 0o600))
	find(real)
	assert.Equal(t, 3, asked(), "another version of the folder")
	t.Setenv("PYENV_VERSION", "of the shell")
	find(real)
	assert.Equal(t, 4, asked(), "another variable")
	t.Chdir(t.TempDir())
	find(other)
	assert.Equal(t, 5, asked(), "another folder")
	require.NoError(t, os.WriteFile(cachedPath(cache, identity{Path: other.Path}), nil, 0o600))
	find(other)
	assert.Equal(t, 6, asked(), "the interpreter is not known any more")
}

func TestInterpretersAreListed(t *testing.T) {
	real, err := realPython()
	require.NoError(t, err)
	all, err := Interpreters(t.Context(), t.TempDir())
	require.NoError(t, err)
	var resolved []string
	for i, each := range all {
		resolved = append(resolved, each.Resolved)
		if i > 0 {
			assert.LessOrEqual(t, each.Version.Compare(all[i-1].Version), 0)
		}
	}
	assert.Contains(t, resolved, real.Resolved)
}
