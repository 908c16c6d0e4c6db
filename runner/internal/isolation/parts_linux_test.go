package isolation

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/elastic/go-seccomp-bpf/arch"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/gophersnake/gophersnake/runner/internal/scratch"
)

func TestAProfilesSettings(t *testing.T) {
	any := func([]string) bool { return true }
	none := func([]string) bool { return false }
	assert.Empty(t, (&Profile{CPUs: 2, Processes: AnyNumber}).settings(any))
	p := Profile{CPUs: 1.5, Processes: 4, Memory: 1 << 30}
	assert.Equal(t, map[string]string{"pids.max": "5", "cpu.max": "150000 100000", "memory.max": "1073741824"}, p.settings(any))
	assert.Equal(t, []string{"cpu", "memory", "pids"}, controllersOf(p.settings(any)))
	assert.Equal(t, []string{"cpu", "pids"}, controllersOf(p.neededSettings()))
	assert.Equal(t, "processes: 4 and cpus: 1.5", cgroupLimits(&p))
	assert.Equal(t, "1000 100000", (&Profile{CPUs: 0.001}).settings(any)["cpu.max"])
	for want, p := range map[string]Profile{
		"256": {Threads: 256}, "64": {Threads: 64, Processes: AnyNumber}, "8": {Threads: 256, Processes: 7}, "4": {Threads: 4, Processes: 7},
	} {
		assert.Equal(t, want, p.settings(any)["pids.max"])
	}
	assert.Empty(t, (&Profile{Threads: 256, Memory: 1 << 30}).settings(none), "there are other means")
	onlyPids := func(controllers []string) bool { return slices.Equal(controllers, []string{"pids"}) }
	assert.Equal(t, map[string]string{"pids.max": "256"}, (&Profile{Threads: 256, Memory: 1 << 30}).settings(onlyPids))
}

// This uses a controller that cgroup v1 seldom uses, so that cgroup v2 may.
func TestAProcessLivesAndDiesInItsCgroup(t *testing.T) {
	const controller = "hugetlb"
	if _, err := delegatedGroup([]string{controller}); err != nil {
		t.Skip(err)
	}
	g, err := newGroup(map[string]string{controller + ".2MB.max": "0"})
	require.NoError(t, err)
	max, err := os.ReadFile(filepath.Join(g.dir, controller+".2MB.max"))
	require.NoError(t, err)
	assert.Equal(t, "0\n", string(max))
	cmd := exec.Command("sh", "-c", "echo; exec sleep 1000")
	cmd.SysProcAttr = &unix.SysProcAttr{UseCgroupFD: true, CgroupFD: int(g.fd.Fd())}
	require.NoError(t, cmd.Start())
	members, err := words(filepath.Join(g.dir, "cgroup.procs"))
	require.NoError(t, err)
	assert.Len(t, members, 1)
	assert.False(t, g.oomKilled())
	done := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(done)
	}()
	g.remove()
	<-done
	assert.Equal(t, "signal: killed", cmd.ProcessState.String())
	assert.NoDirExists(t, g.dir)

	_, err = newGroup(map[string]string{controller + ".no.such.setting": "0"})
	assert.Error(t, err)
	left, err := filepath.Glob(filepath.Join(filepath.Dir(g.dir), "gophersnake-*"))
	require.NoError(t, err)
	assert.Empty(t, left)
}

func TestProcessesAndMemoryAreBoundByACgroup(t *testing.T) {
	r := run(t, Profile{Processes: 2, CPUs: 0.5}, `
import os
children = 0
try:
    while children < 100:
        if os.fork() == 0:
            import signal
            signal.pause()
        children += 1
except BlockingIOError:
    print(children)
`)
	assert.Equal(t, "2\n", r.out, r.err)
}

func TestACgroupThatIsNotDelegatedIsNamed(t *testing.T) {
	_, err := delegatedGroup([]string{"no-such-controller"})
	require.Error(t, err)
	p := Profile{Processes: 3}
	if missing := p.Missing(); len(missing) > 0 {
		assert.Contains(t, missing[0], "processes: 3 cannot be enforced: ")
		assert.Contains(t, p.hint(), "Delegate=yes")
	}
	dir := t.TempDir()
	assert.Error(t, checkDelegation(dir, []string{"pids"}), "no cgroup")
	for file, text := range map[string]string{"cgroup.controllers": "cpu pids\n", "cgroup.subtree_control": "cpu\n"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, file), []byte(text), 0o444))
	}
	assert.ErrorContains(t, checkDelegation(dir, []string{"memory"}), "has no controller memory")
}

func TestMemoryEventsTellOfTheKernel(t *testing.T) {
	g := &group{dir: t.TempDir()}
	assert.False(t, g.oomKilled())
	for text, want := range map[string]bool{"low 0\noom 1\noom_kill 1\n": true, "oom 1\noom_kill 0\n": false, "": false} {
		require.NoError(t, os.WriteFile(filepath.Join(g.dir, "memory.events"), []byte(text), 0o600))
		assert.Equal(t, want, g.oomKilled(), text)
	}
}

func TestCPUsAreChosenInTurn(t *testing.T) {
	var own unix.CPUSet
	require.NoError(t, unix.SchedGetaffinity(0, &own))
	seen := make(map[unix.CPUSet]bool)
	for range own.Count() {
		set, err := cpuSet(1)
		require.NoError(t, err)
		assert.Equal(t, 1, set.Count())
		seen[set] = true
	}
	assert.Len(t, seen, own.Count())
	all, err := cpuSet(float64(own.Count() + 5))
	require.NoError(t, err)
	assert.Equal(t, own.Count(), all.Count())
	for _, n := range []float64{0, 0.5, 1.5} {
		set, err := cpuSet(n)
		require.NoError(t, err)
		assert.Zero(t, set.Count(), n)
	}
}

func TestTheSystemCallsThatAreAllowedExist(t *testing.T) {
	spelled := make(map[string]bool)
	for _, machine := range []*arch.Info{arch.X86_64, arch.AARCH64, arch.ARM, arch.I386} {
		for name := range machine.SyscallNames {
			spelled[name] = true
		}
	}
	seen := make(map[string]bool)
	for _, name := range allowedCalls {
		assert.False(t, seen[name], "%s is there twice", name)
		seen[name] = true
		assert.True(t, spelled[name] || name == "riscv_hwprobe", "%s is no system call", name)
	}
	for _, name := range []string{"ptrace", "mount", "io_uring_setup", "bpf", "keyctl", "chmod", "fchmodat", "unshare", "process_vm_writev", "vmsplice", "shmget"} {
		assert.False(t, seen[name], name)
	}
}

func TestWhatAKilledSupervisorLeftIsSwept(t *testing.T) {
	root := t.TempDir()
	t.Setenv("TMPDIR", root)
	own, err := newTemp()
	require.NoError(t, err)
	left := filepath.Join(root, tempName+"left")
	require.NoError(t, os.MkdirAll(filepath.Join(left, "a", "b"), 0o700))
	strange := filepath.Join(root, tempName+"file")
	require.NoError(t, os.WriteFile(strange, nil, 0o600))
	target := t.TempDir()
	require.NoError(t, os.Symlink(target, filepath.Join(root, tempName+"link")))
	scratch.Sweep(root, tempName)
	assert.NoDirExists(t, left)
	assert.DirExists(t, own.dir, "its supervisor lives")
	assert.DirExists(t, target)
	assert.FileExists(t, strange)
	own.remove()
	assert.NoDirExists(t, own.dir)

	t.Setenv("TMPDIR", filepath.Join(root, "none"))
	_, err = newTemp()
	assert.Error(t, err)
}

func TestProbeSaysWhatThereIs(t *testing.T) {
	for _, m := range Probe() {
		assert.NotEmpty(t, m.Name)
		assert.NotEmpty(t, m.Detail, m.Name)
		if !m.Works {
			assert.NotEmpty(t, m.Without, m.Name)
			assert.NotEmpty(t, m.Hint, m.Name)
		}
	}
	assert.True(t, strings.HasPrefix(systemName(), "Linux "))
	e := &UnsupportedError{Missing: []string{"a", "b"}, System: "Linux 5.4"}
	assert.EqualError(t, e, "Linux 5.4 cannot isolate the node as requested: a; b")
}
