package fair

import "container/heap"

// flowHeap is a heap of flows that have waiters. Each flow knows its index in it.
type flowHeap struct {
	flows []*flow
	less  func(a, b *flow) bool
	index func(f *flow) *int
}

// startsBefore orders flows by their starts, and by the arrival of their oldest requests.
func startsBefore(a, b *flow) bool {
	if a.start != b.start {
		return a.start < b.start
	}
	return a.oldest().arrival < b.oldest().arrival
}

func (f *flow) oldest() *waiter   { return f.waiters.Front().Value.(*waiter) }
func (f *flow) youngest() *waiter { return f.waiters.Back().Value.(*waiter) }

// isLonger orders flows by their lengths, the longest one first, and then by the arrival of
// their youngest requests.
func isLonger(a, b *flow) bool {
	if a.length() != b.length() {
		return a.length() > b.length()
	}
	return a.youngest().arrival > b.youngest().arrival
}

// length returns the number of waiters for the weight of the flow.
func (f *flow) length() float64 { return float64(f.waiters.Len()) / f.weight }

// fix corrects the place of a flow that has changed.
func (h *flowHeap) fix(f *flow) { heap.Fix(h, *h.index(f)) }

// Len implements [heap.Interface].
func (h *flowHeap) Len() int { return len(h.flows) }

// Less implements [heap.Interface].
func (h *flowHeap) Less(i, j int) bool { return h.less(h.flows[i], h.flows[j]) }

// Swap implements [heap.Interface].
func (h *flowHeap) Swap(i, j int) {
	h.flows[i], h.flows[j] = h.flows[j], h.flows[i]
	*h.index(h.flows[i]), *h.index(h.flows[j]) = i, j
}

// Push implements [heap.Interface].
func (h *flowHeap) Push(x any) {
	f := x.(*flow)
	*h.index(f) = len(h.flows)
	h.flows = append(h.flows, f)
}

// Pop implements [heap.Interface].
func (h *flowHeap) Pop() any {
	last := len(h.flows) - 1
	f := h.flows[last]
	h.flows[last], h.flows = nil, h.flows[:last]
	*h.index(f) = -1
	return f
}
