package serve

// Waiters returns how many clients wait for the answers to keys that are under way.
func Waiters(s *Server) (n int) {
	t := s.handler.answers
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, e := range t.entries {
		if !e.isDone() {
			n += e.waiters
		}
	}
	return n
}
