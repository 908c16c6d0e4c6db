package doctor

import (
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/runner/internal/isolation"
	"github.com/gophersnake/gophersnake/runner/internal/pyenv"
)

// examine returns the findings by name.
func examine(t *testing.T, config Config) map[string]Finding {
	t.Helper()
	if config.CacheDir == "" {
		config.CacheDir = t.TempDir()
	}
	named := make(map[string]Finding)
	for _, f := range Examine(t.Context(), config) {
		assert.NotContains(t, named, f.Name)
		assert.NotEmpty(t, f.Detail, f.Name)
		named[f.Name] = f
	}
	return named
}

func TestExamineFindsTheInterpreter(t *testing.T) {
	python, err := pyenv.Find(t.Context(), pyenv.FindOptions{})
	require.NoError(t, err)
	findings := examine(t, Config{})
	for _, name := range []string{"platform", "python", "other pythons", "venv", "pip", "msgpack", "uv", "containers", "processes", "sockets", "open files", "cache"} {
		assert.Contains(t, findings, name)
	}
	assert.Equal(t, OK, findings["python"].Status)
	assert.Contains(t, findings["python"].Detail, python.Version.String()+" at "+python.Path)
	assert.Contains(t, findings["python"].Detail, "from "+python.Source)
}

func TestExamineWithoutAnInterpreter(t *testing.T) {
	findings := examine(t, Config{Python: "no-such-python"})
	assert.Equal(t, Failure, findings["python"].Status)
	assert.Contains(t, findings["python"].Hint, "the next line lists")
	assert.Contains(t, findings, "other pythons")
}

func TestExamineWithoutUVAndPodman(t *testing.T) {
	python, err := pyenv.Find(t.Context(), pyenv.FindOptions{})
	require.NoError(t, err)
	t.Setenv("PATH", t.TempDir())
	findings := examine(t, Config{Python: python.Path})
	assert.Equal(t, Warning, findings["uv"].Status)
	assert.NotEmpty(t, findings["uv"].Hint)
	assert.Equal(t, Warning, findings["containers"].Status)
	assert.Contains(t, findings["containers"].Detail, "there is no podman on PATH")
	assert.Contains(t, findings["containers"].Hint, "install podman")

	lacking := checkVenv(python, pyenv.Tooling{Venv: true})
	assert.Equal(t, Failure, lacking.Status)
	assert.Contains(t, lacking.Hint, "install uv")
	assert.Equal(t, Failure, checkVenv(python, pyenv.Tooling{Pip: "25.0"}).Status)
	assert.Equal(t, OK, checkVenv(python, pyenv.Tooling{Venv: true, Pip: "25.0"}).Status)
	assert.Equal(t, Warning, checkPip(pyenv.Tooling{}).Status)
	assert.Equal(t, Failure, Config{SystemPython: true}.checkMsgpack(python, pyenv.Tooling{}).Status)
	assert.Equal(t, OK, Config{}.checkMsgpack(python, pyenv.Tooling{}).Status)
}

func TestExamineReportsEachIsolationMechanism(t *testing.T) {
	findings := examine(t, Config{})
	for _, m := range isolation.Probe() {
		got := findings[m.Name]
		assert.Contains(t, got.Detail, m.Detail)
		if m.Works {
			assert.Equal(t, OK, got.Status, m.Name)
			continue
		}
		assert.Equal(t, Warning, got.Status, "%s: a pipeline need not be isolated", m.Name)
		assert.Contains(t, got.Detail, m.Without)
		assert.Equal(t, m.Hint, got.Hint)
	}
}

func TestExamineSaysWhatEndsTheProcessesOfWorkers(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux has subreapers")
	}
	findings := examine(t, Config{})
	assert.Equal(t, OK, findings["reaper"].Status)
	assert.Contains(t, findings["reaper"].Detail, "a subreaper ends all that a worker starts")
}

func TestExamineWithACacheThatIsAFile(t *testing.T) {
	file, err := filepath.Abs("doctor.go")
	require.NoError(t, err)
	findings := examine(t, Config{CacheDir: filepath.Join(file, "cache")})
	assert.Equal(t, Failure, findings["cache"].Status)
	assert.NotEmpty(t, findings["cache"].Hint)
}
