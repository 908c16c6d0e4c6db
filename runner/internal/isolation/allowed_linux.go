package isolation

// allowedCalls are the system calls that every process may make. All others fail,
// among them those for other processes' memory, mounts, namespaces, kernel keys,
// modules, bpf, perf, io_uring (whose operations no filter sees), userfaultfd, System V
// IPC, POSIX queues, personalities and setting the clock; and vmsplice, with which a pipe
// can hold far more memory than it is accounted for. Calls that change a file's
// mode, owner, times or attributes, or watch it, are missing too, because Landlock does
// not restrict them.
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
	"symlinkat", "sync_file_range", "tee", "truncate", "umask", "unlink", "unlinkat", "write", "writev",
	"ioctl",
	// waiting
	"epoll_create", "epoll_create1", "epoll_ctl", "epoll_ctl_old", "epoll_pwait", "epoll_pwait2", "epoll_wait", "epoll_wait_old",
	"eventfd", "eventfd2", "poll", "ppoll", "pselect6", "select", "pipe", "pipe2", "signalfd", "signalfd4",
	"timerfd_create", "timerfd_gettime", "timerfd_settime", "pause", "nanosleep", "clock_nanosleep",
	"io_setup", "io_submit", "io_getevents", "io_pgetevents", "io_cancel", "io_destroy",
	"futex", "futex_requeue", "futex_wait", "futex_waitv", "futex_wake", "restart_syscall",
	// sockets; argumentFilter restricts their kinds
	"accept", "accept4", "bind", "connect", "getpeername", "getsockname", "getsockopt", "listen", "recvfrom", "recvmmsg", "recvmsg",
	"sendmmsg", "sendmsg", "sendto", "setsockopt", "shutdown", "socket", "socketpair",
	// threads, and the process itself; innerFilter restricts clone and fork
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

// systemRead are the files and folders of the system that every process may read, if
// they exist: libraries, and the files that libraries read. The files in /proc are
// those about the machine; those about processes, even the process itself, are not
// readable.
var systemRead = []string{
	"/lib", "/lib32", "/lib64", "/libx32",
	"/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/libx32", "/usr/share",
	"/usr/local/lib", "/usr/local/lib64", "/usr/local/share",
	"/nix/store",
	"/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/ld.so.preload",
	"/etc/localtime", "/etc/timezone", "/etc/locale.alias", "/etc/os-release", "/etc/debian_version",
	"/etc/passwd", "/etc/group", "/etc/nsswitch.conf", "/etc/mime.types", "/etc/fonts",
	"/etc/hosts", "/etc/host.conf", "/etc/resolv.conf", "/etc/services", "/etc/protocols", "/etc/gai.conf",
	"/etc/ssl/certs", "/etc/ssl/openssl.cnf", "/etc/ca-certificates", "/etc/pki/tls", "/etc/pki/ca-trust", "/etc/crypto-policies",
	"/dev/random", "/dev/urandom",
	"/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/loadavg", "/proc/uptime", "/proc/version", "/proc/filesystems",
	"/proc/sys/kernel/osrelease", "/proc/sys/kernel/ostype", "/proc/sys/kernel/version",
	"/proc/sys/kernel/pid_max", "/proc/sys/kernel/cap_last_cap", "/proc/sys/kernel/ngroups_max",
	"/proc/sys/vm/overcommit_memory", "/proc/sys/vm/max_map_count",
	"/sys/devices/system/cpu", "/sys/devices/system/node", "/sys/fs/cgroup", "/sys/kernel/mm/transparent_hugepage",
}

// programs are the folders whose programs may be run if the profile allows further
// processes.
var programs = []string{"/bin", "/sbin", "/usr/bin", "/usr/sbin", "/usr/libexec", "/usr/local/bin", "/usr/local/sbin", "/etc/alternatives"}

// devices are the devices that may be written; they store nothing.
var devices = []string{"/dev/null", "/dev/zero", "/dev/full"}
