package worker

import (
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestAStatIsParsedWhateverTheProcessIsNamed(t *testing.T) {
	stat, err := parseStat([]byte("77 (a) S 1 (b) T 1 42 42 0 -1 4194304 100 0 0 0 7 3 20 10 20 0 1 0 5 1000 25 18446744073709551615\n"))
	require.NoError(t, err)
	assert.Equal(t, procStat{state: 'T', parent: 1, group: 42, cpu: 100 * time.Millisecond, childrenCPU: 300 * time.Millisecond, threads: 1, resident: 25 * pageSize}, stat)
	for _, text := range []string{"", "77 (a", "77 (a) S 1 2"} {
		_, err = parseStat([]byte(text))
		require.Error(t, err, text)
	}
	stat, err = readStat(procFolder(os.Getpid()))
	require.NoError(t, err)
	assert.Greater(t, stat.resident, int64(mega))
}

// The supervisor sends segments on the channel, and a file on that of the reaper, which a
// worker still has when it has just been forked.
func TestDescriptorsThatTheSupervisorSendsAreNotHidden(t *testing.T) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	sent, received := os.NewFile(uintptr(fds[0]), "sent"), os.NewFile(uintptr(fds[1]), "received")
	defer sent.Close()
	defer received.Close()
	_, before := make(memoryFiles).addOpen(os.Getpid(), [2]uint64{})
	require.NoError(t, unix.Sendmsg(int(sent.Fd()), []byte("adopted"), unix.UnixRights(0), nil, 0))
	_, queued := make(memoryFiles).addOpen(os.Getpid(), [2]uint64{})
	if queued == before {
		t.Skip("this kernel does not show the descriptors in a socket")
	}
	for i := range 2 {
		var own [2]uint64
		own[i] = inodeOf(received)
		_, queued = make(memoryFiles).addOpen(os.Getpid(), own)
		require.Equal(t, before, queued)
	}
}
