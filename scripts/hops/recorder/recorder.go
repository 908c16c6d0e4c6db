// Package recorder records the entries and exits of functions in the program that command
// hops builds. The command inserts a call of Enter into each function.
package recorder

import (
	"bytes"
	"encoding/json"
	"os"
	"runtime"
	"strconv"
	"sync"
	"time"
)

// Event is an entry or an exit of a function, or a mark.
type Event struct {
	At       int64  // wall clock, in nanoseconds
	Thread   uint64 // the goroutine
	Function int    // its index in the list of functions; -1 for a mark
	Exit     bool   `json:",omitempty"`
	Mark     string `json:",omitempty"`
}

var (
	mu     sync.Mutex
	events []Event
	timers = map[uint64]bool{} // by goroutine: whether it runs a timer's function
)

// Enter records the entry of a function, and the returned function its exit. Functions on
// the goroutine of a timer, such as a watchdog's, are not recorded.
func Enter(function int) (exit func()) {
	thread := goroutine()
	if isTimer(thread) {
		return func() {}
	}
	add(Event{Thread: thread, Function: function})
	return func() { add(Event{Thread: thread, Function: function, Exit: true}) }
}

// Mark records a named moment.
func Mark(name string) { add(Event{Thread: goroutine(), Function: -1, Mark: name}) }

// Save writes all events to a file, as JSON.
func Save(path string) error {
	mu.Lock()
	defer mu.Unlock()
	data, err := json.Marshal(events)
	if err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o600)
}

func add(e Event) {
	mu.Lock()
	defer mu.Unlock()
	e.At = time.Now().UnixNano()
	events = append(events, e)
}

// goroutine returns the id of the calling goroutine, which only a stack trace contains.
func goroutine() uint64 {
	var buf [40]byte
	n := runtime.Stack(buf[:], false)
	id, _, _ := bytes.Cut(bytes.TrimPrefix(buf[:n], []byte("goroutine ")), []byte(" "))
	number, _ := strconv.ParseUint(string(id), 10, 64)
	return number
}

// isTimer reports whether the calling goroutine runs the function of a timer.
func isTimer(thread uint64) bool {
	mu.Lock()
	defer mu.Unlock()
	is, known := timers[thread]
	if !known {
		buf := make([]byte, 64<<10)
		is = bytes.Contains(buf[:runtime.Stack(buf, false)], []byte("created by time.goFunc"))
		timers[thread] = is
	}
	return is
}
