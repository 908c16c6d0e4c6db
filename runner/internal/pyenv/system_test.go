package pyenv

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// systemPython creates an environment with some packages and returns its interpreter.
func systemPython(t *testing.T, requirements ...string) Interpreter {
	t.Helper()
	python, wheels := isolated(t, "uv")
	wheel(t, wheels, "alpha", "1.4", "Provides-Extra: fast", `Requires-Dist: beta>=2; extra == "fast"`)
	wheel(t, wheels, "beta", "1.0")
	cache := t.TempDir()
	env, err := Ensure(t.Context(), Spec{Interpreter: python, Requirements: requirements, CacheDir: cache})
	require.NoError(t, err)
	found, err := Find(t.Context(), FindOptions{Explicit: env.Python, CacheDir: cache})
	require.NoError(t, err)
	return found
}

// withPackaging makes pip, from the base interpreter, importable in the environment.
func withPackaging(t *testing.T, python Interpreter) {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(python.BasePrefix, "lib", "python3*", "site-packages", "pip"))
	require.NoError(t, err)
	if len(found) == 0 {
		t.Skip("the base interpreter has no pip")
	}
	packages := t.TempDir()
	require.NoError(t, os.Symlink(found[0], filepath.Join(packages, "pip")))
	t.Setenv("PYTHONPATH", packages)
}

func TestSystem(t *testing.T) {
	for name, rough := range map[string]bool{"with packaging": false, "without": true} {
		t.Run(name, func(t *testing.T) {
			python := systemPython(t, "alpha", "beta")
			if !rough {
				withPackaging(t, python)
			}
			require.NoError(t, System(t.Context(), python, []string{
				"alpha>=1.0,<2", "Alpha ~= 1.1", "alpha==1.*", "alpha!=1.5", "beta", "-i https://example.com", "./folder",
				"https://example.com/x.whl", `nothing; python_version < "3"`, "alpha==1.4 --hash=sha256:00",
			}))
			e := fault(t, System(t.Context(), python, []string{"alpha>=2", "alpha==1.3.*", "gamma", "beta ~= 1.1"}))
			for _, want := range []string{"alpha>=2 (1.4 is installed)", "alpha==1.3.* (1.4", "gamma (not installed)", "beta ~= 1.1 (1.0"} {
				assert.Contains(t, e.Message, want)
			}
			assert.NotContains(t, e.Message, "msgpack")
			assert.Contains(t, e.Hint, python.Path+" -m pip install 'alpha>=2'")
			assert.Equal(t, rough, strings.Contains(e.Hint, "compared roughly"))
		})
	}
}

func TestSystemEvaluatesMarkersAndExtras(t *testing.T) {
	python := systemPython(t, "alpha", "beta")
	withPackaging(t, python)
	e := fault(t, System(t.Context(), python, []string{`gamma; python_version >= "3"`, "alpha[fast]", "alpha[slow]", "not a requirement!"}))
	assert.Contains(t, e.Message, "gamma")
	assert.Contains(t, e.Message, `beta>=2; extra == "fast" (1.0 is installed)`)
	assert.Contains(t, e.Message, "alpha[slow] (alpha 1.4 has no extra named slow)")
	assert.Contains(t, e.Message, "not a requirement! (")
}

func TestSystemNeedsMsgpack(t *testing.T) {
	isolated(t, "pip")
	python := strippedPython(t)
	e := fault(t, System(t.Context(), python, nil))
	assert.Contains(t, e.Message, "msgpack>=1.0.5,<2 (not installed)")
	has, err := ToolingOf(t.Context(), python)
	require.NoError(t, err)
	assert.Equal(t, Tooling{Venv: true, Ensurepip: true}, has)
}

func TestSystemEndsWithTheContext(t *testing.T) {
	python, _ := isolated(t, "pip")
	stop := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(stop)
	require.ErrorIs(t, fault(t, System(ctx, python, nil)), stop)
}
