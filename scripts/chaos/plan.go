package main

import (
	"fmt"
	"math/rand/v2"
	"time"
)

// plan holds all that is decided about a call before it is made. It depends only on the
// seed and the call's number. The timing of a run, and so which calls are in progress
// when a worker dies, cannot be reproduced.
type plan struct {
	number      uint64
	target      *target
	fault       *fault        // nil for most calls
	firstOnly   bool          // the fault occurs only in the first attempt
	at          string        // the node that the fault occurs in, if the pipeline has several
	nap         time.Duration // how long the node sleeps
	cancelAfter time.Duration // when the caller cancels; 0 for never
	deadline    bool          // the caller cancels by a deadline
	size        int           // of the payload
	items       int           // the number of items of a stream
	faultItem   int           // the item that has the fault
	stopAfter   int           // how many items are received before the stream is closed; 0 for all
}

// planner makes plans.
type planner struct {
	seed    uint64
	rate    float64   // the fraction of the calls that have a fault
	targets []*target // all of them, also if only some are called
}

// callNumber returns the number of the k-th call of a target.
func callNumber(t *target, k uint64, targets int) uint64 {
	return k*uint64(targets) + uint64(t.index)
}

// plan returns the plan of the k-th call of a target. The order in which random numbers
// are drawn is part of what a seed means.
func (pl planner) plan(t *target, k uint64) plan {
	number := callNumber(t, k, len(pl.targets))
	random := rand.New(rand.NewPCG(pl.seed, number))
	p := plan{number: number, target: t}
	if random.Float64() < pl.rate*float64(max(1, t.faultWeight)) {
		p.fault = t.faults[random.IntN(len(t.faults))]
		p.firstOnly = random.Float64() < 0.6
		if len(t.nodes) > 0 {
			p.at = t.nodes[random.IntN(len(t.nodes))]
		}
	}
	if p.fault != nil && p.fault.cancel || random.Float64() < 0.01 {
		p.cancelAfter = time.Duration(1+random.IntN(20)) * time.Millisecond
		p.deadline = random.IntN(2) == 0
		p.nap = time.Duration(random.IntN(20)) * time.Millisecond
	}
	switch n := random.IntN(100); { // most are small
	case n < 90:
		p.size = random.IntN(2 << 10)
	case n < 99:
		p.size = random.IntN(100 << 10)
	default:
		p.size = random.IntN(256 << 10)
	}
	p.items = 1 + random.IntN(24)
	p.faultItem = random.IntN(p.items)
	if t.streams && random.Float64() < 0.1 {
		p.stopAfter = 1 + random.IntN(p.items)
	}
	return p
}

// allowed returns the outcomes that the call may have by itself. The caller adds
// collateral if other calls or signals may affect the call.
func (p plan) allowed() outcome {
	var allowed outcome
	switch {
	case p.fault == nil:
		allowed = right
	case p.firstOnly && !p.target.nonIdempotent:
		allowed = right | p.fault.notRetried
	case p.firstOnly: // a second attempt is made only if the first one was not begun
		allowed = right | p.fault.own
	default:
		allowed = p.fault.own
	}
	if p.stopAfter > 0 { // perhaps before the fault
		allowed |= right
	}
	if p.cancelAfter > 0 {
		allowed |= canceled
	}
	if p.target.breaker {
		allowed |= refused
	}
	return allowed
}

// noFault is the name of the row of calls without a fault.
const noFault = "none of its own"

func (p plan) faultName() string {
	if p.fault == nil {
		return noFault
	}
	return p.fault.name
}

func (p plan) String() string {
	text := fmt.Sprintf("call %d of %s, fault: %s", p.number, p.target.name, p.faultName())
	if p.firstOnly {
		text += " (first attempt only)"
	}
	if p.at != "" {
		text += " at " + p.at
	}
	if p.cancelAfter > 0 {
		text += fmt.Sprintf(", canceled after %v", p.cancelAfter)
	}
	return text
}
