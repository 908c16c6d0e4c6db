package pyenv

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAnInterpreterDiesWithTheSupervisor(t *testing.T) {
	pipe := pipe(t)
	endless := script(t, "python", "exec 3>'"+pipe+"'; echo here >&3; exec tail -f /dev/null")
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
