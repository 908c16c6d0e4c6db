package isolation

// allowedCalls are the system calls that any process may make. What is not here
// fails: other processes' memory, mounts, namespaces, kernel keys, modules, bpf,
// perf, io_uring (which makes calls that no filter sees), userfaultfd, System V IPC,
// POSIX queues, other personalities, the clock. What changes a file's mode, owner,
// times or attributes, or watches it, is not here either: Landlock has no say in it.
var allowedCalls = []string{
	// memory
	"brk", "madvise", "memfd_create", "mincore", "mlock", "mlock2", "mlockall", "mmap", "mprotect", "mremap",
	"mseal", "msync", "munlock", "munlockall", "munmap", "pkey_alloc", "pkey_free", "pkey_mprotect", "membarrier",
	"remap_file_pages", "get_mempolicy", "mbind", "set_mempolicy", "set_mempolicy_home_node", "cachestat",
	// files
	"access", "chdir", "close", "close_range", "copy_file_range", "creat", "dup", "dup2", "dup3", "faccessat", "faccessat2",
	"fadvise64", "fallocate", "fchdir", "fcntl", "fdatasync", "fgetxattr", "flistxattr", "flock", "fstat", "fstatfs", "fsync",
	"ftruncate", "getcwd", "getdents", "getdents64", "getxattr", "lgetxattr", "link", "linkat", "listxattr", "llistxattr",
	"lseek", "lstat", "mkdir", "mkdirat", "mknod", "mknodat", "newfstatat", "open", "openat", "openat2",
	"pread64", "preadv", "preadv2", "pwrite64", "pwritev", "pwritev2", "read", "readahead", "readlink", "readlinkat",
	"readv", "rename", "renameat", "renameat2", "rmdir", "sendfile", "splice", "stat", "statfs", "statx", "symlink",
	"symlinkat", "sync_file_range", "tee", "truncate", "umask", "unlink", "unlinkat", "vmsplice", "write", "writev",
	"ioctl",
	// waiting
	"epoll_create", "epoll_create1", "epoll_ctl", "epoll_ctl_old", "epoll_pwait", "epoll_pwait2", "epoll_wait", "epoll_wait_old",
	"eventfd", "eventfd2", "poll", "ppoll", "pselect6", "select", "pipe", "pipe2", "signalfd", "signalfd4",
	"timerfd_create", "timerfd_gettime", "timerfd_settime", "pause", "nanosleep", "clock_nanosleep",
	"io_setup", "io_submit", "io_getevents", "io_pgetevents", "io_cancel", "io_destroy",
	"futex", "futex_requeue", "futex_wait", "futex_waitv", "futex_wake", "restart_syscall",
	// sockets; which ones is for the filter of sockets
	"accept", "accept4", "bind", "connect", "getpeername", "getsockname", "getsockopt", "listen", "recvfrom", "recvmmsg", "recvmsg",
	"sendmmsg", "sendmsg", "sendto", "setsockopt", "shutdown", "socket", "socketpair",
	// threads, and the process itself; those that clone and fork are for the inner filter
	"clone", "clone3", "fork", "vfork", "execve", "execveat", "exit", "exit_group", "wait4", "waitid", "waitpid",
	"set_robust_list", "get_robust_list", "set_tid_address", "set_thread_area", "get_thread_area", "arch_prctl", "rseq",
	"gettid", "getpid", "getppid", "getpgid", "getpgrp", "getsid", "setpgid", "setsid",
	"getuid", "geteuid", "getgid", "getegid", "getresuid", "getresgid", "getgroups",
	"setuid", "setgid", "setreuid", "setregid", "setresuid", "setresgid", "setfsuid", "setfsgid",
	"capget", "capset", "prctl", "seccomp", "landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self",
	"getcpu", "getpriority", "setpriority", "ioprio_get", "getrlimit", "setrlimit", "prlimit64", "getrusage", "times",
	"sched_get_priority_max", "sched_get_priority_min", "sched_getaffinity", "sched_setaffinity", "sched_getattr", "sched_setattr",
	"sched_getparam", "sched_setparam", "sched_getscheduler", "sched_setscheduler", "sched_rr_get_interval", "sched_yield",
	"pidfd_open", "pidfd_send_signal",
	// signals
	"alarm", "getitimer", "setitimer", "kill", "tkill", "tgkill", "rt_sigaction", "rt_sigpending", "rt_sigprocmask",
	"rt_sigqueueinfo", "rt_sigreturn", "rt_sigsuspend", "rt_sigtimedwait", "rt_tgsigqueueinfo", "sigaltstack",
	"timer_create", "timer_delete", "timer_getoverrun", "timer_gettime", "timer_settime",
	// the machine
	"clock_getres", "clock_gettime", "gettimeofday", "time", "getrandom", "sysinfo", "uname", "riscv_hwprobe",
}
