package runner_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/runner"
)

func TestSecretsOfTheHostDoNotReachWorkersUnlessNamed(t *testing.T) {
	for name, value := range map[string]string{
		"GOPHERSNAKE_TEST_TOKEN": "secret", "GOPHERSNAKE_TEST_KEY": "key", "AWS_SECRET_ACCESS_KEY": "aws", "HF_TOKEN": "hf",
		"OMP_NUM_THREADS": "1", "LC_TIME": "C", "TZ": "UTC", "HTTPS_PROXY": "http://user:password@proxy",
	} {
		t.Setenv(name, value)
	}
	names := []any{
		"GOPHERSNAKE_TEST_TOKEN", "GOPHERSNAKE_TEST_KEY", "AWS_SECRET_ACCESS_KEY", "HF_TOKEN", "HTTPS_PROXY",
		"OMP_NUM_THREADS", "LC_TIME", "TZ", "GIVEN",
	}
	get := func(r *runner.Runner) map[string]any {
		value, err := r.Run(t.Context(), names)
		require.NoError(t, err)
		found := value.(map[string]any)
		for name, value := range found {
			if value == nil {
				delete(found, name)
			}
		}
		return found
	}
	node := []string{"python: isolated.py", "workers: {spare: 0}"}
	byDefault := map[string]any{"OMP_NUM_THREADS": "1", "LC_TIME": "C", "TZ": "UTC"}
	assert.Equal(t, byDefault, get(start(t, single("environment", node...))))

	node = append(node, `pass_env: [HF_TOKEN, "GOPHERSNAKE_TEST_*"]`, "env: {GIVEN: given, TZ: CET}")
	assert.Equal(t, map[string]any{
		"OMP_NUM_THREADS": "1", "LC_TIME": "C", "TZ": "CET", "GIVEN": "given",
		"HF_TOKEN": "hf", "GOPHERSNAKE_TEST_TOKEN": "secret", "GOPHERSNAKE_TEST_KEY": "key",
	}, get(start(t, single("environment", node...))))

	got := get(start(t, single("environment", node[0], node[1]), runner.WithPassEnv("AWS_*"), runner.WithPassEnv("HF_TOKE?")))
	assert.Equal(t, map[string]any{
		"OMP_NUM_THREADS": "1", "LC_TIME": "C", "TZ": "UTC", "AWS_SECRET_ACCESS_KEY": "aws", "HF_TOKEN": "hf",
	}, got)
}

func TestAMissingVariableIsNamedInTheHint(t *testing.T) {
	t.Setenv("GOPHERSNAKE_TEST_TOKEN", "secret")
	r := start(t, single("variable", "python: isolated.py", "retry: none", "breaker: none"))
	for name, hint := range map[string]string{
		"GOPHERSNAKE_TEST_TOKEN": "the host has GOPHERSNAKE_TEST_TOKEN, but does not pass it on: name it in the node's pass_env in the manifest",
		"GOPHERSNAKE_TEST_NONE":  "",
	} {
		_, err := r.Run(t.Context(), name)
		var e *runner.Error
		require.ErrorAs(t, err, &e)
		assert.Equal(t, "KeyError", e.PythonClass)
		assert.Equal(t, hint, e.Hint)
		assert.NotContains(t, err.Error(), "secret")
	}
}

func TestNamesOfVariablesAreChecked(t *testing.T) {
	for _, name := range []string{"", "A=B", "[A]", "a/b"} {
		_, err := load(t, single("echo"), runner.WithPassEnv(name))
		assert.ErrorIs(t, err, runner.KindManifest, name)
	}
}

func TestVariablesThatKeepPythonFromStartingAreNotPassedUnlessNamed(t *testing.T) {
	for variable, reason := range map[string]string{
		"PYTHONHOME=/nowhere":     "Fatal Python error: init_fs_encoding: failed to get the Python codec of the filesystem encoding",
		"PYTHONPLATLIBDIR=x":      "Fatal Python error: init_fs_encoding: failed to get the Python codec of the filesystem encoding",
		"PYTHONHASHSEED=-1":       `Fatal Python error: config_init_hash_seed: PYTHONHASHSEED must be "random" or an integer in range [0; 4294967295]`,
		"PYTHONUTF8=5":            "Fatal Python error: preconfig_init_utf8_mode: invalid PYTHONUTF8 environment variable value",
		"PYTHONMALLOC=none":       "Fatal Python error: preconfig_init_allocator: PYTHONMALLOC: unknown allocator",
		"PYTHONTRACEMALLOC=x":     "Fatal Python error: config_init_tracemalloc: PYTHONTRACEMALLOC: invalid number of frames",
		"PYTHONIOENCODING=nope":   "Fatal Python error: init_stdio_encoding: failed to get the Python codec name of the stdio encoding",
		"PYTHONINTMAXSTRDIGITS=3": "Fatal Python error: config_init_int_max_str_digits: PYTHONINTMAXSTRDIGITS: invalid limit; must be >= 640 or 0 for unlimited.",
	} {
		t.Run(variable, func(t *testing.T) {
			name, value, _ := strings.Cut(variable, "=")
			t.Setenv(name, value)
			var log bytes.Buffer
			logger := hclog.New(&hclog.LoggerOptions{Output: &log, Level: hclog.Info})
			got, err := start(t, single("echo"), runner.WithLogger(logger)).Run(t.Context(), "it works")
			require.NoError(t, err)
			assert.Equal(t, "it works", got)
			assert.Contains(t, log.String(), "workers do not get variables of the environment that can keep Python from starting; name those that they need in pass_env: variables="+name+"\n")

			log.Reset()
			r, err := load(t, single("echo", "pass_env: ["+name+"]"), runner.WithLogger(logger))
			require.NoError(t, err)
			err = r.Start(t.Context())
			var e *runner.Error
			require.ErrorAs(t, err, &e)
			assert.Equal(t, `python_vm error in node "echo" during start: the worker did not start: the interpreter exited with code 1, saying: `+reason, e.Error())
			assert.Equal(t, "correct or remove "+name+" from the environment of the node (env or pass_env in the manifest), which can keep Python from starting", e.Hint)
			assert.NotContains(t, log.String(), "workers do not get")
		})
	}
}

func TestAFolderForTemporaryFilesThatCannotBeUsed(t *testing.T) {
	for folder, reason := range map[string]string{
		"/gophersnake-none": "/gophersnake-none, cannot be used: no such file or directory",
		"/dev/null":         "/dev/null, cannot be used: not a directory",
		"/proc/1/none":      "/proc/1/none, cannot be used: no such file or directory",
	} {
		t.Setenv("TMPDIR", folder)
		r, err := load(t, single("echo"))
		require.NoError(t, err)
		var e *runner.Error
		require.ErrorAs(t, r.Start(t.Context()), &e)
		assert.Equal(t, `io error in node "echo" during start: the folder for temporary files, `+reason, e.Error())
		assert.Equal(t, "set TMPDIR to a folder that exists, can be written, and has free space and inodes, such as /tmp", e.Hint)
		t.Setenv("TMPDIR", "/tmp")
		require.NoError(t, r.Start(t.Context()), "the hint works")
	}
	r, err := load(t, single("environment", "python: isolated.py"))
	require.NoError(t, err)
	t.Chdir(t.TempDir())
	require.NoError(t, os.Mkdir("here", 0o700))
	t.Setenv("TMPDIR", "here")
	value, err := r.Run(t.Context(), []any{"TMPDIR"})
	require.NoError(t, err)
	folder, err := filepath.Abs("here")
	require.NoError(t, err)
	assert.Equal(t, map[string]any{"TMPDIR": folder}, value, "workers run in another folder")
}

func TestACacheFolderThatCannotBeWritten(t *testing.T) {
	t.Setenv("GOPHERSNAKE_CACHE", "/dev/null/cache")
	r, err := load(t, single("echo"))
	require.NoError(t, err)
	var e *runner.Error
	require.ErrorAs(t, r.Start(t.Context()), &e)
	assert.Equal(t, "io error during prepare the environment: cannot unpack the worker's Python package: mkdir /dev/null: not a directory", e.Error())
	assert.Equal(t, "choose another folder with --cache-dir or GOPHERSNAKE_CACHE", e.Hint)
}
