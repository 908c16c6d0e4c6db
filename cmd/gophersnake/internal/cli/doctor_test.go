package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/fixtures"
	"github.com/gophersnake/gophersnake/runner"
)

// doctor runs the command doctor and returns its exit code and the findings by name.
func doctor(t *testing.T, args ...string) (int, map[string]runner.Finding) {
	t.Helper()
	got := command(t, append([]string{"doctor", "-o", "json", "--cache-dir", t.TempDir()}, args...)...)
	var checks []runner.Finding
	require.NoError(t, json.Unmarshal([]byte(got.out), &checks), got.out+got.err)
	named := make(map[string]runner.Finding)
	for _, c := range checks {
		assert.NotContains(t, named, c.Name)
		assert.NotEmpty(t, c.Detail, c.Name)
		named[c.Name] = c
	}
	return got.code, named
}

func TestDoctor(t *testing.T) {
	python, err := runner.FindInterpreter(t.Context())
	require.NoError(t, err)
	_, checks := doctor(t)
	for _, name := range []string{"platform", "python", "other pythons", "venv", "pip", "msgpack", "uv", "processes", "sockets", "open files", "cache"} {
		assert.Contains(t, checks, name)
	}
	assert.Equal(t, runner.FindingOK, checks["python"].Status)
	assert.Contains(t, checks["python"].Detail, python.Version+" at "+python.Path)
	assert.Contains(t, checks["python"].Detail, "from "+python.Source)
	text := command(t, "doctor", "--cache-dir", t.TempDir()).out
	assert.Regexp(t, `(?m)^ok +python +`, text)
}

func TestDoctorWithoutAnInterpreter(t *testing.T) {
	code, checks := doctor(t, "--python", "no-such-python")
	assert.Equal(t, 1, code)
	assert.Equal(t, runner.FindingFailure, checks["python"].Status)
	assert.Contains(t, checks["python"].Hint, "the next line lists")
	assert.Contains(t, checks, "other pythons")
	got := command(t, "doctor", "--python", "no-such-python", "--cache-dir", t.TempDir())
	assert.Contains(t, got.out, "1 check failed: pipelines do not run on this machine.")
}

func TestDoctorWithACacheThatIsAFile(t *testing.T) {
	file := fixtures.Write(t, "file", "")
	var checks []runner.Finding
	got := command(t, "doctor", "-o", "json", "--cache-dir", filepath.Join(file, "cache"))
	require.NoError(t, json.Unmarshal([]byte(got.out), &checks))
	assert.Equal(t, 1, got.code)
	last := checks[len(checks)-1]
	assert.Equal(t, "cache", last.Name)
	assert.Equal(t, runner.FindingFailure, last.Status)
	_, err := os.Stat(file)
	assert.NoError(t, err)
}
