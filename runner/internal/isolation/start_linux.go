package isolation

import (
	_ "embed"
	"errors"
	"os"
	"os/exec"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// stage is what the process does itself before it becomes the program.
//
//go:embed stage.py
var stage string

// Place is what a process was given for itself: a temporary folder, and a cgroup
// where it needs one.
type Place struct {
	temp  *temp
	group *group
}

// Remove removes them, and ends what is left in the cgroup. The process must have
// ended.
func (p *Place) Remove() {
	if p == nil {
		return
	}
	if p.temp != nil {
		p.temp.remove()
		p.temp = nil
	}
	if p.group != nil {
		p.group.remove()
		p.group = nil
	}
}

// OutOfMemory reports whether the kernel ended a process because the cgroup's memory
// was used up.
func (p *Place) OutOfMemory() bool { return p != nil && p.group != nil && p.group.oomKilled() }

// Start starts a command as the profile says, or not at all. The command must be a
// Python interpreter: see stage.py. Its environment gets TMPDIR. It may write to the
// given folders as well.
//
// The error is an *[UnsupportedError] where the system cannot do what is asked for.
func (p *Profile) Start(cmd *exec.Cmd, write ...string) (_ *Place, err error) {
	if missing := p.Missing(); len(missing) > 0 {
		return nil, &UnsupportedError{Missing: missing, System: system(), Hint: p.hint()}
	}
	place := new(Place)
	rules := -1
	defer func() {
		if rules >= 0 {
			unix.Close(rules)
		}
		if err != nil {
			place.Remove()
		}
	}()
	if place.temp, err = newTemp(); err != nil {
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
	read := p.Read
	if p.Processes != 0 {
		read = append(slices.Clone(read), present(programs)...)
	}
	if rules, err = ruleset(read, slices.Concat(p.Write, write, []string{place.temp.dir})); err != nil {
		return nil, err
	}
	cpus, err := cpuSet(p.CPUs)
	if err != nil {
		return nil, err
	}
	if place.group, err = p.newGroup(); err != nil {
		return nil, err
	}
	enclose(cmd, place)
	stageArgs := []string{cmd.Args[0], "-I", "-S", "-c", stage, strconv.Itoa(p.scope()), asText(inner), cmd.Path}
	cmd.Args = append(stageArgs, cmd.Args...)
	// What os finds out of pidfds once, it is not to find out on a restricted thread.
	if self, err := os.FindProcess(os.Getpid()); err == nil {
		_ = self.Release()
	}
	err = onOwnThread(func() error {
		if err := restrictThread(cpus, rules, calls, arguments); err != nil {
			return err
		}
		return cmd.Start()
	})
	if err != nil {
		return nil, err
	}
	return place, nil
}

// enclose puts the command into its place.
func enclose(cmd *exec.Cmd, place *Place) {
	for _, name := range []string{"TMPDIR", "TEMP", "TMP"} {
		cmd.Env = append(cmd.Env, name+"="+place.temp.dir) // the last one counts
	}
	if place.group != nil {
		attributes := unix.SysProcAttr{}
		if cmd.SysProcAttr != nil {
			attributes = *cmd.SysProcAttr
		}
		attributes.UseCgroupFD, attributes.CgroupFD = true, int(place.group.fd.Fd())
		cmd.SysProcAttr = &attributes
	}
}

// newGroup makes the cgroup that the profile needs, or that is of use to it.
func (p *Profile) newGroup() (*group, error) {
	settings := p.settings()
	if len(settings) == 0 {
		return nil, nil
	}
	g, err := newGroup(settings)
	if err != nil && len(p.needed()) > 0 {
		return nil, err
	}
	if err != nil {
		return nil, nil // the memory has other bounds
	}
	return g, nil
}

// scope is what the process's Landlock scope is to keep from others.
func (p *Profile) scope() int {
	if p.Signals {
		return 0
	}
	return unix.LANDLOCK_SCOPE_SIGNAL | unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET
}

// present are those paths that are there.
func present(paths []string) []string {
	return slices.DeleteFunc(slices.Clone(paths), func(path string) bool {
		_, err := os.Stat(path)
		return errors.Is(err, os.ErrNotExist)
	})
}
