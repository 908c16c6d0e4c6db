package pyenv

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// replaced writes a file anew, so that uv's cache, which shares the old one, is not changed.
func replaced(path string, content []byte) error {
	return errors.Join(os.Remove(path), os.WriteFile(path, content, 0o600))
}

func TestADamagedEnvironmentIsBuiltAgain(t *testing.T) {
	python, _ := isolated(t, "uv")
	module := func(e Environment) string {
		found, err := filepath.Glob(filepath.Join(e.Dir, "lib", "python3*", "site-packages", "msgpack.py"))
		require.NoError(t, err)
		require.Len(t, found, 1)
		return found[0]
	}
	for _, c := range []struct {
		name, want string
		damage     func(Environment) error
	}{
		{"a file is missing", "MODULE is missing", func(e Environment) error { return os.Remove(module(e)) }},
		{"a file is half written", "MODULE has 5 of its 18 bytes", func(e Environment) error { return replaced(module(e), []byte("versi")) }},
		{"a file is empty", "MODULE has 0 of its 18 bytes", func(e Environment) error { return replaced(module(e), nil) }},
		{"a file is a folder", "MODULE is no longer a file", func(e Environment) error {
			path := module(e)
			return errors.Join(os.Remove(path), os.Mkdir(path, 0o700))
		}},
		{"a folder is missing", "FOLDER/msgpack-1.1.0.dist-info/INSTALLER is missing", func(e Environment) error { return os.RemoveAll(filepath.Dir(module(e))) }},
		{"a file cannot be read", "MODULE has the permissions ---------- instead of -rw-r--r--", func(e Environment) error {
			return errors.Join(replaced(module(e), []byte("version = '1.1.0'\n\n")), os.Chmod(module(e), 0))
		}},
		{"pyvenv.cfg is missing", "pyvenv.cfg is missing", func(e Environment) error { return os.Remove(filepath.Join(e.Dir, "pyvenv.cfg")) }},
		{"the list is missing", listName + " is missing", func(e Environment) error { return os.Remove(filepath.Join(e.Dir, listName)) }},
		{"the list is half written", listName + " is incomplete", func(e Environment) error { return os.Truncate(filepath.Join(e.Dir, listName), 10) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			var log bytes.Buffer
			spec := Spec{Interpreter: python, CacheDir: t.TempDir(), Logger: hclog.New(&hclog.LoggerOptions{Output: &log, Level: hclog.Warn})}
			made, err := Ensure(t.Context(), spec)
			require.NoError(t, err)
			file, err := filepath.Rel(made.Dir, module(made))
			require.NoError(t, err)
			want := strings.NewReplacer("MODULE", file, "FOLDER", filepath.Dir(file)).Replace(c.want)
			require.NoError(t, c.damage(made))
			assert.Equal(t, want, Damage(made.Dir))
			listed, err := List(spec.CacheDir)
			require.NoError(t, err)
			require.Len(t, listed, 1)
			assert.Equal(t, []any{want, false}, []any{listed[0].Damage, listed[0].Complete})

			again, err := Ensure(t.Context(), spec)
			require.NoError(t, err)
			assert.Empty(t, Damage(again.Dir))
			assert.Equal(t, "1.1.0", inEnvironment(t, again, "import msgpack; print(msgpack.version)"))
			assert.Equal(t, 1, strings.Count(log.String(), "the environment is damaged; it is built again"))
			assert.Contains(t, log.String(), want)

			require.NoError(t, c.damage(again))
			_, err = Ensure(t.Context(), spec)
			e := fault(t, err)
			assert.Regexp(t, `^cannot use the environment in .*: `+strings.ReplaceAll(want, ".", `\.`)+`, although it was rebuilt at \d\d:\d\d:\d\d$`, e.Error())
			assert.Contains(t, e.Hint, "another program changes files in the cache folder, or its disk is faulty")
			_, err = Prune(t.Context(), spec.CacheDir, PruneOptions{Keys: []string{made.Key}}) // as the hint says
			require.NoError(t, err)
			_, err = Ensure(t.Context(), spec)
			require.NoError(t, err)
		})
	}
}

func TestWhatIsNoDamage(t *testing.T) {
	python, _ := isolated(t, "uv")
	spec := Spec{Interpreter: python, CacheDir: t.TempDir()}
	made, err := Ensure(t.Context(), spec)
	require.NoError(t, err)
	assert.Equal(t, "1.1.0", inEnvironment(t, made, "import msgpack; print(msgpack.version)")) // writes bytecode
	site := sitePackages(t, made)
	require.NoError(t, replaced(filepath.Join(site, "msgpack.py"), []byte("print('debugging')\nversion = '1.1.0'\n")))
	require.NoError(t, os.WriteFile(filepath.Join(site, "more.py"), nil, 0o600))
	require.NoError(t, os.RemoveAll(filepath.Join(site, "__pycache__")))
	spec.Progress = func(p Progress) { t.Error(p.Stage) }
	_, err = Ensure(t.Context(), spec)
	require.NoError(t, err)
}

func sitePackages(t *testing.T, e Environment) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(e.Dir, "lib", "python3*", "site-packages"))
	require.NoError(t, err)
	require.Len(t, found, 1)
	return found[0]
}

// uv links the files of environments to those in its cache.
func TestTheCacheOfUVIsCleanedOfDamagedFiles(t *testing.T) {
	python, wheels := isolated(t, "uv")
	wheel(t, wheels, "alpha", "1.0")
	spec := Spec{Interpreter: python, Requirements: []string{"alpha"}, CacheDir: t.TempDir()}
	made, err := Ensure(t.Context(), spec)
	require.NoError(t, err)
	module := filepath.Join(sitePackages(t, made), "alpha.py")
	require.NoError(t, os.Truncate(module, 3)) // in the cache, too
	again, err := Ensure(t.Context(), spec)
	require.NoError(t, err)
	assert.Equal(t, "1.0", inEnvironment(t, again, "import alpha; print(alpha.version)"))

	require.NoError(t, os.Truncate(module, 3))
	spec.CacheDir = t.TempDir() // another environment from the same cache of uv
	other, err := Ensure(t.Context(), spec)
	require.NoError(t, err)
	assert.Equal(t, "1.0", inEnvironment(t, other, "import alpha; print(alpha.version)"))
}
