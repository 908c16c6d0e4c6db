package worker

import "time"

// Vitals are what a worker uses of the machine; 0 where that is not known.
type Vitals struct {
	// Resident is the memory, in bytes, of the process and of its group.
	Resident int64
	// CPU is the time that both have used.
	CPU time.Duration
	// OpenFiles is how many descriptors the process has open.
	OpenFiles int
}

// vitalsAge is how old figures may be that somebody asks for.
const vitalsAge = time.Second

// sample is what was seen at a time.
type sample struct {
	at     time.Time
	vitals Vitals
	// files is when the descriptors were counted.
	files time.Time
	// alone says that there is no other process in the group.
	alone bool
}

// Vitals returns what the worker was last seen to use. One with limits is looked
// at anyway, another when somebody asks.
func (w *Worker) Vitals() Vitals {
	last := w.sample.Load()
	if last == nil || !w.config.Limits.areWatched() && time.Since(last.at) > vitalsAge {
		last = w.look(time.Now())
	}
	return last.vitals
}

// look takes a sample.
func (w *Worker) look(now time.Time) *sample {
	s := &sample{at: now}
	if w.process.isThere() {
		last := w.sample.Load()
		if last != nil && now.Sub(last.files) < vitalsAge {
			s.files, s.vitals.OpenFiles = last.files, last.vitals.OpenFiles
		} else {
			s.files, s.vitals.OpenFiles = now, openFiles(w.PID())
		}
		s.vitals.Resident, s.vitals.CPU, s.alone = use(w.PID(), now)
	}
	w.sample.Store(s)
	return s
}

// Worn returns the soft limit that the worker has passed, nil where there is
// none. It is of use still, and better replaced. No worker is worn before its
// first call, or a bound that its node needs would have it replaced for ever.
func (w *Worker) Worn() *Breach { return w.worn.Load() }

// Born returns when its start began.
func (w *Worker) Born() time.Time { return w.born }

// Calls returns how many calls it has ended.
func (w *Worker) Calls() uint64 {
	_, ended := w.lookout.counts()
	return ended
}
