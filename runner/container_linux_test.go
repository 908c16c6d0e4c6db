package runner_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/internal/testkit"
)

// image is the name of the image that the tests import.
const image = "localhost/gophersnake-test:1"

// describePython prints the files that an interpreter needs: its program, its library, the
// libraries of both that the system has, and the package msgpack.
const describePython = `
import msgpack, os, subprocess, sys, sysconfig
program, library = os.path.realpath(sys.executable), sysconfig.get_path("stdlib")
programs = [program] + [os.path.join(f, n) for f, _, names in os.walk(os.path.join(library, "lib-dynload")) for n in names if n.endswith(".so")]
needed = {word for word in subprocess.run(["ldd", *programs], capture_output=True, text=True).stdout.split() if word.startswith("/") and not word.endswith(":")}
print(program, library, os.path.dirname(msgpack.__file__), *sorted(needed), sep="\n")
`

// containers imports an image that has the interpreter of this machine into a store of its own,
// and skips the test if podman cannot run a container of it. It returns the value of the field
// container.
func containers(t *testing.T) (container string) {
	t.Helper()
	if _, err := exec.LookPath("podman"); err != nil {
		t.Skip("there is no podman")
	}
	store := t.TempDir()
	conf := "[containers]\ndefault_ulimits = [\"nofile=1024:4096\", \"nproc=4096:4096\"]\n[engine]\ncgroup_manager = \"cgroupfs\"\n"
	if _, err := exec.LookPath("runc"); err == nil {
		conf += "runtime = \"runc\"\n"
	}
	storage := fmt.Sprintf("[storage]\ndriver = \"overlay\"\ngraphroot = %q\nrunroot = %q\n", filepath.Join(store, "graph"), filepath.Join(store, "run"))
	for name, text := range map[string]string{"CONTAINERS_CONF": conf, "CONTAINERS_STORAGE_CONF": storage} {
		file := filepath.Join(store, name)
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
		t.Setenv(name, file)
	}
	python := importImage(t)
	out, err := exec.CommandContext(t.Context(), "podman", "run", "--rm", "--network=none", image, python, "-c", "import msgpack").CombinedOutput()
	if err != nil {
		t.Skipf("podman cannot run a container here: %s", out)
	}
	t.Cleanup(func() {
		testkit.Eventually(t, func() bool { // podman removes a container after its end
			left, err := exec.Command("podman", "ps", "--all", "--quiet").Output()
			return err == nil && len(left) == 0
		}, "a container was left")
		testkit.Eventually(t, func() bool {
			return !slices.ContainsFunc(testkit.Descendants(t, os.Getpid()), testkit.IsZombie)
		}, "podman was reaped")
		_ = exec.Command("podman", "system", "reset", "--force").Run()
	})
	return fmt.Sprintf("{image: %q, python: %q}", image, python)
}

// importImage imports the files that the interpreter of the tests needs, with the paths that
// they have here, and returns the path of the interpreter.
func importImage(t *testing.T) (python string) {
	t.Helper()
	env, err := runner.EnsureEnvironment(t.Context(), nil)
	require.NoError(t, err)
	out, err := exec.CommandContext(t.Context(), env.Python, "-c", describePython).Output()
	require.NoError(t, err)
	files := strings.Split(strings.TrimSpace(string(out)), "\n")
	library, packages := files[1], filepath.Dir(files[2])
	tar := []string{"-C", "/", "-ch"}
	for _, unused := range []string{"site-packages", "dist-packages", "test", "config-*", "ensurepip", "idlelib", "lib2to3", "pydoc_data", "tkinter"} {
		tar = append(tar, "--exclude="+strings.TrimPrefix(filepath.Join(library, unused), "/"))
	}
	for _, file := range files {
		tar = append(tar, strings.TrimPrefix(file, "/"))
	}
	archive := filepath.Join(t.TempDir(), "image.tar")
	out, err = exec.CommandContext(t.Context(), "tar", append([]string{"-f", archive}, tar...)...).CombinedOutput()
	require.NoError(t, err, "%s", out)
	out, err = exec.CommandContext(t.Context(), "podman", "import", "--change=ENV=PYTHONPATH="+packages, archive, image).CombinedOutput()
	require.NoError(t, err, "%s", out)
	return files[0]
}

func TestANodeRunsInAContainer(t *testing.T) {
	in := containers(t)
	t.Setenv("OF_THE_HOST", "secret")
	r := start(t, `nodes:
  - {id: inside, python: contained.py, node_type: inside, container: `+in+`, env: {ADDED: "yes"}, timeout: 1s, retry: {max_attempts: 1, base: 1ms}}
  - {id: outside, node_type: echo}
connections: [{from: inside, to: outside}]`)

	t.Run("its interpreter is that of the image", func(t *testing.T) {
		got, err := r.Run(t.Context(), "look")
		require.NoError(t, err)
		assert.Equal(t, map[string]any{"hosts_files": false, "added": "yes", "of_the_host": nil, "user": int64(os.Geteuid()), "capabilities": "0000000000000000"}, got)
	})
	t.Run("its code is described there", func(t *testing.T) {
		all, err := r.Describe(t.Context())
		require.NoError(t, err)
		assert.Equal(t, "inside", all[0].Name)
	})
	t.Run("it shares memory", func(t *testing.T) {
		large := make([]byte, 1<<20)
		got, err := r.Run(t.Context(), large)
		require.NoError(t, err)
		assert.Equal(t, large, got)
	})
	t.Run("its stream", func(t *testing.T) {
		s := open(t, r)
		feed(t, s, "a", "b")
		got, err := values(s)
		require.NoError(t, err)
		assert.Equal(t, []any{"a", "b"}, got)
	})
	for _, c := range []struct{ input, want string }{
		{"raise", "ValueError: no luck"},
		{"abort", "SIGSEGV"},
		{"exit", "os._exit(3)"},
		{"hang", "the interpreter hung: no answer within 1s"},
	} {
		t.Run(c.input, func(t *testing.T) {
			_, err := r.Run(t.Context(), c.input)
			require.Error(t, err)
			assert.ErrorContains(t, err, c.want)
			kind := runner.KindPythonVM
			if c.input == "raise" {
				kind = runner.KindExecution
			}
			assert.Equal(t, kind, runner.KindOf(err))
			got, err := r.Run(t.Context(), "after")
			require.NoError(t, err)
			assert.Equal(t, "after", got)
		})
	}
	t.Run("a reload", func(t *testing.T) {
		require.NoError(t, r.Reload(t.Context()))
		got, err := r.Run(t.Context(), "after")
		require.NoError(t, err)
		assert.Equal(t, "after", got)
	})
	t.Run("one that cannot run says why", func(t *testing.T) {
		for settings, want := range map[string]string{
			"container: dir:/no-such-image":                             "/no-such-image",
			"container: {image: " + image + ", python: no-such-python}": "no-such-python",
		} {
			r, err := load(t, single("echo", settings))
			require.NoError(t, err)
			err = r.Start(t.Context())
			require.Error(t, err)
			e := runner.AsError(err)
			assert.Equal(t, runner.KindPythonVM, e.Kind)
			assert.Contains(t, e.StderrTail, want)
			assert.Contains(t, e.Hint, "podman run --rm ")
			_, err = r.Describe(t.Context())
			assert.Contains(t, runner.AsError(err).StderrTail, want)
		}
	})
}

func TestWithoutPodmanANodeInAContainerIsRefused(t *testing.T) {
	t.Setenv("GOPHERSNAKE_PYTHON", pythonPath(t))
	t.Setenv("PATH", t.TempDir())
	r, err := load(t, single("echo", "container: python:3.12"))
	require.NoError(t, err)
	err = r.Start(t.Context())
	require.Error(t, err)
	e := runner.AsError(err)
	assert.Equal(t, runner.KindIO, e.Kind)
	assert.Equal(t, "echo", e.Node)
	assert.ErrorContains(t, err, "there is no podman on PATH")
	assert.Contains(t, e.Hint, "docker cannot pass the descriptors of a worker on")
}

func pythonPath(t *testing.T) string {
	t.Helper()
	found, err := runner.FindInterpreter(t.Context())
	require.NoError(t, err)
	return found.Path
}
