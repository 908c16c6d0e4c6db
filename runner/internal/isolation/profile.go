package isolation

import (
	"fmt"
	"strings"
)

// AnyNumber as Profile.Processes is no limit.
const AnyNumber = -1

// Profile says what a process may do. The zero Profile is the strictest one. It
// allows too little to run a program: Read must contain the program.
type Profile struct {
	// Read are the absolute paths of the folders and files that it may read and
	// execute, in addition to the system's libraries. Each must exist.
	Read []string
	// Write are the absolute paths of the folders and files that it may read and
	// change. It also gets a temporary folder of its own.
	Write []string
	// Network lets it use sockets. Without it, the process can only create Unix stream
	// sockets and listen on them, not connect.
	Network bool
	// Signals lets it signal other processes of its user.
	Signals bool
	// Processes is how many further processes and threads it may have at a time. 0
	// allows no process, and threads within Threads; [AnyNumber] any number of both. If it
	// is not 0, the process also gets a /dev/shm of its own, for semaphores and shared memory,
	// unless Write has /dev/shm or the user may not mount one.
	Processes int
	// Threads limits its threads and those of its children, together, if the supervisor may
	// create cgroups; otherwise it has no effect. 0 is no limit. See
	// [Sandbox.BoundsThreads].
	Threads int
	// CPUs is how many CPUs it may use at a time; 0 is all. A fraction needs a cgroup.
	CPUs float64
	// Memory limits the memory of the process and its children, in bytes, if the
	// supervisor may create cgroups; otherwise it has no effect. 0 is no limit.
	Memory int64
	// Reaper is the source of a Python module that defines fork_worker. If it is not
	// empty, [Profile.Start] starts a reaper, which calls that function and so forks the
	// process. If the process may not signal others, it cannot signal the reaper
	// either, and both are in a process id namespace if the user may create one.
	Reaper string
}

// OpIsolate is the Op of the [*fs.PathError] that [Profile.Start] returns if a file or
// folder of the profile cannot be opened.
const OpIsolate = "isolate"

// UnsupportedError says that a process was not started because this system cannot
// enforce its profile.
type UnsupportedError struct {
	// Missing says what cannot be enforced, and why.
	Missing []string
	// System is the operating system, such as "Linux 5.15.0".
	System string
	// Hint says what to do about it.
	Hint string
}

func (e *UnsupportedError) Error() string {
	return fmt.Sprintf("%s cannot isolate the node as requested: %s", e.System, strings.Join(e.Missing, "; "))
}

// Mechanism is one of the kernel's mechanisms that isolation uses.
type Mechanism struct {
	Name string
	// Works says whether it can be used.
	Works bool
	// Detail says what it can enforce here, or why it cannot be used.
	Detail string
	// Without says what does not work without it.
	Without string
	// Hint says what to do about that.
	Hint string
}
