package isolation

import (
	"fmt"
	"strings"
)

// AnyNumber is the number of processes that stands for no bound.
const AnyNumber = -1

// Profile says what a process may do. The zero Profile is the strictest one, and
// allows too little for a program to run: Read names where it is.
type Profile struct {
	// Read are the folders and files that it may read, and run, besides the system's
	// libraries; absolute. Each must be there.
	Read []string
	// Write are the folders and files that it may change, and read. A temporary
	// folder of its own comes on top.
	Write []string
	// Network lets it have sockets. Without, it has but Unix sockets that it listens
	// on itself.
	Network bool
	// Signals lets it signal other processes of its user.
	Signals bool
	// Processes is how many further processes and threads it may have at a time. 0 is
	// no process, and any number of threads; [AnyNumber] is any number of both.
	Processes int
	// CPUs is how many it may use at a time; 0 is all.
	CPUs float64
	// Memory bounds what it and its children use, in bytes, where the system lets
	// the supervisor have cgroups. It is a bound besides others; 0 is none.
	Memory int64
}

// OpIsolate is the Op of the [*fs.PathError] for a file or folder of a profile that
// cannot be opened.
const OpIsolate = "isolate"

// UnsupportedError says that a process was not started because this system cannot
// isolate it as it was asked to.
type UnsupportedError struct {
	// Missing says what cannot be had, and why.
	Missing []string
	// System is what it cannot be had on, such as "Linux 5.15.0".
	System string
	// Hint says what to do about it.
	Hint string
}

func (e *UnsupportedError) Error() string {
	return fmt.Sprintf("%s cannot isolate the node as it asks: %s", e.System, strings.Join(e.Missing, "; "))
}

// Mechanism is one of the means of isolation.
type Mechanism struct {
	Name string
	// Works says that it can be used.
	Works bool
	// Detail says what it can do here, or why it cannot be used.
	Detail string
	// Without says what nodes cannot have where it does not work.
	Without string
	// Hint says what to do about that.
	Hint string
}
