package isolation

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"os"
	"slices"
	"sync"
	"unsafe"

	"github.com/elastic/go-seccomp-bpf"
	"github.com/elastic/go-seccomp-bpf/arch"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// The errors of refused system calls. Sockets have an error of their own, by which the
// worker recognizes that the sandbox refused them. Programs that get ENOSYS assume an
// older kernel and work without the call.
const (
	refuse        = seccomp.ActionErrno | seccomp.Action(unix.EPERM)
	refuseSocket  = seccomp.ActionErrno | seccomp.Action(unix.EACCES)
	refuseUnknown = seccomp.ActionErrno | seccomp.Action(unix.ENOSYS)
)

// known returns those of the system calls that exist on this machine's architecture.
func known(names []string) ([]string, error) {
	machine, err := arch.GetInfo("")
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(slices.Clone(names), func(name string) bool {
		_, ok := machine.SyscallNames[name]
		return !ok
	}), nil
}

// callFilter allows the system calls that programs need, and no others. It also applies
// to the thread that starts the process, so starting processes is left to innerFilter.
var callFilter = sync.OnceValues(func() ([]bpf.RawInstruction, error) {
	machine, err := arch.GetInfo("")
	if err != nil {
		return nil, err
	}
	allowed, err := known(allowedCalls)
	if err != nil {
		return nil, err
	}
	var refused []string
	for name := range machine.SyscallNames {
		if !slices.Contains(allowed, name) {
			refused = append(refused, name)
		}
	}
	slices.Sort(refused)
	policy := seccomp.Policy{DefaultAction: seccomp.ActionErrno, Syscalls: []seccomp.SyscallGroup{
		{Action: seccomp.ActionAllow, Names: allowed},
		{Action: refuse, Names: refused},
	}}
	return assemble(policy, refuseUnknown)
})

// argumentFilter refuses system calls by their arguments, and allows all others. It is
// separate because the library's conditions lose the number of the call: the rules
// after them could only refuse more.
func argumentFilter(p *Profile) ([]bpf.RawInstruction, error) {
	policy := seccomp.Policy{DefaultAction: seccomp.ActionAllow, Syscalls: []seccomp.SyscallGroup{callsOnOthers(), callsThatHide(), callsOnFiles(), socketCalls(p.Network)}}
	return assemble(policy, seccomp.ActionAllow)
}

// callsOnOthers are the calls that would set limits and priorities of the user's other
// processes, which Landlock does not restrict. A target of 0 is the process or thread
// itself.
func callsOnOthers() seccomp.SyscallGroup {
	group := seccomp.SyscallGroup{Action: refuse}
	for _, each := range []struct {
		name     string
		argument uint32
	}{
		{"prlimit64", 0},
		{"sched_setaffinity", 0}, {"sched_setattr", 0}, {"sched_setparam", 0}, {"sched_setscheduler", 0},
		{"setpriority", 0}, {"setpriority", 1}, // other than PRIO_PROCESS, or than the process itself
	} {
		other := seccomp.Condition{Argument: each.argument, Operation: seccomp.NotEqual, Value: 0}
		group.NamesWithCondtions = append(group.NamesWithCondtions, seccomp.NameWithConditions{
			Name: each.name, Conditions: seccomp.ArgumentConditions{other},
		})
	}
	return group
}

// callsThatHide are the calls with which a process would hide from the supervisor what it
// uses: its state in /proc, and descriptors that only one of its threads has.
func callsThatHide() seccomp.SyscallGroup {
	call := func(name string, conditions ...seccomp.Condition) seccomp.NameWithConditions {
		return seccomp.NameWithConditions{Name: name, Conditions: conditions}
	}
	return seccomp.SyscallGroup{Action: refuse, NamesWithCondtions: []seccomp.NameWithConditions{
		call("prctl", seccomp.Condition{Argument: 0, Operation: seccomp.Equal, Value: unix.PR_SET_DUMPABLE}),
		call("prctl", seccomp.Condition{Argument: 0, Operation: seccomp.GreaterThan, Value: math.MaxUint32}), // the kernel ignores the upper half
		call("close_range", seccomp.Condition{Argument: 2, Operation: seccomp.BitsSet, Value: unix.CLOSE_RANGE_UNSHARE}),
		call("clone",
			seccomp.Condition{Argument: 0, Operation: seccomp.BitsSet, Value: unix.CLONE_THREAD},
			seccomp.Condition{Argument: 0, Operation: seccomp.BitsNotSet, Value: unix.CLONE_FILES}),
	}}
}

// callsOnFiles are the commands of fcntl that act on other processes: with a lease of a
// file that the process may only read, it would make each other process that opens the file
// wait for 45 s, and with a notification it would watch a folder.
func callsOnFiles() seccomp.SyscallGroup {
	command := func(operation seccomp.Operation, value uint64) seccomp.NameWithConditions {
		return seccomp.NameWithConditions{Name: "fcntl", Conditions: seccomp.ArgumentConditions{
			{Argument: 1, Operation: operation, Value: value},
		}}
	}
	return seccomp.SyscallGroup{Action: refuse, NamesWithCondtions: []seccomp.NameWithConditions{
		command(seccomp.Equal, unix.F_SETLEASE), command(seccomp.Equal, unix.F_NOTIFY),
		command(seccomp.GreaterThan, math.MaxUint32), // the kernel ignores the upper half
	}}
}

// socketCalls are the calls that create or connect sockets which the process must not
// have.
func socketCalls(network bool) seccomp.SyscallGroup {
	not := func(family uint64) seccomp.Condition {
		return seccomp.Condition{Argument: 0, Operation: seccomp.NotEqual, Value: family}
	}
	calls := func(conditions ...seccomp.Condition) []seccomp.NameWithConditions {
		return []seccomp.NameWithConditions{{Name: "socket", Conditions: conditions}, {Name: "socketpair", Conditions: conditions}}
	}
	group := seccomp.SyscallGroup{Action: refuseSocket}
	if network {
		group.NamesWithCondtions = calls(not(unix.AF_UNIX), not(unix.AF_INET), not(unix.AF_INET6), not(unix.AF_NETLINK))
		return group
	}
	// A worker listens and never connects. Datagrams can be sent without connecting, so
	// only streams are allowed: the type SOCK_STREAM has none of these bits.
	other := seccomp.Condition{Argument: 1, Operation: seccomp.BitsSet, Value: 0xe}
	group.Names = []string{"connect"}
	group.NamesWithCondtions = append(calls(not(unix.AF_UNIX)), calls(other)...)
	return group
}

// newNamespaces are the flags with which clone creates namespaces, among them a user
// namespace, in which the process would have all capabilities.
const newNamespaces = unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC |
	unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNET

// innerFilter refuses the system calls that are needed to start the process, but not
// after that. It allows all others.
func innerFilter(p *Profile) ([]bpf.RawInstruction, error) {
	clone := func(operation seccomp.Operation, flags uint64) seccomp.NameWithConditions {
		return seccomp.NameWithConditions{Name: "clone", Conditions: seccomp.ArgumentConditions{
			{Argument: 0, Operation: operation, Value: flags},
		}}
	}
	refused := seccomp.SyscallGroup{
		Action:             refuse,
		NamesWithCondtions: []seccomp.NameWithConditions{clone(seccomp.BitsSet, newNamespaces)},
	}
	if p.Processes == 0 {
		// A process that leaves its group would outlive the supervisor.
		names, err := known([]string{"fork", "vfork", "setsid", "setpgid"})
		if err != nil {
			return nil, err
		}
		refused.Names = names
		refused.NamesWithCondtions = append(refused.NamesWithCondtions, clone(seccomp.BitsNotSet, unix.CLONE_THREAD))
	}
	if p.CPUs > 0 {
		refused.Names = append(refused.Names, "sched_setaffinity")
	}
	policy := seccomp.Policy{DefaultAction: seccomp.ActionAllow, Syscalls: []seccomp.SyscallGroup{
		// A filter cannot see clone3's arguments. The C library then uses clone.
		{Action: refuseUnknown, Names: []string{"clone3"}},
		refused,
	}}
	return assemble(policy, seccomp.ActionAllow)
}

// assemble returns the program of a filter. The library cannot set the action for calls
// that the policy does not name, so assemble sets it.
func assemble(policy seccomp.Policy, otherwise seccomp.Action) ([]bpf.RawInstruction, error) {
	instructions, err := policy.Assemble()
	if err != nil {
		return nil, err
	}
	instructions[len(instructions)-1] = bpf.RetConstant{Val: uint32(otherwise)}
	return bpf.Assemble(instructions)
}

// restrictCalls applies a filter, in addition to earlier ones, to the calling thread
// and to the processes that it starts.
func restrictCalls(filter []bpf.RawInstruction) error {
	instructions := make([]unix.SockFilter, len(filter))
	for i, each := range filter {
		instructions[i] = unix.SockFilter{Code: each.Op, Jt: each.Jt, Jf: each.Jf, K: each.K}
	}
	program := unix.SockFprog{Len: uint16(len(instructions)), Filter: &instructions[0]}
	err := unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&program)), 0, 0)
	return os.NewSyscallError("seccomp", err)
}

// encodeFilter encodes a filter for stage.py.
func encodeFilter(filter []bpf.RawInstruction) string {
	var program []byte
	for _, each := range filter {
		program = binary.NativeEndian.AppendUint16(program, each.Op)
		program = append(program, each.Jt, each.Jf)
		program = binary.NativeEndian.AppendUint32(program, each.K)
	}
	return hex.EncodeToString(program)
}

// seccompError says why filters cannot be used here; it is nil if they can.
func seccompError() error {
	if _, err := arch.GetInfo(""); err != nil {
		return fmt.Errorf("the system calls of this architecture are unknown: %w", err)
	}
	if !seccomp.Supported() {
		return fmt.Errorf("this kernel has no seccomp filters, or a container's seccomp profile forbids them")
	}
	return nil
}
