package worker

import (
	"sync"
	"time"
)

// unwatched is how long the context and the deadline of a call are not looked at.
const unwatched = 2 * time.Millisecond

// lookout counts the calls of a worker, finds those that take their time, and has their
// guards watch over them from then on. Most calls are over before: to these a guard is
// a place in a list, and one timer serves them all.
type lookout struct {
	mu             sync.Mutex
	oldest, newest *guard // of calls that are not watched yet
	begun, ended   uint64 // how many calls were added, and removed
	timer          *time.Timer
	ticks          bool // the timer is set, or tick runs
}

// add begins with a call.
func (l *lookout) add(g *guard) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.begun++
	g.listed, g.older = true, l.newest
	if g.older != nil {
		g.older.newer = g
	} else {
		l.oldest = g
	}
	l.newest = g
	switch {
	case l.ticks:
	case l.timer == nil:
		l.timer = time.AfterFunc(unwatched, l.tick)
	default:
		l.timer.Reset(unwatched)
	}
	l.ticks = true
}

// remove ends with a call, and reports whether it was over before it was watched.
func (l *lookout) remove(g *guard) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended++
	quick := g.listed
	if quick {
		l.unlist(g)
	}
	return quick
}

// counts returns how many calls have begun, and ended.
func (l *lookout) counts() (begun, ended uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.begun, l.ended
}

func (l *lookout) tick() {
	for g := l.next(); g != nil; g = l.next() {
		g.watch()
	}
}

// next takes a guard off the list whose call takes its time. Where there is none, it
// sets the timer for the one that may be the next.
func (l *lookout) next() *guard {
	l.mu.Lock()
	defer l.mu.Unlock()
	g := l.oldest
	if g == nil {
		l.ticks = false
		return nil
	}
	if rest := unwatched - (g.worker.age() - g.begun); rest > 0 {
		l.timer.Reset(rest)
		return nil
	}
	l.unlist(g)
	return g
}

func (l *lookout) unlist(g *guard) {
	if g.older != nil {
		g.older.newer = g.newer
	} else {
		l.oldest = g.newer
	}
	if g.newer != nil {
		g.newer.older = g.older
	} else {
		l.newest = g.older
	}
	g.listed, g.older, g.newer = false, nil, nil
}
