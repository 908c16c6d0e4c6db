package pyworker

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// sources lists the files of the package.
func sources(t *testing.T) []string {
	files := []string{"__main__.py", filepath.Join("gophersnake", "py.typed")}
	require.NoError(t, filepath.WalkDir("gophersnake", func(path string, _ fs.DirEntry, err error) error {
		if strings.HasSuffix(path, ".py") {
			files = append(files, path)
		}
		return err
	}))
	return files
}

func TestTheEntryPointsAreThoseOfTheWheel(t *testing.T) {
	project, err := os.ReadFile("pyproject.toml")
	require.NoError(t, err)
	for line := range strings.Lines(EntryPoints) {
		name, object, isEntry := strings.Cut(strings.TrimSpace(line), " = ")
		want := "[project.entry-points." + strings.Trim(name, "[]") + "]"
		if isEntry {
			want = fmt.Sprintf("%q = %q", name, object)
		}
		assert.Contains(t, string(project), want)
	}
}

func TestExtractIsComplete(t *testing.T) {
	root := filepath.Join(t.TempDir(), "not", "there", "yet")
	dir, _, err := Extract(root)
	require.NoError(t, err)
	assert.Equal(t, root, filepath.Dir(dir))
	var extracted []string
	require.NoError(t, filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			relative, _ := filepath.Rel(dir, path)
			extracted = append(extracted, relative)
		}
		return err
	}))
	assert.ElementsMatch(t, sources(t), extracted, "a new folder of the package needs a pattern in embed.go")
	for _, name := range extracted {
		want, err := os.ReadFile(name)
		require.NoError(t, err)
		got, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		assert.Equal(t, string(want), string(got), name)
	}
}

func TestExtractReusesTheFolder(t *testing.T) {
	root := t.TempDir()
	dir, _, err := Extract(root)
	require.NoError(t, err)
	before, err := os.Stat(dir)
	require.NoError(t, err)
	again, repaired, err := Extract(root)
	require.NoError(t, err)
	assert.Equal(t, dir, again)
	assert.Empty(t, repaired)
	after, err := os.Stat(dir)
	require.NoError(t, err)
	assert.True(t, os.SameFile(before, after))
	assertAlone(t, dir)
}

func TestExtractRepairsWhatIsDamaged(t *testing.T) {
	source, err := files.ReadFile("gophersnake/__init__.py")
	require.NoError(t, err)
	for _, c := range []struct {
		name, want string
		damage     func(dir string) error
	}{
		{"a file is missing", "__main__.py is missing", func(dir string) error { return os.Remove(filepath.Join(dir, "__main__.py")) }},
		{"a folder is missing", "gophersnake/_worker/values/__init__.py is missing",
			func(dir string) error { return os.RemoveAll(filepath.Join(dir, "gophersnake/_worker/values")) }},
		{"a file is empty", fmt.Sprintf("gophersnake/__init__.py has 0 instead of %d bytes", len(source)),
			func(dir string) error { return os.Truncate(filepath.Join(dir, "gophersnake/__init__.py"), 0) }},
		{"a file is half written", fmt.Sprintf("gophersnake/__init__.py has 100 instead of %d bytes", len(source)),
			func(dir string) error { return os.Truncate(filepath.Join(dir, "gophersnake/__init__.py"), 100) }},
		{"a file has other content", "gophersnake/__init__.py has other content", func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "gophersnake/__init__.py"), make([]byte, len(source)), 0o600)
		}},
		{"a file is a folder", "gophersnake/py.typed cannot be read", func(dir string) error {
			path := filepath.Join(dir, "gophersnake/py.typed")
			return errors.Join(os.Remove(path), os.MkdirAll(filepath.Join(path, "x"), 0o700))
		}},
		{"a link leads nowhere", "__main__.py is missing", func(dir string) error {
			path := filepath.Join(dir, "__main__.py")
			return errors.Join(os.Remove(path), os.Symlink("/nowhere", path))
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			root := t.TempDir()
			dir, _, err := Extract(root)
			require.NoError(t, err)
			assert.Empty(t, Damage(root))
			require.NoError(t, c.damage(dir))
			assert.Equal(t, filepath.Join(dir, c.want), Damage(root))
			same, repaired, err := Extract(root)
			require.NoError(t, err)
			assert.Equal(t, dir, same)
			assert.Equal(t, c.want, repaired)
			assert.Empty(t, Damage(root))
			assertAlone(t, dir)
			_, repaired, err = Extract(root)
			require.NoError(t, err)
			assert.Empty(t, repaired)
		})
	}
}

func TestWhatAKilledProcessLeftIsRemoved(t *testing.T) {
	root := t.TempDir()
	old, fresh := filepath.Join(root, newPrefix+"1"), filepath.Join(root, newPrefix+"2")
	require.NoError(t, errors.Join(os.Mkdir(old, 0o700), os.Mkdir(fresh, 0o700)))
	yesterday := time.Now().Add(-24 * time.Hour)
	require.NoError(t, os.Chtimes(old, yesterday, yesterday))
	_, _, err := Extract(root)
	require.NoError(t, err)
	assert.NoDirExists(t, old)
	assert.DirExists(t, fresh, "another process may be writing it")
}

// Like separate processes, these goroutines do not coordinate.
func TestExtractAtOnce(t *testing.T) {
	root := t.TempDir()
	var all sync.WaitGroup
	dirs, errs := make([]string, 16), make([]error, 16)
	for i := range dirs {
		all.Add(1)
		go func() {
			defer all.Done()
			dirs[i], _, errs[i] = Extract(root)
		}()
	}
	all.Wait()
	for i := range dirs {
		require.NoError(t, errs[i])
		assert.Equal(t, dirs[0], dirs[i])
	}
	assertAlone(t, dirs[0])
}

// assertAlone checks that nothing else is left in a folder's parent.
func assertAlone(t *testing.T, dir string) {
	entries, err := os.ReadDir(filepath.Dir(dir))
	require.NoError(t, err)
	require.Len(t, entries, 1)
	assert.Equal(t, filepath.Base(dir), entries[0].Name())
}

func TestExtractErrors(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	_, _, err := Extract(file)
	assert.Error(t, err)
	_, _, err = Extract(filepath.Join(file, "below"))
	assert.Error(t, err)
	if os.Geteuid() != 0 { // root can write anywhere
		dir := t.TempDir()
		require.NoError(t, os.Chmod(dir, 0o500))
		_, _, err = Extract(dir)
		assert.ErrorIs(t, err, fs.ErrPermission)
	}
}

func TestExtractedFolderRuns(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("there is no python3")
	}
	dir, _, err := Extract(t.TempDir())
	require.NoError(t, err)

	out, err := exec.Command(python, dir).CombinedOutput()
	assert.Error(t, err)
	assert.Contains(t, string(out), "This is gophersnake's Python worker")

	if exec.Command(python, "-c", "import msgpack").Run() != nil {
		t.Skip("python3 has no msgpack")
	}
	base := t.TempDir()
	node := "from gophersnake import node\n@node\ndef n(value, rate: int = 5):\n    'Do it.'\n"
	require.NoError(t, os.WriteFile(filepath.Join(base, "nodes.py"), []byte(node), 0o600))
	describe := exec.Command(python, dir, "describe")
	describe.Dir = base
	describe.Stdin = strings.NewReader(`{"base": "` + base + `", "file": "nodes.py"}`)
	out, err = describe.Output()
	require.NoError(t, err)
	assert.Contains(t, string(out), `"doc": "Do it."`)
}

func TestThePythonPackageStatesTheVersion(t *testing.T) {
	assert.Regexp(t, `^\d+\.\d+\.\d+`, Version())
	project, err := os.ReadFile("pyproject.toml")
	require.NoError(t, err)
	assert.Contains(t, string(project), "[tool.hatch.version]\npath = \"gophersnake/__init__.py\"\n", "the wheel's version is read there, too")
	assert.NotRegexp(t, `(?m)^version = `, string(project))
}
