package main

import (
	"fmt"
	"strings"
)

// payload is a value that every peer takes through Python and back.
type payload struct {
	name  string
	value any
}

// payloads are the rows of the table.
var payloads = []payload{
	{"small", map[string]any{ // 63 bytes of msgpack
		"id":    int64(123456),
		"text":  "from gopher to snake and back",
		"score": 0.75,
		"final": true,
	}},
	{"64KiB", pattern(64 << 10)},
	{"1MiB", pattern(1 << 20)},
}

// pattern returns n bytes without a short period.
func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*i>>8 ^ i*31)
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
