package monitor

import (
	"math/bits"
	"sync"
	"sync/atomic"
	"time"
)

// Span is the time of one point, and Points is how many points are kept: the last minute.
const (
	Span   = 2 * time.Second
	Points = 30
)

// A duration is counted in one of eight buckets for each power of two of microseconds, so that a
// quantile is exact to about 6 %. The last bucket has all durations from half an hour.
const (
	perOctave = 8
	octaves   = 31
	buckets   = perOctave * octaves
)

// Calls counts the calls of a node in the last minute, and how long they took. It takes 30 KiB.
// The zero Calls is ready for use. It is safe for concurrent use.
type Calls struct {
	windows [Points]window
	mu      sync.Mutex // held while a window is emptied
}

// window counts the calls that ended within one span of time.
type window struct {
	number atomic.Int64 // of the span, counted from 1970
	failed atomic.Uint32
	counts [buckets]atomic.Uint32
}

// Add counts a call that has ended. It takes a lock only for the first call in a span.
func (c *Calls) Add(at time.Time, took time.Duration, failed bool) {
	number := numberOf(at)
	w := &c.windows[number%Points]
	if w.number.Load() != number {
		c.begin(w, number)
	}
	w.counts[bucketOf(took)].Add(1)
	if failed {
		w.failed.Add(1)
	}
}

// begin empties a window for a new span.
func (c *Calls) begin(w *window, number int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if w.number.Load() >= number { // another call has begun it
		return
	}
	w.failed.Store(0)
	for i := range w.counts {
		w.counts[i].Store(0)
	}
	w.number.Store(number)
}

// Figures are what [Calls] says about a span of time.
type Figures struct {
	Calls, Failed int
	// P50 and P99 are how long half of the calls, and 99 of 100, took at most. They are 0
	// without calls.
	P50, P99 time.Duration
}

// Recent returns the figures of the last minute, and of each span in it that has ended, oldest
// first.
func (c *Calls) Recent(now time.Time) (all Figures, points []Figures) {
	var total, counts [buckets]uint32
	last := numberOf(now)
	points = make([]Figures, 0, Points-1)
	for number := last - Points + 1; number <= last; number++ {
		w := &c.windows[((number%Points)+Points)%Points]
		if w.number.Load() != number {
			points = append(points, Figures{})
			continue
		}
		for i := range counts {
			counts[i] = w.counts[i].Load()
			total[i] += counts[i]
		}
		point := figuresOf(&counts)
		point.Failed = int(w.failed.Load())
		all.Failed += point.Failed
		points = append(points, point)
	}
	failed := all.Failed
	all = figuresOf(&total)
	all.Failed = failed
	return all, points[:len(points)-1] // the last span has not ended
}

func numberOf(at time.Time) int64 { return at.UnixNano() / int64(Span) }

// bucketOf returns the bucket of a duration.
func bucketOf(d time.Duration) int {
	µs := uint64(max(d.Microseconds(), 1))
	octave := bits.Len64(µs) - 1
	if octave >= octaves {
		return buckets - 1
	}
	fraction := (µs << octaves >> octave) >> (octaves - 3) & (perOctave - 1)
	return octave*perOctave + int(fraction)
}

// middleOf returns the middle of a bucket.
func middleOf(bucket int) time.Duration {
	octave, fraction := bucket/perOctave, bucket%perOctave
	return time.Duration((perOctave + float64(fraction) + 0.5) / perOctave * float64(uint64(1)<<octave) * float64(time.Microsecond))
}

// figuresOf returns the figures of counts, without the failed calls.
func figuresOf(counts *[buckets]uint32) Figures {
	var f Figures
	for _, n := range counts {
		f.Calls += int(n)
	}
	f.P50, f.P99 = quantile(counts, f.Calls, 0.5), quantile(counts, f.Calls, 0.99)
	return f
}

func quantile(counts *[buckets]uint32, total int, q float64) time.Duration {
	if total == 0 {
		return 0
	}
	rank, below := int(q*float64(total-1)), 0
	for i, n := range counts {
		if below += int(n); below > rank {
			return middleOf(i)
		}
	}
	return middleOf(buckets - 1)
}
