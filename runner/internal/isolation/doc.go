// Package isolation starts a process that may do less than its user: read and write
// some folders alone, and have no network, no further processes and no privileges.
//
// The process is restricted from outside. A thread of the supervisor's gives up, for
// itself alone, what the process is not to have, starts it, and ends: capabilities,
// the files (Landlock), the system calls (seccomp), the CPUs. What must wait until
// the process is there, that it starts no others and signals none, the interpreter
// itself does before it runs any code of the node's or of its packages: see stage.py.
// Nothing needs privileges, and nothing of it sticks to the supervisor.
//
// What a kernel cannot do is never left out: [Profile.Start] starts nothing then and
// returns an *[UnsupportedError].
package isolation
