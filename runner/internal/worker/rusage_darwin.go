package worker

import "syscall"

// maxRSS is counted in bytes here.
func maxRSS(usage *syscall.Rusage) int64 { return usage.Maxrss }
