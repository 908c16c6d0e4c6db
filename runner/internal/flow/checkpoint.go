package flow

import "slices"

// Checkpoint is a stream between two items, from which another stream of the same plan can
// continue.
type Checkpoint struct {
	// States are those of the stateful nodes, by their ids. A node without one has its
	// initial state.
	States map[string][]byte
	// Emitted is how many values each sink has returned for the items before, by its id.
	Emitted map[string]int
}

// Checkpoints reports whether [Stream.Checkpoint] may be called: between two items nothing
// waits in a queue for an item that is still to come. So no step merges its inputs, and none
// joins the values of nodes that may yield different numbers of them.
func (p *Plan) Checkpoints() bool {
	uneven := func(s step) bool { return s.node.Kind() != Single }
	return !p.Merges() && (!p.joins || !slices.ContainsFunc(p.steps, uneven))
}

// Checkpoint waits until nothing is between Send and the sinks, and saves the states. The
// consumer must go on calling Next meanwhile, and Send waits. The error is that of a Send: the
// stream has failed, or was stopped.
func (s *Stream) Checkpoint() (Checkpoint, error) {
	s.sending.Lock()
	defer s.sending.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.isSettling = true
	defer func() { s.isSettling = false }()
	if err := s.awaitLocked(s.isSettledLocked); err != nil {
		return Checkpoint{}, err
	}
	for _, st := range s.stages {
		if st.session != nil {
			st.saving = true
			st.wakeLocked()
		}
	}
	if err := s.awaitLocked(s.isSavedLocked); err != nil {
		return Checkpoint{}, err
	}
	c := Checkpoint{States: make(map[string][]byte), Emitted: make(map[string]int, len(s.out))}
	for _, st := range s.stages {
		if st.state != nil {
			c.States[st.step.id], st.state = st.state, nil
		}
	}
	for _, q := range s.out {
		c.Emitted[q.producer.step.id] = q.produced
	}
	return c, nil
}

// awaitLocked waits for a condition, as long as the stream takes items.
func (s *Stream) awaitLocked(condition func() bool) error {
	for {
		if err := s.refusalLocked(); err != nil {
			return err
		}
		if condition() {
			return nil
		}
		s.sender.Wait()
	}
}

// isSettledLocked reports whether nothing is between Send and the sinks.
func (s *Stream) isSettledLocked() bool {
	for _, st := range s.stages {
		for _, q := range st.in {
			if q.n > 0 || q.taken > 0 {
				return false
			}
		}
	}
	return true
}

// isSavedLocked reports whether all states are saved.
func (s *Stream) isSavedLocked() bool {
	return !slices.ContainsFunc(s.stages, func(st *stage) bool { return st.saving })
}

// saveLocked saves the state of the session, for a checkpoint.
func (st *stage) saveLocked() {
	s := st.stream
	s.unlockForWork()
	state, err := st.session.Save(s.ctx)
	s.lockAfterWork()
	st.saving, st.state = false, state
	if err != nil {
		st.failLocked(err)
	}
	s.sender.Broadcast()
}
