package isolation

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// Missing says what this kernel, or this user, cannot do of the profile, in plain
// words; it is empty where all of it can be done.
func (p *Profile) Missing() []string {
	var missing []string
	abi, err := landlockABI()
	switch {
	case err != nil:
		missing = append(missing, "its files cannot be kept from it: "+err.Error())
	case abi < abiTruncate:
		missing = append(missing, fmt.Sprintf("its files cannot be kept from it: Landlock has version %d here, and needs %d (Linux 6.2)", abi, abiTruncate))
	case abi < abiScope && !p.Signals:
		missing = append(missing, fmt.Sprintf("other processes cannot be kept from its signals: Landlock has version %d here, and needs %d (Linux 6.12)", abi, abiScope))
	}
	if err := seccompFault(); err != nil {
		missing = append(missing, "the network and other processes cannot be kept from it: "+err.Error())
	}
	if needed := p.needed(); len(needed) > 0 {
		if _, err := delegated(controllersOf(needed)); err != nil {
			missing = append(missing, fmt.Sprintf("%s cannot be held: %v", bounds(p), err))
		}
	}
	return missing
}

// bounds names what the cgroup is needed for.
func bounds(p *Profile) string {
	var named []string
	if p.Processes > 0 {
		named = append(named, fmt.Sprintf("processes: %d", p.Processes))
	}
	if !wholeNumber(p.CPUs) {
		named = append(named, fmt.Sprintf("cpus: %v", p.CPUs))
	}
	return strings.Join(named, " and ")
}

// hint says what to do about what is missing.
func (p *Profile) hint() string {
	abi, err := landlockABI()
	switch {
	case err != nil, abi < abiTruncate, seccompFault() != nil:
		return "`gophersnake doctor` tells more; use a kernel that has it, or take isolation out of the manifest"
	case abi < abiScope && !p.Signals:
		return "use Linux 6.12 or newer, or allow it: isolation: {signals: true}"
	}
	return cgroupHint
}

const (
	cgroupHint = delegation + "; or ask for what needs none: processes: 0 or any, whole cpus"
	delegation = "have the supervisor's cgroup delegated, in systemd by Delegate=yes and DelegateSubgroup=supervisor of its service"
)

// Probe says which means of isolation there are.
func Probe() []Mechanism {
	return []Mechanism{probeLandlock(), probeSeccomp(), probeGroups()}
}

func probeLandlock() Mechanism {
	m := Mechanism{Name: "landlock", Without: "nodes that ask for isolation do not run"}
	abi, err := landlockABI()
	switch {
	case err != nil:
		m.Detail, m.Hint = err.Error(), "use a kernel from 6.2 on that has Landlock"
	case abi < abiTruncate:
		m.Detail, m.Hint = fmt.Sprintf("version %d, which cannot keep files from being cut", abi), "use Linux 6.2 or newer"
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
	if err := seccompFault(); err != nil {
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
	if dir, err := delegated([]string{"cpu", "memory", "pids"}); err != nil {
		m.Detail = err.Error()
	} else {
		m.Works, m.Detail, m.Hint = true, "delegated: "+dir, ""
	}
	return m
}

// system names the kernel.
func system() string {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return "Linux"
	}
	return "Linux " + unix.ByteSliceToString(name.Release[:])
}
