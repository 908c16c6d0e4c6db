package main

import (
	"fmt"
	"os"

	"github.com/gophersnake/gophersnake/scripts/internal/procs"
)

// profile is how the memory goes on through a soak, looked at a hundred times.
type profile struct {
	total, every       int
	first, most, least int64 // first: after a tenth; the others from then on
}

func newProfile(total int) *profile { return &profile{total: total, every: max(1, total/100)} }

// at is told that so much of the work has been done.
func (p *profile) at(done int) {
	if done%p.every != 0 || done < p.total/10 {
		return
	}
	now := procs.Resident(append(procs.Children(os.Getpid()), os.Getpid())...)
	if p.first == 0 {
		p.first, p.least = now, now
	}
	p.most, p.least = max(p.most, now), min(p.least, now)
}

// slack is what memory may grow by: a collection comes earlier or later.
const slack = 16 << 20

// check refuses memory that grew.
func (p *profile) check() error {
	if p.most > p.first+slack {
		return fmt.Errorf("the memory grew by %d MiB after the first tenth; %d MiB are allowed", (p.most-p.first)>>20, slack>>20)
	}
	return nil
}

func (p *profile) String() string {
	return fmt.Sprintf("%.1f MiB after the first tenth, then %.1f to %.1f MiB", mib(p.first), mib(p.least), mib(p.most))
}

func mib(n int64) float64 { return float64(n) / (1 << 20) }
