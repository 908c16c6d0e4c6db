package main

import (
	"fmt"
	"strings"

	"github.com/gophersnake/gophersnake/ipc"
)

// payload is a value that every peer takes through Python and back.
type payload struct {
	name  string
	value any
	// fewer divides the number of calls, where each takes long.
	fewer int
}

// payloads are the rows of the table.
var payloads = []payload{
	{name: "small", fewer: 1, value: map[string]any{ // 63 bytes of msgpack
		"id":    int64(123456),
		"text":  "from gopher to snake and back",
		"score": 0.75,
		"final": true,
	}},
	{name: "64KiB", fewer: 1, value: pattern(64 << 10)},
	{name: "1MiB", fewer: 4, value: pattern(1 << 20)},
	{name: "4MiB-array", fewer: 10, value: &ipc.Tensor{DType: ipc.Float32, Shape: []int{1 << 20}, Data: pattern(4 << 20)}},
}

// pattern returns n bytes without a short period.
func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*i>>8^i*31) &^ 0x40 // as a float, none of it is NaN
	}
	return b
}

// choose returns those of all that the comma-separated list names, in the order
// of all; an empty list names them all.
func choose[T any](what string, all []T, name func(T) string, list string) ([]T, error) {
	if list == "" {
		return all, nil
	}
	wanted := map[string]bool{}
	for w := range strings.SplitSeq(list, ",") {
		wanted[strings.TrimSpace(w)] = true
	}
	var chosen []T
	var names []string
	for _, one := range all {
		names = append(names, name(one))
		if wanted[name(one)] {
			chosen = append(chosen, one)
			delete(wanted, name(one))
		}
	}
	for w := range wanted {
		return nil, fmt.Errorf("there is no %s %q; there are: %s", what, w, strings.Join(names, ", "))
	}
	return chosen, nil
}
