package worker

import (
	"os"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner/internal/testkit"
)

func TestANodeThatCorruptsItsConnectionBreaksIt(t *testing.T) {
	for _, c := range []struct{ way, says string }{
		{"close_the_socket", "closed by the worker"},
		{"shut_the_socket", "closed by the worker"},
		{"write_into_the_socket", "a frame begins with byte 0x67"},
	} {
		t.Run(c.way, func(t *testing.T) {
			t.Parallel()
			for range 5 { // the host and the worker race to find out
				w := start(t, testConfig(t, "misbehave"))
				_, err := call(t.Context(), w, way(c.way))
				var broken *BrokenError
				require.ErrorAs(t, err, &broken)
				assert.ErrorContains(t, err, c.says)
				assert.Equal(t, ReasonBroken, broken.Exit.Reason)
				assert.True(t, testkit.Gone(w.PID()))
			}
		})
	}
}

func TestAWorkerWhoseConnectionEndsWhileItIsIdleIsBroken(t *testing.T) {
	w := start(t, testConfig(t, "echo"))
	w.conn.Close() // as after garbage that arrived while no call was under way
	<-w.Done()
	assert.Equal(t, ReasonBroken, w.Exit().Reason)
	assert.Contains(t, w.Exit().Error(), "because its connection broke")
}

// TestAnExitWithCode0LeavesNoZombie is about a node that exits during a call as if it
// had succeeded.
func TestAnExitWithCode0LeavesNoZombie(t *testing.T) {
	w := start(t, testConfig(t, "misbehave"))
	_, err := call(t.Context(), w, way("exit_with_0"))
	var exit *Exit
	require.ErrorAs(t, err, &exit)
	assert.Equal(t, ReasonSelf, exit.Reason)
	assert.Contains(t, exit.Error(), "the node called os._exit(0)")
	assert.False(t, w.Alive())
	var status syscall.WaitStatus
	_, err = syscall.Wait4(w.PID(), &status, syscall.WNOHANG, nil)
	require.ErrorIs(t, err, syscall.ECHILD, "it was waited for")
	_, err = os.Stat(procFolder(w.PID()))
	require.ErrorIs(t, err, os.ErrNotExist)
	_, err = call(t.Context(), w, way("exit_with_0"))
	var remote *ipc.RemoteError
	assert.NotErrorAs(t, err, &remote)
	require.Error(t, err, "it is not taken for alive")
}
