package isolation

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// result is the output and the exit code of a program.
type result struct {
	out, err string
	code     int
}

// python returns an interpreter, and the paths that it must be able to read.
func python(t *testing.T) (string, []string) {
	t.Helper()
	name := os.Getenv("GOPHERSNAKE_PYTHON")
	if name == "" {
		name = "python3"
	}
	path, err := exec.LookPath(name)
	require.NoError(t, err)
	out, err := exec.Command(path, "-c", "import sys; print(sys.executable); print(sys.base_prefix, end='')").Output()
	require.NoError(t, err)
	executable, prefix, _ := bytes.Cut(out, []byte("\n"))
	real, err := filepath.EvalSymlinks(string(executable))
	require.NoError(t, err)
	return string(executable), []string{real, filepath.Dir(filepath.Dir(string(executable))), string(prefix)}
}

// needs skips a test if this system cannot enforce the profile.
func needs(t *testing.T, p *Profile) {
	t.Helper()
	if missing := p.Missing(); len(missing) > 0 {
		t.Skip(missing)
	}
}

// start starts a Python program under a profile.
func start(t *testing.T, p Profile, code string, write ...string) (*exec.Cmd, *Sandbox, *bytes.Buffer, *bytes.Buffer) {
	t.Helper()
	needs(t, &p)
	interpreter, read := python(t)
	p.Read = append(p.Read, read...)
	cmd := exec.Command(interpreter, "-c", code)
	cmd.Env = []string{"PATH=/usr/bin:/bin"}
	var out, err bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &err
	sandbox, fault := p.Start(cmd, write...)
	require.NoError(t, fault)
	t.Cleanup(sandbox.Remove)
	return cmd, sandbox, &out, &err
}

// run runs a Python program under a profile.
func run(t *testing.T, p Profile, code string, write ...string) result {
	t.Helper()
	cmd, sandbox, out, err := start(t, p, code, write...)
	_ = cmd.Wait()
	sandbox.Remove()
	return result{out.String(), err.String(), cmd.ProcessState.ExitCode()}
}
