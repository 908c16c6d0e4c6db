package worker

import (
	"testing"

	"github.com/stretchr/testify/assert"
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
