package isolation

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"os"
	"slices"
	"sync"
	"unsafe"

	"github.com/elastic/go-seccomp-bpf"
	"github.com/elastic/go-seccomp-bpf/arch"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// What a refused system call fails with. Sockets have an error of their own, by
// which the worker tells what refused them; programs take ENOSYS for an older kernel
// and do without the call.
const (
	refuse        = seccomp.ActionErrno | seccomp.Action(unix.EPERM)
	refuseSocket  = seccomp.ActionErrno | seccomp.Action(unix.EACCES)
	refuseUnknown = seccomp.ActionErrno | seccomp.Action(unix.ENOSYS)
)

// known says which of the system calls this machine's kernels have: they are not
// the same everywhere.
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

// callFilter allows what programs need, and nothing else. It binds the thread that
// starts the process, too, so the process's start is for the inner one.
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

// argumentFilter refuses calls for what they ask for, and has nothing to say of the
// rest. It is a filter of its own because the library's conditions lose the number of
// the call: what comes after them can only refuse more.
func argumentFilter(p *Profile) ([]bpf.RawInstruction, error) {
	policy := seccomp.Policy{DefaultAction: seccomp.ActionAllow, Syscalls: []seccomp.SyscallGroup{ofOthers(), ofSockets(p.Network)}}
	return assemble(policy, seccomp.ActionAllow)
}

// ofOthers are the calls that would set limits and priorities of other processes of
// the same user, of which Landlock knows nothing. 0 is the process or thread itself.
func ofOthers() seccomp.SyscallGroup {
	group := seccomp.SyscallGroup{Action: refuse}
	for _, each := range []struct {
		name     string
		argument uint32
	}{
		{"prlimit64", 0},
		{"sched_setaffinity", 0}, {"sched_setattr", 0}, {"sched_setparam", 0}, {"sched_setscheduler", 0},
		{"setpriority", 0}, {"setpriority", 1}, // of a process, and of itself
	} {
		other := seccomp.Condition{Argument: each.argument, Operation: seccomp.NotEqual, Value: 0}
		group.NamesWithCondtions = append(group.NamesWithCondtions, seccomp.NameWithConditions{
			Name: each.name, Conditions: seccomp.ArgumentConditions{other},
		})
	}
	return group
}

// ofSockets are the calls for sockets that there are not to be.
func ofSockets(network bool) seccomp.SyscallGroup {
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
	// A worker listens, and never connects. A datagram could be sent to any socket
	// without that, so there are streams alone: of the bits of the type, the first.
	other := seccomp.Condition{Argument: 1, Operation: seccomp.BitsSet, Value: 0xe}
	group.Names = []string{"connect"}
	group.NamesWithCondtions = append(calls(not(unix.AF_UNIX)), calls(other)...)
	return group
}

// newNamespaces are the flags of clone that would make some, a user namespace with
// all capabilities in it among them.
const newNamespaces = unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC |
	unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNET

// innerFilter refuses what the process could be started with and must not do again.
// It has nothing to say of the rest.
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
		// Who leaves the process group outlives the supervisor.
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
		// What it asks for is not to be seen by a filter; the C library takes clone then.
		{Action: refuseUnknown, Names: []string{"clone3"}},
		refused,
	}}
	return assemble(policy, seccomp.ActionAllow)
}

// assemble makes the program of a filter, with an answer to calls that the policy
// does not know, which the library offers no choice of.
func assemble(policy seccomp.Policy, otherwise seccomp.Action) ([]bpf.RawInstruction, error) {
	instructions, err := policy.Assemble()
	if err != nil {
		return nil, err
	}
	instructions[len(instructions)-1] = bpf.RetConstant{Val: uint32(otherwise)}
	return bpf.Assemble(instructions)
}

// restrictCalls has the calling thread take a filter on, besides those that it has,
// and what it starts.
func restrictCalls(filter []bpf.RawInstruction) error {
	instructions := make([]unix.SockFilter, len(filter))
	for i, each := range filter {
		instructions[i] = unix.SockFilter{Code: each.Op, Jt: each.Jt, Jf: each.Jf, K: each.K}
	}
	program := unix.SockFprog{Len: uint16(len(instructions)), Filter: &instructions[0]}
	err := unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&program)), 0, 0)
	return os.NewSyscallError("seccomp", err)
}

// asText is a filter as stage.py reads it.
func asText(filter []bpf.RawInstruction) string {
	var program []byte
	for _, each := range filter {
		program = binary.NativeEndian.AppendUint16(program, each.Op)
		program = append(program, each.Jt, each.Jf)
		program = binary.NativeEndian.AppendUint32(program, each.K)
	}
	return hex.EncodeToString(program)
}

// seccompFault says why there are no filters here; it is nil where there are.
func seccompFault() error {
	if _, err := arch.GetInfo(""); err != nil {
		return fmt.Errorf("its system calls are not known: %w", err)
	}
	if !seccomp.Supported() {
		return fmt.Errorf("this kernel has no seccomp filters, or a container's seccomp profile forbids them")
	}
	return nil
}
