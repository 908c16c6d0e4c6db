package testkit

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// unprivilegedVariable names the interpreter in a process of Unprivileged.
const unprivilegedVariable = "GOPHERSNAKE_TEST_UNPRIVILEGED"

const nobody = 65534 // a user id

// Unprivileged makes a test run as a user without privileges. It starts the calling test
// again as another user, in another process of the test binary, checks that it passes
// there, and returns false: the caller returns, too. In that other process, and if this
// one is not root's, it returns true and the interpreter to use, which has msgpack. It
// skips the test if other users have no interpreter.
//
// The other user gets copies of the folders, which the test finds under the same names in
// its working folder.
func Unprivileged(t *testing.T, folders ...string) (python string, here bool) {
	t.Helper()
	if python = os.Getenv(unprivilegedVariable); python != "" {
		return python, true
	}
	if os.Getuid() != 0 {
		return Python(t), true
	}
	root, err := os.MkdirTemp("", "gophersnake-unprivileged-")
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, os.RemoveAll(root)) })
	require.NoError(t, os.Chmod(root, 0o755))
	for _, folder := range folders {
		require.NoError(t, os.CopyFS(filepath.Join(root, folder), os.DirFS(folder)))
	}
	require.NoError(t, os.Mkdir(filepath.Join(root, "temp"), 0o777))
	require.NoError(t, os.Chown(filepath.Join(root, "temp"), nobody, nobody))
	copyFile(t, os.Args[0], filepath.Join(root, "test"))
	python = venvForOthers(t, filepath.Join(root, "venv"))

	user := &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	again := exec.CommandContext(t.Context(), filepath.Join(root, "test"), "-test.run=^"+t.Name()+"$", "-test.v")
	again.SysProcAttr, again.Dir = user, root
	temp := filepath.Join(root, "temp")
	again.Env = []string{"PATH=/usr/bin:/bin", "HOME=" + temp, "TMPDIR=" + temp, unprivilegedVariable + "=" + python}
	output, err := again.CombinedOutput()
	require.NoError(t, err, "%s", output)
	assert.Contains(t, string(output), "--- PASS: "+t.Name())
	return "", false
}

// venvForOthers creates a virtual environment with msgpack, based on an interpreter that
// every user can run. It skips the test if there is none.
func venvForOthers(t *testing.T, folder string) (python string) {
	t.Helper()
	for _, base := range []string{os.Getenv("GOPHERSNAKE_PYTHON"), "/usr/bin/python3", "/usr/local/bin/python3"} {
		if base == "" || exec.Command(base, "-m", "venv", "--without-pip", folder).Run() != nil {
			continue
		}
		probe := exec.Command(filepath.Join(folder, "bin", "python"), "-c", "import sysconfig; print(sysconfig.get_path('purelib'), end='')")
		probe.SysProcAttr, probe.Dir = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}, "/"
		packages, err := probe.Output()
		if err != nil {
			continue
		}
		found, err := exec.Command(Python(t), "-c", "import msgpack; print(msgpack.__path__[0], end='')").Output()
		require.NoError(t, err)
		installed, err := filepath.Glob(string(found) + "*") // the package and its metadata
		require.NoError(t, err)
		for _, each := range installed {
			require.NoError(t, os.CopyFS(filepath.Join(string(packages), filepath.Base(each)), os.DirFS(each)))
		}
		return probe.Path
	}
	t.Skip("other users have no interpreter here")
	return ""
}

// copyFile copies a program.
func copyFile(t *testing.T, from, to string) {
	t.Helper()
	content, err := os.ReadFile(from)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(to, content, 0o755))
}
