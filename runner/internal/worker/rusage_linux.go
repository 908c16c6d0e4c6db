package worker

import "syscall"

// maxRSS is counted in kibibytes here.
func maxRSS(usage *syscall.Rusage) int64 { return usage.Maxrss << 10 }
