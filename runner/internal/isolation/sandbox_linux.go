package isolation

import (
	_ "embed"
	"errors"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/gophersnake/gophersnake/runner/internal/scratch"
)

// stage is the program that applies the last restrictions in the process itself, before
// it becomes the command.
//
//go:embed stage.py
var stage string

// Sandbox holds the resources that were created for one process: its temporary folder
// and, if it needs one, its cgroup. A nil Sandbox is valid and holds none.
type Sandbox struct {
	temp          *temp
	group         *group
	boundsThreads bool
}

// BoundsThreads reports whether the kernel refuses more threads than the profile allows.
// It is safe for concurrent use.
func (s *Sandbox) BoundsThreads() bool { return s != nil && s.boundsThreads }

// Remove removes the resources, and kills the processes that are left in the cgroup.
// The process itself must have ended.
func (s *Sandbox) Remove() {
	if s == nil {
		return
	}
	if s.temp != nil {
		s.temp.remove()
		s.temp = nil
	}
	if s.group != nil {
		s.group.remove()
		s.group = nil
	}
}

// OutOfMemory reports whether the kernel killed a process because the cgroup's memory
// limit was reached. It must not be called after Remove.
func (s *Sandbox) OutOfMemory() bool { return s != nil && s.group != nil && s.group.oomKilled() }

// Start starts a command in a sandbox that enforces the profile. It never starts a
// command that is less restricted. The command must be a Python interpreter (see
// stage.py); it may also write to the given folders, and TMPDIR is added to its
// environment. The caller removes the sandbox after the process has ended.
//
// The error is an *[UnsupportedError] if the system cannot enforce the profile.
func (p *Profile) Start(cmd *exec.Cmd, write ...string) (_ *Sandbox, err error) {
	if missing := p.Missing(); len(missing) > 0 {
		return nil, &UnsupportedError{Missing: missing, System: systemName(), Hint: p.hint()}
	}
	sandbox := new(Sandbox)
	rules := -1
	defer func() {
		if rules >= 0 {
			unix.Close(rules)
		}
		if err != nil {
			sandbox.Remove()
		}
	}()
	if sandbox.temp, err = newTemp(); err != nil {
		return nil, err
	}
	calls, err := callFilter()
	if err != nil {
		return nil, err
	}
	arguments, err := argumentFilter(p)
	if err != nil {
		return nil, err
	}
	inner, err := innerFilter(p)
	if err != nil {
		return nil, err
	}
	if rules, err = ruleset(p.readable(), slices.Concat(p.Write, write, []string{sandbox.temp.dir})); err != nil {
		return nil, err
	}
	cpus, err := cpuSet(p.CPUs)
	if err != nil {
		return nil, err
	}
	settings := p.settings(areDelegated)
	if len(settings) > 0 {
		if sandbox.group, err = newGroup(settings); err != nil {
			return nil, err
		}
	}
	sandbox.boundsThreads = settings["pids.max"] != ""
	sandbox.apply(cmd)
	p.stageIn(cmd, encodeFilter(inner))
	// Package os checks once whether pidfds work. Let it do so on an unrestricted thread.
	if self, err := os.FindProcess(os.Getpid()); err == nil {
		_ = self.Release()
	}
	err = onOwnThread(func() error {
		if p.needsSharedMemory() && mountSharedMemory(p.Memory) == nil {
			if err := allow(rules, sharedMemory, rightsToWrite&landlockRights()); err != nil {
				return err
			}
		}
		if p.Reaper != "" && !p.Signals {
			_ = unix.Unshare(unix.CLONE_NEWPID) // without it, Landlock's scope confines the reaper
		}
		if err := restrictThread(cpus, rules, calls, arguments); err != nil {
			return err
		}
		return cmd.Start()
	})
	if err != nil {
		return nil, err
	}
	return sandbox, nil
}

// readable returns what the command may read: with processes, also the programs of the system.
func (p *Profile) readable() []string {
	if p.Processes == 0 {
		return p.Read
	}
	return append(slices.Clone(p.Read), existing(programs)...)
}

// stageIn makes the command run stage.py first, with the filter for what it runs then.
func (p *Profile) stageIn(cmd *exec.Cmd, filter string) {
	program := stage
	if p.Reaper != "" {
		program = p.Reaper + "\n" + stage
	}
	stageArgs := []string{cmd.Args[0], "-I", "-S", "-c", program, strconv.Itoa(p.landlockScope()), filter, strconv.Itoa(3 + len(cmd.ExtraFiles)), cmd.Path}
	cmd.Args = append(stageArgs, cmd.Args...)
}

// apply makes the command use the temporary folder and the cgroup.
func (s *Sandbox) apply(cmd *exec.Cmd) {
	for _, name := range []string{"TMPDIR", "TEMP", "TMP"} {
		cmd.Env = append(cmd.Env, name+"="+s.temp.dir) // the last entry of a name counts
	}
	if s.group != nil {
		attributes := unix.SysProcAttr{}
		if cmd.SysProcAttr != nil {
			attributes = *cmd.SysProcAttr
		}
		attributes.UseCgroupFD, attributes.CgroupFD = true, int(s.group.fd.Fd())
		cmd.SysProcAttr = &attributes
	}
}

// landlockScope returns the flags of the Landlock scope, which keeps signals and
// connections to abstract sockets inside the process.
func (p *Profile) landlockScope() int {
	if p.Signals {
		return 0
	}
	return unix.LANDLOCK_SCOPE_SIGNAL | unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET
}

// existing returns those of the paths that exist.
func existing(paths []string) []string {
	return slices.DeleteFunc(slices.Clone(paths), func(path string) bool {
		_, err := os.Stat(path)
		return errors.Is(err, os.ErrNotExist)
	})
}

// tempName is how the names of the temporary folders begin.
const tempName = "gophersnake-temp-"

// temp is the temporary folder of one process. It is locked as long as its supervisor
// lives, so that later supervisors recognize the folders of one that was killed.
type temp struct {
	dir  string
	lock *os.File
}

// sweepOnce removes the folders that killed supervisors left, once per process.
var sweepOnce sync.Once

// newTemp creates a temporary folder.
func newTemp() (*temp, error) {
	sweepOnce.Do(func() { scratch.Sweep(os.TempDir(), tempName) })
	dir, lock, err := scratch.New("", tempName)
	if err != nil {
		return nil, err
	}
	return &temp{dir, lock}, nil
}

func (t *temp) remove() {
	_ = scratch.Remove(t.dir)
	_ = t.lock.Close()
}
