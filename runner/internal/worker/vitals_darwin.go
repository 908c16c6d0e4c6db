package worker

import "time"

// The figures of another process are not to be had here without C.

func use(int, time.Time) (resident int64, cpu time.Duration, alone bool) { return 0, 0, true }

func sharedOut(pid int, _ time.Time) int64 { return 0 }

func openFiles(int) int { return 0 }
