package main

import (
	"slices"
	"strings"
)

// outcome is what a call has come to. Together they are a set.
type outcome uint8

const (
	right      outcome = 1 << iota // its right answer
	execution                      // the error of its node's code
	vm                             // of its interpreter
	transport                      // of its connection
	marshaling                     // of its value
	cancelled                      // its caller has given up
	refused                        // the node's breaker was open
	other                          // nothing that any call may come to

	// neighbour is what the fault of another call, or a signal, may bring about.
	neighbour = vm | transport
)

var outcomeNames = []string{"right", "execution", "python_vm", "transport", "marshaling", "cancelled", "refused", "other"}

// names returns those of a set.
func (o outcome) names() []string {
	var found []string
	for i, name := range outcomeNames {
		if o&(1<<i) != 0 {
			found = append(found, name)
		}
	}
	return found
}

func (o outcome) String() string { return strings.Join(o.names(), " or ") }

// fault is something that goes wrong with a call, as the Python side does it.
type fault struct {
	name string
	own  outcome // what such a call may come to, where it goes wrong each time
	last outcome // what of that is not retried
	odds int     // how often it is chosen, beside the others
	// cancel says that the caller gives up meanwhile.
	cancel bool
	// forged says that the node writes an answer itself, so that the worker's own comes
	// on top of it, and may hit the next call.
	forged bool
}

// faults are all that calls can suffer from. What takes the deadline of a call to be
// found is chosen less often.
var faults = []fault{
	{name: "raises", own: execution, odds: 3},
	{name: "permanent", own: execution, last: execution, odds: 2},
	{name: "transient", own: execution, odds: 3},
	{name: "recursion", own: execution, odds: 2},

	{name: "open_file", own: marshaling, last: marshaling, odds: 2},
	{name: "large_number", own: marshaling, last: marshaling, odds: 2},
	{name: "cycle", own: marshaling, last: marshaling, odds: 2},
	{name: "too_deep", own: marshaling, last: marshaling, odds: 2},

	{name: "killed", own: vm, odds: 4},
	{name: "segfault", own: vm, odds: 4},
	{name: "aborts", own: vm, odds: 4},
	{name: "leaves", own: vm, odds: 4},
	{name: "exits", own: vm, odds: 4},
	{name: "stack_overflow", own: vm, odds: 3},
	{name: "eats_memory", own: vm, odds: 3},

	// It is continued to write its stacks, and may answer before it dies of that.
	{name: "stopped", own: vm | right, odds: 1},
	{name: "hangs", own: vm, odds: 1},
	{name: "hangs_in_c", own: vm, odds: 1},
	{name: "stubborn", own: vm, odds: 1, cancel: true},
	{name: "late", own: right, odds: 4, cancel: true},

	{name: "floods_stdout", own: right, odds: 1},
	{name: "floods_stderr", own: right, odds: 1},
	{name: "leaves_a_child", own: right, odds: 2},

	{name: "closes_the_socket", own: transport, odds: 3},
	{name: "writes_garbage", own: transport, odds: 3},
	{name: "cuts_a_frame_short", own: transport, odds: 3},
	{name: "claims_4_gib", own: transport, odds: 3},
	{name: "claims_a_buffer_of_4_gib", own: vm, odds: 1},
	{name: "answers_a_wrong_call", own: transport, odds: 3},
	{name: "answers_twice", own: right | transport, odds: 3, forged: true},
	{name: "fails_after_the_answer", own: right | transport, odds: 3, forged: true},
	{name: "sends_an_item", own: transport, odds: 3, forged: true},
	{name: "sends_an_unknown_frame", own: transport, odds: 3},
	{name: "sends_a_broken_error", own: transport, odds: 3},
	{name: "sends_a_broken_result", own: marshaling | transport, last: marshaling, odds: 3, forged: true},
}

// suited returns the faults that the calls of a pipeline can have.
func suited(forged bool) []*fault {
	var found []*fault
	for i := range faults {
		if f := &faults[i]; forged || !f.forged {
			found = append(found, slices.Repeat([]*fault{f}, f.odds)...)
		}
	}
	return found
}
