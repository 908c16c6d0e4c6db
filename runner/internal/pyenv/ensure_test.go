package pyenv

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// withInstallers runs a test with each installer.
func withInstallers(t *testing.T, test func(t *testing.T, python Interpreter, wheels string)) {
	for _, name := range installers {
		t.Run(name, func(t *testing.T) {
			python, wheels := isolated(t, name)
			test(t, python, wheels)
		})
	}
}

func TestEnsureCreatesAnEnvironment(t *testing.T) {
	withInstallers(t, func(t *testing.T, python Interpreter, wheels string) {
		wheel(t, wheels, "alpha", "1.0", "Requires-Dist: beta>=2")
		wheel(t, wheels, "beta", "2.5")
		wheel(t, wheels, "msgpack", "1.0.8")
		base, cache := t.TempDir(), t.TempDir()
		local := filepath.Base(wheel(t, base, "gamma", "3.0"))
		var stages, lines []string
		env, err := Ensure(t.Context(), Spec{
			Interpreter: python, Requirements: []string{"alpha==1.0  # the first", "", "msgpack<1.1", "./" + local}, Base: base, CacheDir: cache,
			Progress: func(p Progress) {
				if p.Line == "" {
					stages = append(stages, p.Stage)
				} else {
					lines = append(lines, p.Line)
				}
			},
		})
		require.NoError(t, err)
		assert.Equal(t, "1.0 2.5 3.0 1.0.8", inEnvironment(t, env,
			"import alpha, beta, gamma, msgpack as m; print(alpha.version, beta.version, gamma.version, m.version)"))
		assert.Equal(t, []string{"creating the environment", "installing alpha, msgpack, ./" + local}, stages)
		assert.NotEmpty(t, lines)
		assert.Equal(t, []string{"alpha==1.0", "msgpack<1.1", "./" + local}, env.Requirements)
		assert.Equal(t, filepath.Base(t.Name()), env.Installer)
		left, err := filepath.Glob(filepath.Join(envsDir(cache), "[^.]*"))
		require.NoError(t, err)
		assert.Equal(t, []string{env.Dir}, left, "only the environment is left")

		listed, err := List(cache)
		require.NoError(t, err)
		require.Len(t, listed, 1)
		assert.True(t, listed[0].Complete)
		assert.Equal(t, env.Python, listed[0].Python)
		assert.Equal(t, python.Version, listed[0].Interpreter.Version)
		assert.Positive(t, listed[0].Size)
	})
}

func TestReuseStartsNoProcess(t *testing.T) {
	python, _ := isolated(t, "uv")
	spec := Spec{Interpreter: python, Requirements: []string{}, CacheDir: t.TempDir()}
	made, err := Ensure(t.Context(), spec)
	require.NoError(t, err)

	// Any program that were started now would fail and leave a file.
	bomb := script(t, "python", "echo started >> '"+filepath.Join(spec.CacheDir, "started")+"'; exit 1")
	t.Setenv("PATH", filepath.Dir(bomb))
	spec.Interpreter.Path = bomb
	require.NoError(t, os.Remove(made.Python))
	require.NoError(t, os.Symlink(bomb, made.Python))
	spec.Progress = func(p Progress) { t.Error(p.Stage) }
	again, err := Ensure(t.Context(), spec)
	require.NoError(t, err)
	assert.Equal(t, made.Dir, again.Dir)
	assert.NoFileExists(t, filepath.Join(spec.CacheDir, "started"))
	assert.False(t, again.LastUsed.Before(made.LastUsed))
}

func TestAnIncompleteEnvironmentIsCreatedAgain(t *testing.T) {
	python, _ := isolated(t, "uv")
	for name, damage := range map[string]func(Environment) error{
		"the record is missing": func(e Environment) error { return os.Remove(filepath.Join(e.Dir, recordName)) },
		"the record is corrupt": func(e Environment) error {
			return os.WriteFile(filepath.Join(e.Dir, recordName), []byte("{"), 0o600)
		},
		"the interpreter is gone": func(e Environment) error {
			return errors.Join(os.Remove(e.Python), os.Symlink(filepath.Join(e.Dir, "gone"), e.Python))
		},
		"a build was interrupted": func(e Environment) error {
			return errors.Join(os.RemoveAll(e.Dir), os.MkdirAll(filepath.Join(e.Dir, "bin"), 0o700),
				os.MkdirAll(filepath.Join(e.Dir+workSuffix, "tmp", "x"), 0o700))
		},
	} {
		t.Run(name, func(t *testing.T) {
			spec := Spec{Interpreter: python, CacheDir: t.TempDir()}
			made, err := Ensure(t.Context(), spec)
			require.NoError(t, err)
			leftover := filepath.Join(made.Dir, "leftover")
			require.NoError(t, os.WriteFile(leftover, nil, 0o600))
			require.NoError(t, damage(made))
			again, err := Ensure(t.Context(), spec)
			require.NoError(t, err)
			assert.Equal(t, made.Dir, again.Dir)
			assert.NoFileExists(t, leftover)
			assert.NoDirExists(t, again.Dir+workSuffix)
			assert.Equal(t, "1.1.0", inEnvironment(t, again, "import msgpack; print(msgpack.version)"))
		})
	}
}

func TestOnlyOneGoroutineBuilds(t *testing.T) {
	python, _ := isolated(t, "uv")
	spec := Spec{Interpreter: python, CacheDir: t.TempDir()}
	var built, together atomic.Int32
	spec.Progress = func(p Progress) {
		if p.Stage == "installing msgpack" && p.Line == "" {
			built.Add(1)
			assert.EqualValues(t, 1, together.Add(1))
			together.Add(-1)
		}
	}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			env, err := Ensure(t.Context(), spec)
			if assert.NoError(t, err) {
				assert.True(t, env.Complete)
			}
		})
	}
	all.Wait()
	assert.EqualValues(t, 1, built.Load())
}

func TestOnlyOneProcessBuilds(t *testing.T) {
	python, _ := isolated(t, "uv")
	spec := Spec{Interpreter: python, CacheDir: t.TempDir()}
	outputs := make([]string, 3)
	var all sync.WaitGroup
	for i := range outputs {
		cmd := anotherProcess(t, task{Ensure: &order{spec.Interpreter, spec.Requirements, spec.CacheDir, spec.Base}})
		all.Go(func() {
			out, err := cmd.CombinedOutput()
			assert.NoError(t, err, string(out))
			outputs[i] = string(out)
		})
	}
	all.Wait()
	assert.Equal(t, 1, strings.Count(strings.Join(outputs, ""), "installing msgpack\n"), "%q", outputs)
}

func TestWaitingForTheLockEndsWithTheContext(t *testing.T) {
	python, _ := isolated(t, "uv")
	spec := Spec{Interpreter: python, CacheDir: t.TempDir()}
	b, err := newBuild(spec)
	require.NoError(t, err)
	unlock, err := b.lock(t.Context())
	require.NoError(t, err)

	stop := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	spec.Progress = func(p Progress) {
		assert.Equal(t, "waiting for another process that builds the same environment", p.Stage)
		cancel(stop)
	}
	_, err = Ensure(ctx, spec)
	require.ErrorIs(t, fault(t, err), stop)
	unlock()
	assertEmpty(t, spec.CacheDir)
}

// blockingPackage makes a package whose build writes to a pipe and then never ends.
func blockingPackage(t *testing.T, base, pipe string) {
	t.Helper()
	dir := filepath.Join(base, "blocking")
	require.NoError(t, os.Mkdir(dir, 0o700))
	for name, content := range map[string]string{
		"pyproject.toml": "[build-system]\nrequires = []\nbuild-backend = \"backend\"\nbackend-path = [\".\"]\n" +
			"[project]\nname = \"blocking\"\nversion = \"1\"\n",
		"backend.py": "import signal\ndef build_wheel(*_):\n    held = open('" + pipe + "', 'w')\n" +
			"    print('building', file=held, flush=True)\n    while True: signal.pause()\n" +
			"prepare_metadata_for_build_wheel = build_wheel\n",
	} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600))
	}
}

func TestCancellationLeavesNothing(t *testing.T) {
	tryInstallers(t, func(t *testing.T, python Interpreter, _ string) {
		base, pipe := t.TempDir(), pipe(t)
		blockingPackage(t, base, pipe)
		spec := Spec{Interpreter: python, Requirements: []string{"./blocking"}, Base: base, CacheDir: t.TempDir()}
		stop := errors.New("enough")
		ctx, cancel := context.WithCancelCause(t.Context())
		failed := make(chan error)
		go func() {
			_, err := Ensure(ctx, spec)
			failed <- err
		}()
		held, err := os.Open(pipe) // returns when the build has begun
		require.NoError(t, err)
		defer held.Close()
		cancel(stop)
		e := fault(t, <-failed)
		require.ErrorIs(t, e, stop)
		assert.Contains(t, e.Error(), "install ")
		assertEmpty(t, spec.CacheDir)
		// The pipe ends when the process of the build has ended.
		output, err := readAll(held)
		require.NoError(t, err)
		assert.Contains(t, []string{"", "building\n"}, output)
	})
}

func TestUnsatisfiableRequirement(t *testing.T) {
	tryInstallers(t, func(t *testing.T, python Interpreter, wheels string) {
		wheel(t, wheels, "alpha", "1.0")
		spec := Spec{Interpreter: python, Requirements: []string{"alpha==99"}, CacheDir: t.TempDir()}
		_, err := Ensure(t.Context(), spec)
		e := fault(t, err)
		assert.Contains(t, e.Error(), "cannot install alpha: ")
		assert.Contains(t, e.Output, "alpha==99")
		assert.Contains(t, e.Hint, "correct the pipeline's requirements")
		assert.NotNil(t, e.Cause)
		assertEmpty(t, spec.CacheDir)
	})
}

func TestARequirementThatConflictsWithTheWorkers(t *testing.T) {
	python, wheels := isolated(t, "uv")
	wheel(t, wheels, "msgpack", "0.6.2")
	_, err := Ensure(t.Context(), Spec{Interpreter: python, Requirements: []string{"msgpack==0.6.2"}, CacheDir: t.TempDir()})
	assert.Contains(t, fault(t, err).Output, "msgpack>=1.0.5,<2")
}

// The package for annotations has no bounds: a pipeline may pin any version of it.
func TestAPinOfTheTypesPackageIsKept(t *testing.T) {
	withInstallers(t, func(t *testing.T, python Interpreter, wheels string) {
		content, err := os.ReadFile(wheel(t, wheels, "msgspec", "0.9.0"))
		require.NoError(t, err)
		hashed := fmt.Sprintf("msgspec==0.9.0 --hash=sha256:%x", sha256.Sum256(content))
		for _, line := range []string{"msgspec==0.9.0", hashed} {
			env, err := Ensure(t.Context(), Spec{Interpreter: python, Requirements: []string{line}, CacheDir: t.TempDir()})
			require.NoError(t, err)
			assert.Equal(t, "0.9.0 1.1.0", inEnvironment(t, env, "import msgspec, msgpack; print(msgspec.version, msgpack.version)"))
		}
	})
}

func TestRequirementsWithHashes(t *testing.T) {
	tryInstallers(t, func(t *testing.T, python Interpreter, wheels string) {
		content, err := os.ReadFile(wheel(t, wheels, "alpha", "1.0"))
		require.NoError(t, err)
		line := fmt.Sprintf("alpha==1.0 --hash=sha256:%x", sha256.Sum256(content))
		env, err := Ensure(t.Context(), Spec{Interpreter: python, Requirements: []string{line}, CacheDir: t.TempDir()})
		require.NoError(t, err)
		assert.Equal(t, "1.0 1.1.0", inEnvironment(t, env, "import alpha, msgpack; print(alpha.version, msgpack.version)"))
	})
}

func TestAChangedLocalRequirementIsInstalledAgain(t *testing.T) {
	python, _ := isolated(t, "uv")
	spec := localSpec(t, python)
	first, err := Ensure(t.Context(), spec)
	require.NoError(t, err)
	wheel(t, filepath.Join(spec.Base, "mine"), "alpha", "1.0", "Summary: changed")
	changed, err := Ensure(t.Context(), spec)
	require.NoError(t, err)
	assert.NotEqual(t, first.Dir, changed.Dir)
}

// localSpec returns a spec that requires a local wheel.
func localSpec(t *testing.T, python Interpreter) Spec {
	t.Helper()
	base := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(base, "mine"), 0o700))
	file := wheel(t, filepath.Join(base, "mine"), "alpha", "1.0")
	return Spec{Interpreter: python, Requirements: []string{"./mine/" + filepath.Base(file)}, Base: base, CacheDir: t.TempDir()}
}

func TestPipInstallsLinesWithOptionsThatUVDoesNotSupport(t *testing.T) {
	python, _ := isolated(t, "uv")
	env, err := Ensure(t.Context(), Spec{Interpreter: python, Requirements: []string{"--prefer-binary"}, CacheDir: t.TempDir()})
	require.NoError(t, err)
	assert.Equal(t, "pip", env.Installer)
}

func TestInterpretersThatLackModules(t *testing.T) {
	for _, c := range []struct {
		without []string
		message string
	}{
		{[]string{"venv"}, "has no venv module, and there is no uv on PATH"},
		{[]string{"ensurepip"}, "has no ensurepip module and no pip"},
	} {
		isolated(t, "pip")
		python := strippedPython(t, c.without...)
		spec := Spec{Interpreter: python, CacheDir: t.TempDir()}
		_, err := Ensure(t.Context(), spec)
		e := fault(t, err)
		assert.Contains(t, e.Message, c.message)
		assert.Contains(t, e.Hint, "install uv")
		assertEmpty(t, spec.CacheDir)
	}
}

func TestPipOfTheInterpreterItself(t *testing.T) {
	real, _ := isolated(t, "pip")
	env, err := Ensure(t.Context(), Spec{Interpreter: pythonWithPip(t, real), CacheDir: t.TempDir()})
	require.NoError(t, err)
	assert.Equal(t, "1.1.0", inEnvironment(t, env, "import msgpack; print(msgpack.version)"))
}

func TestAnInterpreterThatIsAVirtualEnvironment(t *testing.T) {
	withInstallers(t, func(t *testing.T, python Interpreter, wheels string) {
		outer := filepath.Join(t.TempDir(), "outer")
		out, err := exec.Command(python.builder(), "-m", "venv", "--without-pip", outer).CombinedOutput()
		require.NoError(t, err, string(out))
		virtual, err := Find(t.Context(), FindOptions{Explicit: outer})
		require.NoError(t, err)
		assert.True(t, virtual.Virtual)
		inner, err := Ensure(t.Context(), Spec{Interpreter: virtual, CacheDir: t.TempDir()})
		require.NoError(t, err)
		require.NoError(t, os.RemoveAll(outer))
		assert.Equal(t, "1.1.0", inEnvironment(t, inner, "import msgpack; print(msgpack.version)"))
	})
}

func TestACacheThatCannotBeWritten(t *testing.T) {
	python, _ := isolated(t, "pip")
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	_, err := Ensure(t.Context(), Spec{Interpreter: python, CacheDir: filepath.Join(file, "cache")})
	e := fault(t, err)
	assert.Contains(t, e.Error(), "not a directory")
	assert.Contains(t, e.Hint, "--cache-dir")
}

func TestAContextThatHasEnded(t *testing.T) {
	python, _ := isolated(t, "pip")
	stop := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(stop)
	cache := t.TempDir()
	_, err := Ensure(ctx, Spec{Interpreter: python, CacheDir: cache})
	require.ErrorIs(t, fault(t, err), stop)
	assertEmpty(t, cache)
}
