package main

import (
	"fmt"
	"math/rand/v2"
	"time"
)

// plan is all that is decided of a call before it is made: a pure function of the
// seed and the call's number. What cannot be had again from a seed is when things
// happen, and so which calls are under way when a worker dies.
type plan struct {
	number   uint64
	lane     *lane
	fault    *fault        // nil for most
	once     bool          // the fault befalls the first attempt alone
	at       string        // the node that it befalls, where the pipeline has several
	nap      time.Duration // what the node's work takes
	cancel   time.Duration // after which the caller gives up; 0 for never
	deadline bool          // he does so by a deadline
	size     int           // of what it carries
	items    int           // that it sends or wants, where the pipeline gives many
	hurt     int           // which of them has the fault
	stop     int           // after how many of them the stream is closed; 0 for none
}

// planner makes plans.
type planner struct {
	seed  uint64
	rate  float64 // the part of the calls that have a fault
	lanes []*lane
}

// plan returns the plan of the k-th call of a lane.
func (pl planner) plan(l *lane, k uint64) plan {
	number := k*uint64(len(pl.lanes)) + uint64(l.index)
	chance := rand.New(rand.NewPCG(pl.seed, number))
	p := plan{number: number, lane: l}
	if chance.Float64() < pl.rate*float64(max(1, l.burden)) {
		p.fault = l.faults[chance.IntN(len(l.faults))]
		p.once = chance.Float64() < 0.6
		if len(l.nodes) > 0 {
			p.at = l.nodes[chance.IntN(len(l.nodes))]
		}
	}
	switch {
	case p.fault != nil && p.fault.cancel, chance.Float64() < 0.01:
		p.cancel = time.Duration(1+chance.IntN(20)) * time.Millisecond
		p.deadline = chance.IntN(2) == 0
		p.nap = time.Duration(chance.IntN(20)) * time.Millisecond
	}
	switch n := chance.IntN(100); { // most are small, some are not
	case n < 90:
		p.size = chance.IntN(2 << 10)
	case n < 99:
		p.size = chance.IntN(100 << 10)
	default:
		p.size = chance.IntN(256 << 10)
	}
	p.items = 1 + chance.IntN(24)
	p.hurt = chance.IntN(p.items)
	if l.streams && chance.Float64() < 0.1 {
		p.stop = 1 + chance.IntN(p.items)
	}
	return p
}

// allowed is what the call may come to by itself. What others may do to it, neighbour,
// comes on top of that.
func (p plan) allowed() outcome {
	var may outcome
	switch {
	case p.fault == nil:
		may = right
	case p.once && !p.lane.once:
		may = right | p.fault.last
	case p.once: // a second attempt is made only where the first one was not begun
		may = right | p.fault.own
	default:
		may = p.fault.own
	}
	if p.stop > 0 { // perhaps before the fault
		may |= right
	}
	if p.cancel > 0 {
		may |= cancelled
	}
	if p.lane.breaker {
		may |= refused
	}
	return may
}

func (p plan) faultName() string {
	if p.fault == nil {
		return noFault
	}
	return p.fault.name
}

// noFault is the name of the calls that have none.
const noFault = "none of its own"

func (p plan) String() string {
	text := fmt.Sprintf("call %d of %s, fault: %s", p.number, p.lane.name, p.faultName())
	if p.once {
		text += " (once)"
	}
	if p.at != "" {
		text += " at " + p.at
	}
	if p.cancel > 0 {
		text += fmt.Sprintf(", given up after %v", p.cancel)
	}
	return text
}
