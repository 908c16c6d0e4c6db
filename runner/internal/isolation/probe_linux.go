package isolation

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Missing says, in words for people, which restrictions of the profile this kernel
// cannot enforce or this user may not use. It is empty if there are none.
func (p *Profile) Missing() []string {
	var missing []string
	abi, err := landlockABI()
	switch {
	case err != nil:
		missing = append(missing, "file access cannot be restricted: "+err.Error())
	case abi < abiTruncate:
		missing = append(missing, fmt.Sprintf("file access cannot be restricted: Landlock has version %d here, and version %d is needed (Linux 6.2)", abi, abiTruncate))
	case abi < abiScope && !p.Signals:
		missing = append(missing, fmt.Sprintf("signals to other processes cannot be blocked: Landlock has version %d here, and version %d is needed (Linux 6.12)", abi, abiScope))
	}
	if err := seccompError(); err != nil {
		missing = append(missing, "the network and further processes cannot be blocked: "+err.Error())
	}
	if needed := p.neededSettings(); len(needed) > 0 {
		if _, err := delegatedGroup(controllersOf(needed)); err != nil {
			missing = append(missing, fmt.Sprintf("%s cannot be enforced: %v", cgroupLimits(p), err))
		}
	}
	return missing
}

// cgroupLimits names the limits for which the profile needs a cgroup.
func cgroupLimits(p *Profile) string {
	var named []string
	if p.Processes > 0 {
		named = append(named, fmt.Sprintf("processes: %d", p.Processes))
	}
	if !wholeNumber(p.CPUs) {
		named = append(named, fmt.Sprintf("cpus: %v", p.CPUs))
	}
	return strings.Join(named, " and ")
}

// hint says what to do about the restrictions that are missing.
func (p *Profile) hint() string {
	abi, err := landlockABI()
	switch {
	case err != nil, abi < abiTruncate, seccompError() != nil:
		return "run `gophersnake doctor` for details; use a kernel that supports it, or remove isolation from the manifest"
	case abi < abiScope && !p.Signals:
		return "use Linux 6.12 or newer, or allow it: isolation: {signals: true}"
	}
	return cgroupHint
}

const (
	cgroupHint = delegation + "; or use limits that need none: processes: 0 or any, whole cpus"
	delegation = "delegate the supervisor's cgroup to it: in systemd, set Delegate=yes and DelegateSubgroup=supervisor in its service"
)

// Probe reports which mechanisms of isolation this system has.
func Probe() []Mechanism {
	return []Mechanism{probeLandlock(), probeSeccomp(), probeGroups(), probeThreads()}
}

func probeLandlock() Mechanism {
	m := Mechanism{Name: "landlock", Without: "nodes that ask for isolation do not run"}
	abi, err := landlockABI()
	switch {
	case err != nil:
		m.Detail, m.Hint = err.Error(), "use Linux 6.2 or newer, with Landlock enabled"
	case abi < abiTruncate:
		m.Detail, m.Hint = fmt.Sprintf("version %d, which cannot prevent that files are truncated", abi), "use Linux 6.2 or newer"
	case abi < abiScope:
		m.Detail = fmt.Sprintf("version %d: files, but not signals", abi)
		m.Without, m.Hint = "isolated nodes do not run without signals: true", "use Linux 6.12 or newer"
	default:
		m.Works, m.Detail = true, fmt.Sprintf("version %d: files and signals", abi)
	}
	return m
}

func probeSeccomp() Mechanism {
	m := Mechanism{Name: "seccomp", Without: "nodes that ask for isolation do not run"}
	if err := seccompError(); err != nil {
		m.Detail, m.Hint = err.Error(), "allow seccomp in the container's seccomp profile"
		return m
	}
	m.Works, m.Detail = true, "network, further processes, privileges"
	return m
}

func probeGroups() Mechanism {
	m := Mechanism{
		Name:    "cgroup v2",
		Without: "isolated nodes do not run with a number of processes or a fraction of a CPU",
		Hint:    delegation,
	}
	if dir, err := delegatedGroup([]string{"cpu", "memory", "pids"}); err != nil {
		m.Detail = err.Error()
	} else {
		m.Works, m.Detail, m.Hint = true, "delegated: "+dir, ""
	}
	return m
}

// probeThreads says what keeps a node from using up the threads of the user or of the
// system, without which the supervisor itself ends.
func probeThreads() Mechanism {
	const counted = "the supervisor counts those of isolated nodes, and ends a worker that has too many"
	m := Mechanism{Name: "threads", Works: true}
	var limit unix.Rlimit
	_ = unix.Getrlimit(unix.RLIMIT_NPROC, &limit) // without it, there is no limit
	switch {
	case BoundsThreads():
		m.Detail = "the kernel bounds those of isolated nodes (cgroup pids)"
	case os.Getuid() == 0:
		m.Works, m.Detail = false, counted
		m.Without = "without a cgroup, nothing bounds root's threads in the meantime"
		m.Hint = "run the supervisor as another user, or " + delegation
	case limit.Cur == unix.RLIM_INFINITY:
		m.Detail = counted + "; the user's own are not limited"
	default:
		m.Detail = fmt.Sprintf("%s; workers reach the user's limit of %d before the supervisor does", counted, limit.Cur)
	}
	return m
}

// BoundsThreads reports whether the supervisor can make the kernel bound the threads of a
// process.
func BoundsThreads() bool { return areDelegated([]string{"pids"}) }

// Confinements names what holds the processes of an isolated node together on this system,
// so that all of them can be ended at once and none can end the reaper.
func Confinements() []string {
	var found []string
	if onOwnThread(func() error { return unix.Unshare(unix.CLONE_NEWPID) }) == nil {
		found = append(found, "a process id namespace")
	}
	if abi, err := landlockABI(); err == nil && abi >= abiScope {
		found = append(found, "Landlock's scope of signals")
	}
	if dir, err := delegatedGroup(nil); err == nil {
		if _, err := os.Stat(filepath.Join(dir, "cgroup.kill")); err == nil {
			found = append(found, "cgroup.kill, if the node has a limit that needs a cgroup")
		}
	}
	return found
}

// systemName returns the name and version of the kernel.
func systemName() string {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return "Linux"
	}
	return "Linux " + unix.ByteSliceToString(name.Release[:])
}
