package procs

import (
	"bufio"
	"os"
	"os/exec"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestAProcessIsFoundByItsParentAndItsEnvironment(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("needs /proc")
	}
	before, err := Look()
	require.NoError(t, err)
	// After the child's first line, its environment is visible.
	child := exec.Command("sh", "-c", "echo up; read end; exit 0")
	child.Env = []string{"PROCS_TEST=this one", "PROCS_TEST_FOLDER=/a/b"}
	input, err := child.StdinPipe()
	require.NoError(t, err)
	output, err := child.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, child.Start())
	_, err = bufio.NewReader(output).ReadString('\n')
	require.NoError(t, err)

	pid := child.Process.Pid
	assert.Contains(t, Children(os.Getpid()), pid)
	assert.Contains(t, Descendants(os.Getpid()), pid)
	assert.True(t, IsBelow(pid))
	assert.False(t, IsBelow(os.Getpid()))
	assert.Equal(t, []int{pid}, With("PROCS_TEST=this one"))
	assert.Empty(t, With("PROCS_TEST=this"))
	assert.Equal(t, []int{pid}, With("PROCS_TEST_FOLDER=/a"))
	assert.Positive(t, Resident(pid))
	assert.Zero(t, Segments(pid))
	now, err := Look()
	require.NoError(t, err)
	assert.Equal(t, before.Children+1, now.Children)

	require.NoError(t, input.Close())
	require.NoError(t, child.Wait())
	assert.False(t, IsBelow(pid))
	assert.Zero(t, Resident(pid))
	assert.Zero(t, Segments(pid))
	assert.Empty(t, With("PROCS_TEST=this one"))
}

func TestSinceNamesWhatIsLeft(t *testing.T) {
	before := Residue{Descriptors: 5, Named: []string{"a"}}
	require.NoError(t, before.Since(before))
	for says, now := range map[string]Residue{
		"6 descriptors":     {Descriptors: 6},
		"1 segments":        {Segments: 1},
		"/dev/shm":          {Named: []string{"a", "b"}},
		"1 child processes": {Children: 1},
	} {
		require.ErrorContains(t, now.Since(before), says)
	}
}
