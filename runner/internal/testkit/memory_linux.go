package testkit

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// groupVariable names the cgroup that a process of InMemoryGroup joins.
const groupVariable = "GOPHERSNAKE_TEST_MEMORY_GROUP"

// InMemoryGroup makes a test run in a cgroup that limits memory, in bytes. It starts the
// calling test again, in another process of the test binary, checks that it passes there,
// and returns false: the caller returns, too. In that other process, InMemoryGroup joins
// the cgroup and returns true. It skips the test if this process cannot create such a
// cgroup.
func InMemoryGroup(t *testing.T, limit int64) bool {
	t.Helper()
	if group := os.Getenv(groupVariable); group != "" {
		require.NoError(t, os.WriteFile(filepath.Join(group, "cgroup.procs"), []byte(strconv.Itoa(os.Getpid())), 0))
		return true
	}
	group := newMemoryGroup(t, limit)
	self, err := os.Executable()
	require.NoError(t, err)
	again := exec.CommandContext(t.Context(), self, "-test.run=^"+t.Name()+"$", "-test.v")
	again.Env = append(os.Environ(), groupVariable+"="+group)
	output, err := again.CombinedOutput()
	require.NoError(t, err, "%s", output)
	assert.Contains(t, string(output), "--- PASS: "+t.Name())
	return false
}

// newMemoryGroup creates a cgroup, which the end of the test removes.
func newMemoryGroup(t *testing.T, limit int64) string {
	t.Helper()
	root, file := "/sys/fs/cgroup", "memory.max"
	if info, err := os.Stat(filepath.Join(root, "memory")); err == nil && info.IsDir() { // cgroup v1
		root, file = filepath.Join(root, "memory"), "memory.limit_in_bytes"
	}
	group := filepath.Join(root, fmt.Sprintf("gophersnake-test-%d-%s", os.Getpid(), t.Name()))
	if err := os.Mkdir(group, 0o755); err != nil {
		t.Skip("needs a cgroup of its own: ", err)
	}
	t.Cleanup(func() { assert.NoError(t, os.Remove(group)) })
	if err := os.WriteFile(filepath.Join(group, file), []byte(strconv.FormatInt(limit, 10)), 0); err != nil {
		t.Skip("needs a cgroup whose memory can be bounded: ", err)
	}
	return group
}
