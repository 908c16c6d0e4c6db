package runner_test

import (
	"testing"

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
