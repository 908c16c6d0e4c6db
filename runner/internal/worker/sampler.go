package worker

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// ProcessStats are what a worker uses of the machine. A figure that is not known is
// 0.
type ProcessStats struct {
	// Resident is the resident memory, in bytes, of the process and its group.
	Resident int64
	// CPU is the CPU time that the process and its group have used.
	CPU time.Duration
	// OpenFiles is how many descriptors the process has open.
	OpenFiles int
}

// sample is what a worker used at a time.
type sample struct {
	at      time.Time
	stats   ProcessStats
	filesAt time.Time // when the descriptors were counted
	alone   bool      // there is no other process in the group
}

// maxSampleAge is how old the stats that Stats returns may be, and the number of
// descriptors in a sample.
const maxSampleAge = time.Second

// Stats returns the stats of the last sample. If the worker has no limits that the
// sampler checks, Stats takes a new sample when the last one is too old.
func (w *Worker) Stats() ProcessStats {
	last := w.sample.Load()
	if last == nil || !w.config.Limits.needSampling() && time.Since(last.at) > maxSampleAge {
		last = w.takeSample(time.Now())
	}
	return last.stats
}

func (w *Worker) takeSample(now time.Time) *sample {
	s := &sample{at: now}
	if w.process.isRunning() {
		last := w.sample.Load()
		if last != nil && now.Sub(last.filesAt) < maxSampleAge {
			s.filesAt, s.stats.OpenFiles = last.filesAt, last.stats.OpenFiles
		} else {
			s.filesAt, s.stats.OpenFiles = now, countOpenFiles(w.PID())
		}
		s.stats.Resident, s.stats.CPU, s.alone = groupUsage(w.PID(), now)
	}
	w.sample.Store(s)
	return s
}

// SoftBreach returns the soft limit that the worker has passed first, nil if it has
// passed none. Such a worker still serves, but should be replaced. Before its first
// call no worker passes a soft limit: one that its node needs more than would be
// replaced forever.
func (w *Worker) SoftBreach() *Breach { return w.softBreach.Load() }

// sampler checks the limits of the workers of this process. One goroutine does so,
// as long as there are workers with limits to check.
type sampler struct {
	mu      sync.Mutex // guards the fields below
	workers map[*Worker]*sampled
	running bool // the goroutine runs

	idle   atomic.Bool   // the goroutine waits for idleInterval
	wakeup chan struct{} // ends that wait
}

// limitSampler is the sampler of this process.
var limitSampler = sampler{workers: make(map[*Worker]*sampled), wakeup: make(chan struct{}, 1)}

const (
	// busyInterval is the time between two samples of a worker that has work, or had
	// some since the last one.
	busyInterval = 100 * time.Millisecond
	// nearInterval is the shortest time between two samples, of a worker that is close
	// to a limit.
	nearInterval = 10 * time.Millisecond
	// restInterval is the time between two samples of a worker without work.
	restInterval = 5 * time.Second
	// idleInterval is how often the sampler looks for workers that have work, as long as
	// none has. A call that runs for longer than watchAfter wakes it.
	idleInterval = time.Second
)

func (s *sampler) add(w *Worker) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.workers[w] = &sampled{worker: w, last: &sample{}}
	if !s.running {
		s.running = true
		go s.run()
	}
	s.wake()
}

func (s *sampler) remove(w *Worker) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.workers, w)
	if len(s.workers) == 0 {
		s.wake()
	}
}

// wake ends the wait of an idle sampler.
func (s *sampler) wake() {
	if s.idle.CompareAndSwap(true, false) {
		select {
		case s.wakeup <- struct{}{}:
		default: // it is being woken already
		}
	}
}

func (s *sampler) run() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-s.wakeup:
		}
		all := s.all()
		if all == nil {
			return
		}
		now, interval := time.Now(), idleInterval
		for _, each := range all {
			interval = min(interval, each.check(now))
		}
		s.idle.Store(interval == idleInterval)
		timer.Reset(interval)
	}
}

// all returns the workers to check. If there are none, it returns nil, and the
// goroutine has to end.
func (s *sampler) all() []*sampled {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.workers) == 0 {
		s.running = false
		return nil
	}
	all := make([]*sampled, 0, len(s.workers))
	for _, each := range s.workers {
		all = append(all, each)
	}
	return all
}

// sampled is a worker whose limits are checked. Only the sampler's goroutine uses it.
type sampled struct {
	worker *Worker
	last   *sample
	steps  uint64        // how many calls and items the worker had finished
	cpu    time.Duration // the CPU time that it had used when it finished the last one
}

// check takes a sample of a worker if one is due, ends the worker if it has passed a
// hard limit, and returns the time until the next check.
func (t *sampled) check(now time.Time) time.Duration {
	w := t.worker
	if !w.process.isRunning() {
		return busyInterval // it is starting or ending
	}
	begun, ended := w.watchdog.counts()
	busy := begun != ended || !w.isReady.Load()
	steps := ended + w.itemsEmitted.Load()
	progressed := steps != t.steps
	if !busy && !progressed && now.Sub(t.last.at) < restInterval {
		return idleInterval
	}
	before := t.last
	t.last = w.takeSample(now)
	t.steps = steps
	stats := t.last.stats
	if progressed || !busy {
		t.cpu = stats.CPU
	}
	limits := w.config.Limits
	resident := t.memoryToCheck(now)
	used := stats.CPU - t.cpu
	switch {
	case limits.Resident > 0 && resident > limits.Resident:
		w.process.endForBreach(ReasonMemory, &Breach{LimitResident, formatBytes(resident), formatBytes(limits.Resident)})
		return busyInterval
	case limits.CPUTime > 0 && used > limits.CPUTime && begun > 0:
		w.process.endForBreach(ReasonCPU, &Breach{LimitCPUTime, formatDuration(used), formatDuration(limits.CPUTime)})
		return busyInterval
	}
	if begun > 0 {
		w.checkSoftLimits(resident, stats.OpenFiles)
	}
	switch {
	case busy:
		since := now.Sub(before.at)
		return min(
			intervalNear(limits.Resident, stats.Resident, stats.Resident-before.stats.Resident, since),
			intervalNear(int64(limits.CPUTime), int64(used), int64(stats.CPU-before.stats.CPU), since),
		)
	case progressed:
		return busyInterval // more work may follow soon
	}
	return idleInterval
}

// memoryToCheck returns the resident memory of the last sample. If that passes a limit
// although several processes may share some of it, it returns the exact figure, which
// takes the kernel much longer.
func (t *sampled) memoryToCheck(now time.Time) int64 {
	limits, resident := t.worker.config.Limits, t.last.stats.Resident
	lowest := lowestLimit(limits.ResidentSoft, limits.Resident)
	if lowest > 0 && resident > lowest && !t.last.alone {
		if exact := proportionalMemory(t.worker.PID(), now); exact > 0 {
			return exact
		}
	}
	return resident
}

// lowestLimit returns the lower of two limits, of which 0 is none.
func lowestLimit(a, b int64) int64 {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// intervalNear returns the time until the next sample of a value, given how much it
// has grown since the one before: half the time in which it would reach its limit.
func intervalNear(limit, value, growth int64, since time.Duration) time.Duration {
	if limit <= 0 || growth <= 0 || value >= limit {
		return busyInterval
	}
	half := time.Duration(float64(since) * float64(limit-value) / float64(growth) / 2)
	return min(max(half, nearInterval), busyInterval)
}

// checkSoftLimits records the first soft limit that the worker passes, and reports it
// to the owner.
func (w *Worker) checkSoftLimits(resident int64, files int) {
	limits := w.config.Limits
	var breach *Breach
	switch {
	case limits.ResidentSoft > 0 && resident > limits.ResidentSoft:
		breach = &Breach{LimitResidentSoft, formatBytes(resident), formatBytes(limits.ResidentSoft)}
	case limits.OpenFiles > 0 && files > limits.OpenFiles/4*3:
		breach = &Breach{LimitOpenFiles, fmt.Sprintf("%d descriptors", files), fmt.Sprintf("3/4 of %d", limits.OpenFiles)}
	default:
		return
	}
	if w.softBreach.CompareAndSwap(nil, breach) && w.config.OnSoftBreach != nil {
		w.config.OnSoftBreach(w)
	}
}
