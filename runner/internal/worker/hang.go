package worker

import "time"

// Hang says in what way a worker hung that had to be ended.
type Hang string

// The ways to hang. Each is said only where it was seen.
const (
	// HangPython: its calls do not return, but other threads can run Python code.
	HangPython Hang = "blocked in Python"
	// HangGIL: nothing that is written in Python can run.
	HangGIL Hang = "blocked in C code that holds the GIL"
	// HangStopped: SIGSTOP or a debugger keeps the whole process from running.
	HangStopped Hang = "the process is stopped"
)

// in words the hang as the end of a sentence.
func (h Hang) in() string {
	switch h {
	case "":
		return ""
	case HangStopped:
		return "; the process was stopped"
	}
	return "; it was " + string(h)
}

const (
	// gilPatience is how long a thread has to wait for the GIL until somebody else
	// is taken to hold it for good. Python code gives it away every 5 ms.
	gilPatience = 250 * time.Millisecond
	// gilTime is the CPU time that a process which is not asleep has to use
	// meanwhile: on a machine with much to do it may not have had its turn.
	gilTime = 50 * time.Millisecond
	// hangPatience is how long the thread may take to have its turn, and busyPatience
	// how long a hang is looked into, of a process that waits for a processor.
	hangPatience = time.Second
	busyPatience = 10 * time.Second
	hangPace     = 5 * time.Millisecond
)
