package worker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestTheKernelsCountOfOOMKillsIsFound(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       int64
	}{
		{"cgroup v2", "low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 0\n", 2},
		{"cgroup v1", "oom_kill_disable 0\nunder_oom 0\noom_kill 7\n", 7},
		{"vmstat", "nr_free_pages 1\noom_kill 1\npgfault 3\n", 1},
		{"an old kernel", "oom_kill_disable 0\nunder_oom 0\n", oomUnknown},
		{"nothing", "", oomUnknown},
		{"nonsense", "oom_kill many\n", oomUnknown},
	} {
		t.Run(c.name, func(t *testing.T) { assert.Equal(t, c.want, parseOOMKills(c.text)) })
	}
}

func TestTheNarrowestCountOfOOMKillsIsTakenFirst(t *testing.T) {
	for _, c := range []struct {
		name, groups string
		want         []string
	}{
		{"cgroup v2", "0::/user.slice/app.scope\n", []string{
			"/sys/fs/cgroup/user.slice/app.scope/memory.events", "/sys/fs/cgroup/memory.events", "/proc/vmstat",
		}},
		{"cgroup v1 and an empty v2", "9:name=systemd:/\n4:memory:/docker/1\n0::/\n", []string{
			"/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory.events",
			"/sys/fs/cgroup/memory/docker/1/memory.oom_control", "/sys/fs/cgroup/memory/memory.oom_control", "/proc/vmstat",
		}},
		{"none", "", []string{"/proc/vmstat"}},
		{"nonsense", "a\nb:c\n", []string{"/proc/vmstat"}},
	} {
		t.Run(c.name, func(t *testing.T) { assert.Equal(t, c.want, oomFiles(c.groups)) })
	}
}

// eatMemory is the main function of a supervisor whose worker allocates memory without
// end. It begins when it can read a line, and prints how the worker ended.
func eatMemory() {
	_, _ = fmt.Scanln()
	config := nodeConfig("python3", "misbehave")
	w, err := Start(context.Background(), config)
	if err == nil {
		_, err = call(context.Background(), w, way("eat"))
	}
	var exit *Exit
	fmt.Println(errors.As(err, &exit) && exit.OutOfMemory, err)
}

func TestAnOOMKillIsKnown(t *testing.T) {
	group, procs, limit := "/sys/fs/cgroup/gophersnake-test-"+strconv.Itoa(os.Getpid()), "cgroup.procs", "memory.max"
	if info, err := os.Stat("/sys/fs/cgroup/memory"); err == nil && info.IsDir() {
		group, limit = filepath.Join("/sys/fs/cgroup/memory", filepath.Base(group)), "memory.limit_in_bytes"
	}
	if err := os.Mkdir(group, 0o755); err != nil {
		t.Skip("needs a cgroup of its own: ", err)
	}
	t.Cleanup(func() { assert.NoError(t, os.Remove(group)) })
	if err := os.WriteFile(filepath.Join(group, limit), []byte(strconv.Itoa(192<<20)), 0); err != nil {
		t.Skip("needs a cgroup whose memory can be bounded: ", err)
	}
	self, err := os.Executable()
	require.NoError(t, err)
	supervisor := exec.Command(self)
	supervisor.Env = append(os.Environ(), "GOPHERSNAKE_TEST_MEMORY_EATER=1")
	supervisor.Stderr = os.Stderr
	in, err := supervisor.StdinPipe()
	require.NoError(t, err)
	var out strings.Builder
	supervisor.Stdout = &out
	require.NoError(t, supervisor.Start())
	err = os.WriteFile(filepath.Join(group, procs), []byte(strconv.Itoa(supervisor.Process.Pid)), 0)
	_, _ = fmt.Fprintln(in)
	require.NoError(t, supervisor.Wait())
	require.NoError(t, err)
	assert.Contains(t, out.String(), "true the kernel killed the interpreter because memory ran out")
}
