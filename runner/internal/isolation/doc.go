// Package isolation starts processes in a sandbox: with access to some folders only,
// and without network, further processes and privileges, as a [Profile] says.
//
// Most restrictions are applied from outside. A thread of the supervisor drops, for
// itself alone, the rights that the process must not have, starts the process, and ends.
// These are capabilities, access to files (Landlock), system calls (seccomp) and CPUs.
// Two restrictions have to wait until the process runs: that it starts no processes, and
// that it signals none. The interpreter applies them itself before it runs any code of
// the node or of its packages; see stage.py. None of this needs privileges, and none of
// it affects the supervisor's other threads.
//
// A restriction that the kernel cannot enforce is never left out: [Profile.Start] then
// starts nothing and returns an *[UnsupportedError].
package isolation
