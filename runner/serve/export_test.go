package serve

import "github.com/gophersnake/gophersnake/runner/serve/internal/fair"

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

// Counts returns the figures of the queue of the pipeline p.
func Counts(s *Server) fair.Counts { return s.handler.pipelines["p"].turns.Counts() }

// Held returns how many bytes of bodies and answers are held.
func Held(s *Server) int64 { return s.handler.held.used.Load() }
