package main

import (
	"slices"
	"strings"
)

// outcome is the result of a call; several, ORed, are a set of outcomes.
type outcome uint8

const (
	right      outcome = 1 << iota // the right answer
	execution                      // an error of the node's code
	vm                             // an error of its interpreter
	transport                      // an error of its connection
	marshaling                     // an error of its value
	canceled                       // the caller canceled
	refused                        // the node's breaker was open
	other                          // not allowed for any call

	// collateral are the outcomes that the fault of another call, or a signal, can cause.
	collateral = vm | transport
)

// outcomeNames are in the order of the bits. They are keys of the JSON report.
var outcomeNames = []string{"right", "execution", "python_vm", "transport", "marshaling",
	"cancelled", //nolint:misspell // a key that readers of older reports know
	"refused", "other"}

// names returns the names of the outcomes in a set.
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

// fault is a way for a call to fail. The function of this name in python/faults.py causes it.
type fault struct {
	name       string
	own        outcome // the outcomes of a call that has the fault in each attempt
	notRetried outcome // those of them that are not retried
	weight     int     // how often it is chosen, relative to the others
	// cancel makes the caller cancel in the meantime.
	cancel bool
	// forged is set if the node writes an answer itself. The worker's own answer is then
	// one too many, and may make the next call fail.
	forged bool
}

// faults are all faults. Those that are detected only by a call's deadline are chosen less
// often.
var faults = []fault{
	{name: "raises", own: execution, weight: 3},
	{name: "permanent", own: execution, notRetried: execution, weight: 2},
	{name: "transient", own: execution, weight: 3},
	{name: "recursion", own: execution, weight: 2},

	{name: "open_file", own: marshaling, notRetried: marshaling, weight: 2},
	{name: "large_number", own: marshaling, notRetried: marshaling, weight: 2},
	{name: "cycle", own: marshaling, notRetried: marshaling, weight: 2},
	{name: "too_deep", own: marshaling, notRetried: marshaling, weight: 2},

	{name: "killed", own: vm, weight: 4},
	{name: "segfault", own: vm, weight: 4},
	{name: "aborts", own: vm, weight: 4},
	{name: "leaves", own: vm, weight: 4},
	{name: "exits", own: vm, weight: 4},
	{name: "stack_overflow", own: vm, weight: 3},
	{name: "eats_memory", own: vm, weight: 3},

	// The supervisor continues a stopped worker so that it writes its stacks. The worker may
	// answer before it dies.
	{name: "stopped", own: vm | right, weight: 1},
	{name: "hangs", own: vm, weight: 1},
	{name: "hangs_in_c", own: vm, weight: 1},
	{name: "stubborn", own: vm, weight: 1, cancel: true},
	{name: "late", own: right, weight: 4, cancel: true},

	{name: "floods_stdout", own: right, weight: 1},
	{name: "floods_stderr", own: right, weight: 1},
	{name: "leaves_a_child", own: right, weight: 2},

	{name: "closes_the_socket", own: transport, weight: 3},
	{name: "writes_garbage", own: transport, weight: 3},
	{name: "cuts_a_frame_short", own: transport, weight: 3},
	{name: "claims_4_gib", own: transport, weight: 3},
	{name: "claims_a_buffer_of_4_gib", own: transport, weight: 1},
	{name: "answers_a_wrong_call", own: transport, weight: 3},
	{name: "answers_twice", own: right | transport, weight: 3, forged: true},
	{name: "fails_after_the_answer", own: right | transport, weight: 3, forged: true},
	{name: "sends_an_item", own: transport, weight: 3, forged: true},
	{name: "sends_an_unknown_frame", own: transport, weight: 3},
	{name: "sends_a_broken_error", own: transport, weight: 3},
	{name: "sends_a_broken_result", own: marshaling | transport, notRetried: marshaling, weight: 3, forged: true},
}

// faultsFor returns the faults that the calls of a target can have, each as often as its
// weight.
func faultsFor(forged bool) []*fault {
	var found []*fault
	for i := range faults {
		if f := &faults[i]; forged || !f.forged {
			found = append(found, slices.Repeat([]*fault{f}, f.weight)...)
		}
	}
	return found
}
