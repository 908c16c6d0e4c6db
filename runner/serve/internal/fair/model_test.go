package fair

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// model is a queue that is simple and slow: it searches lists for what the queue keeps in heaps.
type model struct {
	length, slots, used int
	arrivals            int
	waiters             []*modelWaiter // the oldest first
	now                 [classes]float64
	passed              [classes]int
	starts              map[Flow]float64
}

type modelWaiter struct {
	flow    Flow
	arrival int
	outcome string // "waits", "has a slot", "was refused" or "has left"
}

func (m *model) waitersOf(f Flow) (all []*modelWaiter) {
	for _, w := range m.waiters {
		if w.flow == f {
			all = append(all, w)
		}
	}
	return all
}

func (m *model) lengthOf(f Flow) float64 { return float64(len(m.waitersOf(f))) / float64(f.Weight) }

func (m *model) remove(w *modelWaiter, outcome string) {
	w.outcome = outcome
	m.waiters = slices.DeleteFunc(m.waiters, func(o *modelWaiter) bool { return o == w })
}

func (m *model) join(f Flow) *modelWaiter {
	m.arrivals++
	w := &modelWaiter{flow: f, arrival: m.arrivals, outcome: "waits"}
	if len(m.waiters) == 0 && m.used < m.slots {
		m.used++
		w.outcome = "has a slot"
		return w
	}
	if len(m.waiters) == m.length {
		longest := m.longest()
		if float64(len(m.waitersOf(f))+1)/float64(f.Weight) >= m.lengthOf(longest) {
			w.outcome = "was refused"
			return w
		}
		all := m.waitersOf(longest)
		m.remove(all[len(all)-1], "was refused")
	}
	if !slices.ContainsFunc(m.waiters, func(o *modelWaiter) bool { return o.flow.Class == f.Class }) {
		m.passed[f.Class] = 0
	}
	if len(m.waitersOf(f)) == 0 {
		m.starts[f] = max(m.starts[f], m.now[f.Class])
	}
	m.waiters = append(m.waiters, w)
	m.grant()
	return w
}

// longest returns a flow with the most waiters for its weight.
func (m *model) longest() Flow {
	best := m.waiters[0].flow
	for _, w := range m.waiters {
		if m.lengthOf(w.flow) >= m.lengthOf(best) {
			best = w.flow
		}
	}
	return best
}

func (m *model) grant() {
	for m.used < m.slots && len(m.waiters) > 0 {
		w := m.next()
		m.now[w.flow.Class] = max(m.now[w.flow.Class], m.starts[w.flow]) + 1/m.weightOf(w.flow.Class)
		m.starts[w.flow] += 1 / float64(w.flow.Weight)
		m.remove(w, "has a slot")
		m.used++
	}
}

// weightOf returns the weight of all flows of a class that wait.
func (m *model) weightOf(c Class) (sum float64) {
	flows := make(map[Flow]bool)
	for _, w := range m.waiters {
		if w.flow.Class == c && !flows[w.flow] {
			flows[w.flow] = true
			sum += float64(w.flow.Weight)
		}
	}
	return sum
}

func (m *model) next() *modelWaiter {
	best := make([]*modelWaiter, classes)
	for _, w := range m.waiters {
		b := best[w.flow.Class]
		if b == nil || m.starts[w.flow] < m.starts[b.flow] {
			best[w.flow.Class] = w
		}
	}
	next := Class(-1)
	for c := range classes {
		if best[c] != nil && (next < 0 || m.passed[c] >= Patience) {
			next = c
		}
	}
	for c := range classes {
		if best[c] != nil {
			m.passed[c]++
		}
	}
	m.passed[next] = 0
	return best[next]
}

func (m *model) release() {
	m.used--
	m.grant()
	if len(m.waiters) == 0 && m.used == 0 {
		m.now, m.starts = [classes]float64{}, make(map[Flow]float64)
	}
}

// pair is a request in the queue and in the model.
type pair struct {
	w     *waiter // nil if it got a slot at once
	err   error
	model *modelWaiter
}

// outcome returns what has become of a request in the queue.
func (p *pair) outcome() string {
	switch {
	case p.err != nil:
		return "was refused"
	case p.w == nil:
		return "has a slot"
	}
	select {
	case <-p.w.done:
		if p.w.err != nil {
			return "was refused"
		}
		return "has a slot"
	default:
		if p.w.element == nil {
			return "has left"
		}
		return "waits"
	}
}

// compareWithModel does what the bytes say with the queue and with the model, and compares what
// becomes of each request.
func compareWithModel(t *testing.T, program []byte) {
	m := &model{length: 7, slots: 2, starts: make(map[Flow]float64)}
	slots := m.slots
	q := NewQueue(m.length, func() int { return slots })
	var all []*pair
	for step, b := range program {
		argument := int(b >> 2)
		switch b & 3 {
		case 0, 1:
			f := Flow{ID: string(rune('a' + argument%5)), Weight: 1 + argument%5, Class: Class(argument / 5 % int(classes))}
			w, err := q.join(f)
			all = append(all, &pair{w, err, m.join(f)})
		case 2:
			if m.used > 0 {
				q.Release()
				m.release()
			}
		case 3:
			if argument%4 == 0 { // the number of slots changes
				slots = 1 + argument%3
				m.slots = slots
				q.mu.Lock()
				q.asked = time.Time{}
				q.askLocked()
				q.grantLocked()
				q.mu.Unlock()
				m.grant()
			} else if waiting := waitingOf(all); len(waiting) > 0 {
				p := waiting[argument%len(waiting)]
				q.leave(p.w)
				m.remove(p.model, "has left")
			}
		}
		for i, p := range all {
			require.Equal(t, p.model.outcome, p.outcome(), "request %d after step %d", i, step)
		}
		counts := q.Counts()
		assert.Equal(t, m.used, counts.Used)
		assert.Equal(t, len(m.waiters), counts.Waiting)
	}
}

func waitingOf(all []*pair) (waiting []*pair) {
	for _, p := range all {
		if p.model.outcome == "waits" {
			waiting = append(waiting, p)
		}
	}
	return waiting
}

func TestAQueueDoesWhatItsModelDoes(t *testing.T) {
	t.Parallel()
	for range 100 {
		program := make([]byte, 120)
		for i := range program {
			program[i] = byte(rand.Uint32())
		}
		compareWithModel(t, program)
	}
}

func FuzzQueue(f *testing.F) {
	f.Add([]byte{0, 4, 8, 12, 2, 2, 7})
	f.Fuzz(func(t *testing.T, program []byte) {
		if len(program) < 400 {
			compareWithModel(t, program)
		}
	})
}
