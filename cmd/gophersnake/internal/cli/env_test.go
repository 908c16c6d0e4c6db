package cli

import (
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/fixtures"
	"github.com/gophersnake/gophersnake/pyworker"
	"github.com/gophersnake/gophersnake/runner"
)

// fakeEnvironment creates an environment in a cache folder, with the time since its last use.
func fakeEnvironment(t *testing.T, cache, key string, ago time.Duration) {
	t.Helper()
	dir := filepath.Join(cache, "envs", key)
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "bin"), 0o700))
	self, err := os.Executable()
	require.NoError(t, err)
	require.NoError(t, os.Symlink(self, filepath.Join(dir, "bin", "python")))
	record := filepath.Join(dir, "gophersnake.json")
	require.NoError(t, os.WriteFile(record, []byte(`{"format": 1, "key": "`+key+`", "created": "2026-01-02T03:04:05Z",
"installer": "uv", "requirements": ["numpy==2.2.6", "soxr"], "interpreter": {"path": "/p", "version": "3.11.7"}}`), 0o600))
	used := time.Now().Add(-ago)
	require.NoError(t, os.Chtimes(record, used, used))
}

func TestEnvListOfNothing(t *testing.T) {
	for _, cache := range []string{t.TempDir(), filepath.Join(t.TempDir(), "missing")} {
		got := command(t, "env", "list", "--cache-dir", cache)
		assert.Zero(t, got.code, got.err)
		assert.Equal(t, "There are no environments in "+filepath.Join(cache, "envs")+".\n", got.out)
		assert.Equal(t, "[]\n", command(t, "env", "list", "-o", "json", "--cache-dir", cache).out)
		got = command(t, "env", "prune", "--all", "--cache-dir", cache)
		assert.Zero(t, got.code, got.err)
		assert.Equal(t, "freed 0 B\n", got.out)
	}
}

func TestEnvList(t *testing.T) {
	cache := t.TempDir()
	fakeEnvironment(t, cache, "aaaa", time.Hour)
	require.NoError(t, os.MkdirAll(filepath.Join(cache, "envs", "bbbb"), 0o700))
	got := command(t, "env", "list", "--cache-dir", cache)
	require.Zero(t, got.code, got.err)
	assert.Regexp(t, `(?m)^KEY +PYTHON +SIZE +LAST USED +REQUIREMENTS\n`, got.out)
	assert.Regexp(t, `(?m)^aaaa +3\.11\.7 +\d+ B +\d{4}-\d\d-\d\d \d\d:\d\d +numpy==2\.2\.6, soxr$`, got.out)
	assert.Regexp(t, `(?m)^bbbb +- .*incomplete`, got.out)
	assert.Contains(t, got.out, "2 environments, ")

	var listed []map[string]any
	require.NoError(t, json.Unmarshal([]byte(command(t, "env", "ls", "-o", "json", "--cache-dir", cache).out), &listed))
	require.Len(t, listed, 2)
	complete := listed[1]
	assert.Equal(t, "aaaa", complete["key"])
	assert.Equal(t, "3.11.7", complete["python"])
	assert.Equal(t, []any{"numpy==2.2.6", "soxr"}, complete["requirements"])
	assert.Equal(t, filepath.Join(cache, "envs", "aaaa"), complete["path"])
	assert.Equal(t, true, complete["complete"])
	for _, field := range []string{"size", "last_used", "created"} {
		assert.Contains(t, complete, field)
	}
	assert.Equal(t, false, listed[0]["complete"])
}

func TestEnvPrune(t *testing.T) {
	cache := t.TempDir()
	dir := func(key string) string { return filepath.Join(cache, "envs", key) }
	fakeEnvironment(t, cache, "fresh", time.Hour)
	fakeEnvironment(t, cache, "weeks", 10*day)
	fakeEnvironment(t, cache, "months", 100*day)
	got := command(t, "env", "prune", "--dry-run", "--cache-dir", cache)
	require.Zero(t, got.code, got.err)
	assert.Regexp(t, `^would remove months  \d+ B  numpy==2\.2\.6, soxr\nwould free \d+ B\n$`, got.out)
	assert.DirExists(t, dir("months"))
	assert.Contains(t, command(t, "env", "prune", "--cache-dir", cache).out, "removed months")
	assert.NoDirExists(t, dir("months"))
	assert.Contains(t, command(t, "env", "prune", "--older-than", "7d", "--cache-dir", cache).out, "removed weeks")
	assert.DirExists(t, dir("fresh"))
	assert.Contains(t, command(t, "env", "prune", "--all", "--cache-dir", cache).out, "removed fresh")
	assert.NoDirExists(t, dir("fresh"))
}

func TestEnvCommandLines(t *testing.T) {
	assert.Contains(t, command(t, "env").out, "prune")
	for _, c := range newEnv(newApp(nil, nil, nil)).Commands() {
		assert.NotEmpty(t, c.Short)
		assert.NotEmpty(t, c.Long)
		assert.Contains(t, c.Example, "gophersnake env "+c.Name())
	}
	assert.Contains(t, command(t, "env", "prune", "--help").out, "(default 30d)")
	for _, args := range [][]string{
		{"env", "frob"},
		{"env", "list", "x"},
		{"env", "list", "-o", "xml"},
		{"env", "prune", "--older-than", "soon"},
		{"env", "prune", "--older-than", "-1h"},
		{"env", "prune", "--all", "--older-than", "1h"},
	} {
		got := command(t, append(args, "--cache-dir", t.TempDir())...)
		assert.Equal(t, 2, got.code, "%v: %s", args, got.err)
	}
}

func TestEnvInACacheThatIsAFile(t *testing.T) {
	got := command(t, "env", "list", "--cache-dir", fixtures.Write(t, "file", ""))
	assert.Equal(t, 7, got.code)
	assert.Contains(t, got.err, "not a directory")
	assert.Contains(t, got.err, "hint: ")
}

func TestTheInterpreterOfAPipelinesEnvironment(t *testing.T) {
	got := command(t, "env", "python", "hello")
	require.Zero(t, got.code, got.err)
	out, err := exec.Command(strings.TrimSpace(got.out), "-c", "import gophersnake, msgpack, sys; print(gophersnake.__version__, sys.prefix != sys.base_prefix)").CombinedOutput()
	require.NoError(t, err, "%s", out)
	assert.Equal(t, pyworker.Version()+" True\n", string(out))
	assert.Equal(t, 7, command(t, "env", "python", "nowhere").code)
}

func TestEnvPruneOfAPipeline(t *testing.T) {
	cache := t.TempDir()
	one := fixtures.Pipeline(t, "requirements: [numpy==2.2.6]\nnodes: [{id: n, node_type: echo}]")
	same := fixtures.Pipeline(t, "requirements: [numpy==2.2.6]\nnodes: [{id: m, node_type: echo}]")
	none := fixtures.Pipeline(t, "requirements: [numpy==2.2.5]\nnodes: [{id: n, node_type: echo}]")
	key := environmentKeyOf(t, cache, one)
	assert.Equal(t, key, environmentKeyOf(t, cache, same))
	fakeEnvironment(t, cache, key, time.Minute)
	fakeEnvironment(t, cache, "other", 1000*time.Hour)
	require.NoError(t, os.MkdirAll(filepath.Join(cache, "envs", "incomplete"), 0o700))
	assert.Equal(t, "freed 0 B\n", succeed(t, "env", "prune", none, "--cache-dir", cache), "it has no environment")
	assert.Regexp(t, `^would remove `+key+` .*\nwould free .*\n$`, succeed(t, "env", "prune", same, "--dry-run", "--cache-dir", cache))
	assert.Regexp(t, `^removed `+key+` .*\nfreed .*\n$`, succeed(t, "env", "prune", same, "--cache-dir", cache))
	assert.NoDirExists(t, filepath.Join(cache, "envs", key))
	assert.DirExists(t, filepath.Join(cache, "envs", "other"))
	assert.DirExists(t, filepath.Join(cache, "envs", "incomplete"), "of another pipeline")
	got := command(t, "env", "prune", one, "--all", "--cache-dir", cache)
	assert.Equal(t, 2, got.code)
	assert.Contains(t, got.err, "--all and --older-than select among all environments, and cannot be combined with a PIPELINE")
	assert.Equal(t, 7, command(t, "env", "prune", "nowhere", "--cache-dir", cache).code)
}

// environmentKeyOf returns the key of the environment of a pipeline.
func environmentKeyOf(t *testing.T, cache, pipeline string) string {
	t.Helper()
	a := newApp(nil, io.Discard, io.Discard)
	a.CacheDir = cache
	keys, err := a.environmentKeys(t.Context(), pipeline)
	require.NoError(t, err)
	require.Len(t, keys, 1)
	return keys[0]
}

func TestDamageIsShownAndRepaired(t *testing.T) {
	cache := t.TempDir()
	require.Zero(t, command(t, "run", "hello", "--cache-dir", cache).code)
	for _, c := range []struct{ file, finding, warning string }{
		{"envs/*/lib/python3*/site-packages/msgpack/__init__.py", "environments", "[WARN]  environment: the environment is damaged; it is built again: "},
		{"pyworker/*/__main__.py", "worker", "[WARN]  the worker's Python package was damaged; it is repaired: "},
	} {
		found, err := filepath.Glob(filepath.Join(cache, c.file))
		require.NoError(t, err)
		require.Len(t, found, 1)
		require.NoError(t, os.Remove(found[0]))
		_, file, _ := strings.Cut(found[0], "/envs/")
		_, file, _ = strings.Cut(file, "/")
		if file != "" {
			assert.Contains(t, command(t, "env", "list", "--cache-dir", cache).out, "damaged, to be built again: "+file+" is missing")
		}
		_, checks := doctor(t, "--cache-dir", cache)
		assert.Equal(t, runner.FindingWarning, checks[c.finding].Status)
		assert.Contains(t, checks[c.finding].Detail, filepath.Base(found[0])+" is missing")
		for _, warnings := range []int{1, 0} {
			got := command(t, "run", "hello", "--cache-dir", cache)
			require.Zero(t, got.code, got.err)
			assert.Equal(t, warnings, strings.Count(got.err, c.warning), got.err)
		}
		_, checks = doctor(t, "--cache-dir", cache)
		assert.Equal(t, runner.FindingOK, checks[c.finding].Status)
	}
}
