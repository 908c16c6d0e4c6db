package cgroup

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestTheCgroupIsFound(t *testing.T) {
	const mounts = `25 30 0:23 / /sys rw,nosuid shared:7 - sysfs sysfs rw
31 25 0:27 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate
`
	for _, each := range []struct{ name, mounts, groups, want, fault string }{
		{"systemd", mounts, "0::/user.slice/run.scope\n", "/sys/fs/cgroup/user.slice/run.scope", ""},
		{"the root of a namespace", mounts, "0::/\n", "/sys/fs/cgroup", ""},
		{"beside v1", "9 1 0:1 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n", "4:memory:/a\n0::/b\n", "/sys/fs/cgroup/unified/b", ""},
		{"a part is mounted", "9 1 0:1 /a /cg rw - cgroup2 cgroup2 rw\n", "0::/a/b\n", "/cg/b", ""},
		{"another part is mounted", "9 1 0:1 /c /cg rw - cgroup2 cgroup2 rw\n", "0::/a/b\n", "", "no cgroup v2"},
		{"v1 alone", "9 1 0:1 / /cg rw - cgroup cgroup rw,pids\n", "4:pids:/a\n", "", "no cgroup v2"},
		{"nothing", "", "", "", "no cgroup v2"},
	} {
		got, err := find(each.mounts, each.groups)
		assert.Equal(t, each.want, got, each.name)
		if each.fault != "" {
			assert.ErrorContains(t, err, each.fault, each.name)
		} else {
			assert.NoError(t, err, each.name)
		}
	}
}

func TestAValueIsFoundByItsName(t *testing.T) {
	n, found := Value("MemAvailable:   12 kB\n", "MemAvailable:")
	assert.True(t, found)
	assert.EqualValues(t, 12, n)
	for _, text := range []string{"MemFree: 12 kB\n", "MemAvailable: many\n", "MemAvailable:\n", ""} {
		_, found = Value(text, "MemAvailable:")
		assert.False(t, found, text)
	}
}
