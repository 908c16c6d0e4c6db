package runner

import "slices"

// hand is what one goroutine of a stage works with. Its methods are called with the
// stream's lock held.
type hand struct {
	stage  *stage
	inputs []value // one of each input
	sizes  []int64
	places []int // of the result, in each output
	from   func(input) value
}

func newHand(st *stage) *hand {
	h := &hand{
		stage:  st,
		inputs: make([]value, len(st.in)), sizes: make([]int64, len(st.in)), places: make([]int, len(st.out)),
	}
	h.from = func(in input) value { return h.inputs[slices.Index(st.step.inputs, in)] }
	return h
}

// work takes an item and deals with it.
func (h *hand) work() {
	st := h.stage
	if st.serial != nil {
		h.take()
		var err error
		st.stream.unlocked(func() { err = st.serial.item(h.inputs) })
		h.done()
		if err != nil {
			st.fail(AsError(err))
		}
		return
	}
	size := st.expected()
	for i, q := range st.out {
		h.places[i] = q.reserve(size)
	}
	h.take()
	st.calls++
	st.kick() // another goroutine for the next item
	h.call()
	st.calls--
}

func (h *hand) take() {
	for i, q := range h.stage.in {
		h.inputs[i], h.sizes[i] = q.pop()
	}
}

// done gives the inputs back.
func (h *hand) done() {
	for i, q := range h.stage.in {
		h.inputs[i].release()
		h.inputs[i] = value{}
		q.done(h.sizes[i])
	}
}

// call runs the node once, and puts its result where its place is.
func (h *hand) call() {
	st, s := h.stage, h.stage.stream
	s.busy++
	s.mu.Unlock()
	out, err := st.step.node.run(s.ctx, st.step, h.from, h.inputs[0])
	s.mu.Lock()
	s.busy--
	h.done()
	switch {
	case err == nil:
		st.probing = false
		st.expect, st.gave = int64(out.payload.Size()), true
		out.hold(len(st.out) - 1)
		for i, q := range st.out {
			q.fill(h.places[i], out, st.expect)
		}
	case !st.halts():
		fault := AsError(err)
		for i, q := range st.out {
			q.fillFault(h.places[i], fault)
		}
		s.noteFault(fault)
		st.end()
	}
}

// finish deals with the end of the input.
func (h *hand) finish() {
	st := h.stage
	if st.serial != nil {
		var err error
		st.stream.unlocked(func() { err = st.serial.finish() })
		if err != nil {
			st.fail(AsError(err))
			return
		}
	}
	shut(st.out)
	st.end()
}
