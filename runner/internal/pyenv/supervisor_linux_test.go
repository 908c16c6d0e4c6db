package pyenv

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

// The program is not the only process that ends: its children hold the pipe, too.
func TestAnInterpreterAndItsChildrenDieWithTheSupervisor(t *testing.T) {
	pipe := pipe(t)
	endless := script(t, "python", "exec 4>'"+pipe+"'; tail -f /dev/null & echo here >&4; exec tail -f /dev/null")
	supervisor := anotherProcess(t, task{Find: endless})
	require.NoError(t, supervisor.Start())
	held, err := os.Open(pipe)
	require.NoError(t, err)
	defer held.Close()
	require.NoError(t, supervisor.Process.Kill())
	_ = supervisor.Wait()
	_, err = readAll(held)
	require.NoError(t, err)
}
