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
	// Threads is how many threads the process, its group and its descendants have.
	Threads int
}

// sample is what a worker used at a time.
type sample struct {
	at    time.Time
	usage usage
	files openFiles // read less often
}

func (s *sample) stats() ProcessStats {
	return ProcessStats{Resident: s.usage.resident, CPU: s.usage.cpu, OpenFiles: s.files.open, Threads: s.usage.threads}
}

const (
	// maxSampleAge is how old the stats that Stats returns may be, and the descriptors
	// in a sample.
	maxSampleAge = time.Second
	// filesPause is how long the descriptors of a worker are not read again, as a multiple
	// of the time that reading them took.
	filesPause = 100
)

// Stats returns the stats of the last sample. If the worker has no limits that the
// sampler checks, Stats takes a new sample when the last one is too old.
func (w *Worker) Stats() ProcessStats {
	last := w.sample.Load()
	if last == nil || !w.needsSampling() && time.Since(last.at) > maxSampleAge {
		last = w.takeSample(time.Now())
	}
	return last.stats()
}

// GroupStats returns what a process and its group use, without the descriptors. The process
// must not have been reaped.
func GroupStats(pid int) ProcessStats {
	u := groupUsage(pid, time.Now())
	return ProcessStats{Resident: u.resident, CPU: u.cpu, Threads: u.threads}
}

// needsSampling reports whether the sampler has to check any of the worker's limits.
func (w *Worker) needsSampling() bool {
	l := w.config.Limits
	return l.ResidentSoft > 0 || l.Resident > 0 || l.CPUTime > 0 || l.OpenFiles > 0 || l.Threads > 0 || w.memoryLimit() > 0
}

// memoryLimit returns the limit of the worker's private memory, which also bounds its
// files that consist of memory.
func (w *Worker) memoryLimit() int64 { return w.config.Setup.Limits.Memory }

// limitsFiles reports whether the files that consist of memory count for a limit.
func (w *Worker) limitsFiles() bool {
	return w.config.Limits.ResidentSoft > 0 || w.config.Limits.Resident > 0 || w.memoryLimit() > 0
}

func (w *Worker) takeSample(now time.Time) *sample {
	s := &sample{at: now}
	if w.process.isRunning() {
		s.usage = groupUsage(w.PID(), now)
		pause := maxSampleAge
		if last := w.sample.Load(); last != nil {
			s.files = last.files
			if w.limitsFiles() {
				pause = min(pause, filesPause*last.files.cost)
			}
		}
		if now.Sub(s.files.at) >= pause {
			s.files = scanFiles(w.PID(), now, w.limitsFiles(), w.process.ownSockets)
		}
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
	// isolatedRest is the same of an isolated worker, whose threads may work on.
	isolatedRest = 500 * time.Millisecond
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
	due    time.Time     // when the next sample of a worker that has work is due
	steps  uint64        // how many calls and items the worker had finished
	cpu    time.Duration // the CPU time that it had used when it finished the last one
}

// check counts the worker's threads, takes a sample if one is due, ends the worker if it
// has passed a hard limit, and returns the time until the next check.
func (t *sampled) check(now time.Time) time.Duration {
	w := t.worker
	if !w.process.isRunning() {
		return busyInterval // it is starting or ending
	}
	begun, ended := w.watchdog.counts()
	steps := ended + w.itemsEmitted.Load()
	progressed := steps != t.steps
	busy := begun != ended || !w.isReady.Load()
	interval := idleInterval
	if limit := w.config.Limits.Threads; limit > 0 && !w.process.sandbox.BoundsThreads() {
		if count := countThreads(w.PID()); count > limit {
			w.endForThreads(count)
			return busyInterval
		}
		interval = threadInterval(w, busy)
	}
	rest := restInterval
	if w.config.Isolation != nil {
		rest, interval = isolatedRest, min(interval, isolatedRest)
	}
	if now.Add(nearInterval/2).Before(t.due) || !busy && !progressed && now.Sub(t.last.at) < rest {
		return interval
	}
	t.steps = steps
	next := min(interval, t.inspect(now, begun > 0, busy, progressed))
	if busy || progressed {
		t.due = now.Add(next)
	}
	return next
}

// threadInterval returns the time between two counts of a worker's threads. An isolated
// worker may be hostile, and start some 30,000 threads a second, also between its calls.
func threadInterval(w *Worker, busy bool) time.Duration {
	switch {
	case w.config.Isolation == nil && !busy:
		return idleInterval
	case w.config.Isolation == nil || !busy:
		return busyInterval
	}
	return nearInterval
}

// inspect takes a sample and checks the limits. It returns the time until the next sample.
func (t *sampled) inspect(now time.Time, called, busy, progressed bool) time.Duration {
	w, before := t.worker, t.last
	t.last = w.takeSample(now)
	cpu := t.last.usage.cpu
	if progressed || !busy {
		t.cpu = cpu
	}
	limits, used := w.config.Limits, cpu-t.cpu
	memory, files := t.memoryToCheck(now)
	threads := t.last.usage.threads
	switch {
	case limits.Threads > 0 && threads > limits.Threads:
		w.endForThreads(threads)
	case limits.Resident > 0 && memory > limits.Resident:
		w.process.endForBreach(ReasonMemory, &Breach{LimitResident, formatBytes(memory), formatBytes(limits.Resident)})
	case w.memoryLimit() > 0 && files > w.memoryLimit():
		w.process.endForBreach(ReasonMemory, &Breach{LimitMemory, formatBytes(files), formatBytes(w.memoryLimit())})
	case w.mayNotSendFiles() && t.last.files.queued > 0:
		w.process.endForBreach(ReasonMemory, &Breach{LimitMemory, formatQueued(t.last.files.queued), "0 descriptors"})
	case limits.CPUTime > 0 && used > limits.CPUTime && called:
		w.process.endForBreach(ReasonCPU, &Breach{LimitCPUTime, formatDuration(used), formatDuration(limits.CPUTime)})
	default:
		if called {
			w.checkSoftLimits(memory, t.last.files.open, threads)
		}
		switch {
		case busy:
			return t.intervalAfter(before, used)
		case progressed:
			return busyInterval // more work may follow soon
		}
		return idleInterval
	}
	return busyInterval // it is ending
}

// intervalAfter returns the time until the next sample of a busy worker, given the sample
// before the last one, and the CPU time that its call has used.
func (t *sampled) intervalAfter(before *sample, used time.Duration) time.Duration {
	limits, since := t.worker.config.Limits, t.last.at.Sub(before.at)
	files, filesBefore := t.last.files.memory.size(), before.files.memory.size()
	resident, residentBefore := t.last.usage.resident+files, before.usage.resident+filesBefore
	return min(
		intervalNear(limits.Resident, resident, resident-residentBefore, since),
		intervalNear(t.worker.memoryLimit(), files, files-filesBefore, since),
		intervalNear(int64(limits.CPUTime), int64(used), int64(t.last.usage.cpu-before.usage.cpu), since),
	)
}

// mayNotSendFiles reports whether descriptors that wait in the worker's sockets can only
// be there to hide memory: the worker has no other process to exchange them with. What
// they refer to cannot be counted.
func (w *Worker) mayNotSendFiles() bool {
	i := w.config.Isolation
	return i != nil && i.Processes == 0 && !i.Network
}

// endForThreads ends a worker that has too many threads.
func (w *Worker) endForThreads(count int) {
	w.process.endForBreach(ReasonThreads, &Breach{LimitThreads, formatThreads(count), formatThreads(w.config.Limits.Threads)})
}

// memoryToCheck returns the memory of the last sample, and the part of it that is in
// files. If the sum of resident memory and files passes a limit, although some of it may
// be in both, or shared by several processes, it returns the exact figures, which take the
// kernel much longer.
func (t *sampled) memoryToCheck(now time.Time) (memory, files int64) {
	w, u := t.worker, t.last.usage
	files = t.last.files.memory.size()
	memory = u.resident + files
	lowest := lowestLimit(w.config.Limits.ResidentSoft, w.config.Limits.Resident)
	passes := lowest > 0 && memory > lowest
	if !passes && (w.memoryLimit() == 0 || files <= w.memoryLimit()) || files == 0 && u.alone {
		return memory, files
	}
	exact, exactFiles := exactMemory(w.PID(), now, u.alone, files > 0)
	if exact == 0 {
		return memory, files
	}
	return exact, exactFiles
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
func (w *Worker) checkSoftLimits(memory int64, files, threads int) {
	limits := w.config.Limits
	var breach *Breach
	switch {
	case limits.ResidentSoft > 0 && memory > limits.ResidentSoft:
		breach = &Breach{LimitResidentSoft, formatBytes(memory), formatBytes(limits.ResidentSoft)}
	case limits.Threads > 0 && threads > limits.Threads/4*3:
		breach = &Breach{LimitThreads, formatThreads(threads), fmt.Sprintf("3/4 of %d", limits.Threads)}
	case limits.OpenFiles > 0 && files > limits.OpenFiles/4*3:
		breach = &Breach{LimitOpenFiles, fmt.Sprintf("%d descriptors", files), fmt.Sprintf("3/4 of %d", limits.OpenFiles)}
	default:
		return
	}
	if w.softBreach.CompareAndSwap(nil, breach) && w.config.OnSoftBreach != nil {
		w.config.OnSoftBreach(w)
	}
}
