package worker

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// sampler is the one goroutine that looks whether the workers of this process
// keep their limits. It is there as long as one that has any is.
type sampler struct {
	mu      sync.Mutex
	watched map[*Worker]*watched
	running bool

	dozing atomic.Bool
	woken  chan struct{} // receives where it is to stop dozing
}

var limitsKept = sampler{watched: make(map[*Worker]*watched), woken: make(chan struct{}, 1)}

const (
	// busyPace is how often a worker is looked at that has work, or has had some
	// since, and fastPace how often near a bound.
	busyPace = 100 * time.Millisecond
	fastPace = 10 * time.Millisecond
	// idlePace is how often a worker is looked at that has none.
	idlePace = 5 * time.Second
	// dozePace is how often it is looked who has work, as long as nobody has. Calls
	// that take their time wake the sampler.
	dozePace = time.Second
)

// watched is a worker that is looked at. Only the sampler's goroutine uses it.
type watched struct {
	worker *Worker
	last   *sample
	steps  uint64        // that the worker had done
	cpu    time.Duration // that it had used when the last step was done
}

func (s *sampler) add(w *Worker) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.watched[w] = &watched{worker: w, last: &sample{}}
	if !s.running {
		s.running = true
		go s.run()
	}
	s.wake()
}

func (s *sampler) remove(w *Worker) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.watched, w)
	if len(s.watched) == 0 {
		s.wake()
	}
}

// wake ends a doze.
func (s *sampler) wake() {
	if s.dozing.CompareAndSwap(true, false) {
		select {
		case s.woken <- struct{}{}:
		default: // it is about to
		}
	}
}

func (s *sampler) run() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-s.woken:
		}
		all := s.all()
		if all == nil {
			return
		}
		now, pace := time.Now(), dozePace
		for _, each := range all {
			pace = min(pace, each.keep(now))
		}
		s.dozing.Store(pace == dozePace)
		timer.Reset(pace)
	}
}

// all returns whom to look at; where there is nobody, the goroutine is to end.
func (s *sampler) all() []*watched {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.watched) == 0 {
		s.running = false
		return nil
	}
	all := make([]*watched, 0, len(s.watched))
	for _, each := range s.watched {
		all = append(all, each)
	}
	return all
}

// keep looks at a worker where that is due, ends it where it has passed a hard
// limit, and returns when to look at it again.
func (t *watched) keep(now time.Time) time.Duration {
	w := t.worker
	if !w.process.isThere() {
		return busyPace // not yet, or no more
	}
	begun, ended := w.lookout.counts()
	works := begun != ended || !w.isReady.Load()
	steps := ended + w.itemsGiven.Load()
	moved := steps != t.steps
	if !works && !moved && now.Sub(t.last.at) < idlePace {
		return dozePace
	}
	before := t.last
	t.last = w.look(now)
	t.steps = steps
	vitals := t.last.vitals
	if moved || !works {
		t.cpu = vitals.CPU
	}
	limits := w.config.Limits
	resident := vitals.Resident
	if most := lowest(limits.ResidentSoft, limits.Resident); most > 0 && resident > most && !t.last.alone {
		if apart := sharedOut(w.PID(), now); apart > 0 {
			resident = apart
		}
	}
	used := vitals.CPU - t.cpu
	switch {
	case limits.Resident > 0 && resident > limits.Resident:
		w.process.endOver(ReasonMemory, &Breach{LimitResident, inBytes(resident), inBytes(limits.Resident)})
		return busyPace
	case limits.CPUTime > 0 && used > limits.CPUTime && begun > 0:
		w.process.endOver(ReasonCPU, &Breach{LimitCPUTime, inTime(used), inTime(limits.CPUTime)})
		return busyPace
	}
	if begun > 0 {
		w.wear(resident, vitals.OpenFiles)
	}
	if !works {
		return dozePaceUnless(moved)
	}
	return min(
		paceTo(limits.Resident, vitals.Resident, vitals.Resident-before.vitals.Resident, now.Sub(before.at)),
		paceTo(int64(limits.CPUTime), int64(used), int64(vitals.CPU-before.vitals.CPU), now.Sub(before.at)),
	)
}

// dozePaceUnless is when to look again at a worker without work: soon where it has
// just had some, for there may be more.
func dozePaceUnless(moved bool) time.Duration {
	if moved {
		return busyPace
	}
	return dozePace
}

// lowest returns the lower bound of two, of which 0 is none.
func lowest(a, b int64) int64 {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// paceTo returns when to look again at what grew by so much in such a time, so as
// not to be late at the bound.
func paceTo(bound, value, grew int64, in time.Duration) time.Duration {
	if bound <= 0 || grew <= 0 || value >= bound {
		return busyPace
	}
	half := time.Duration(float64(in) * float64(bound-value) / float64(grew) / 2)
	return min(max(half, fastPace), busyPace)
}

// wear takes down, once, that the worker has passed a soft limit.
func (w *Worker) wear(resident int64, files int) {
	limits := w.config.Limits
	var breach *Breach
	switch {
	case limits.ResidentSoft > 0 && resident > limits.ResidentSoft:
		breach = &Breach{LimitResidentSoft, inBytes(resident), inBytes(limits.ResidentSoft)}
	case limits.OpenFiles > 0 && files > limits.OpenFiles/4*3:
		breach = &Breach{LimitOpenFiles, fmt.Sprintf("%d descriptors", files), fmt.Sprintf("3/4 of %d", limits.OpenFiles)}
	default:
		return
	}
	if w.worn.CompareAndSwap(nil, breach) && w.config.Worn != nil {
		w.config.Worn(w)
	}
}
