package pool

import (
	"context"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner/internal/worker"
)

// Session is a stateful node's state in one worker, to which it sticks. Its calls
// are made one after the other. When the worker ends, the session is over: its
// calls fail with the worker's end then.
type Session struct {
	pool   *Pool
	member *member
	number uint32
	over   bool // Finish has been called, or Close
}

// Open begins a session on the worker that has the fewest, from the state that an
// earlier one gave by [Session.Snapshot], or from its beginning. The session must
// be closed. Its errors are those of [Pool.Call].
func (p *Pool) Open(ctx context.Context, state *ipc.Payload) (s *Session, err error) {
	err = p.onAny(ctx, request{session: true}, func(m *member) error {
		s = &Session{pool: p, member: m, number: p.admit(m)}
		err := m.worker.Open(ctx, s.number, state)
		if err != nil {
			s.leave()
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return s, nil
}

// forSession returns the worker with the fewest sessions, nil where there is none
// yet. Where all have some, another worker is started for the sessions to come;
// this one need not wait for it. The caller holds p.mu.
func (p *Pool) forSession() *member {
	best := p.fewestSessions()
	if best == nil || best.sessions == 0 || p.serving+p.starting >= p.config.Max {
		return best
	}
	if p.promote() {
		return p.fewestSessions()
	}
	if !p.clock.now().Before(p.setbacks.next) {
		p.grow()
	}
	return best
}

func (p *Pool) fewestSessions() (best *member) {
	for _, m := range p.alive {
		if m.role == serving && m.worker.Alive() && (best == nil || m.sessions < best.sessions) {
			best = m
		}
	}
	return best
}

// admit counts a session in, and numbers it.
func (p *Pool) admit(m *member) uint32 {
	p.mu.Lock()
	defer p.mu.Unlock()
	m.sessions++
	m.lastSession++
	return m.lastSession
}

// Call gives the session's node an item, and hands what comes of it to emit; see
// [worker.Worker.Items].
func (s *Session) Call(ctx context.Context, args ipc.Args, emit func(ipc.Payload) error) error {
	return s.on(ctx, func(w *worker.Worker) error {
		return w.Items(ctx, worker.Op{Kind: ipc.FrameCall, Session: s.number}, args, emit)
	})
}

// Snapshot returns the session's state.
func (s *Session) Snapshot(ctx context.Context) (state ipc.Payload, err error) {
	err = s.on(ctx, func(w *worker.Worker) error {
		state, err = w.Call(ctx, worker.Op{Kind: ipc.FrameSnapshot, Session: s.number}, ipc.Args{})
		return err
	})
	return state, err
}

// Finish says that there is no more input, and hands what the node still gives to
// emit. The session is over then.
func (s *Session) Finish(ctx context.Context, emit func(ipc.Payload) error) error {
	return s.on(ctx, func(w *worker.Worker) error {
		s.over = true
		return w.Items(ctx, worker.Op{Kind: ipc.FrameFinish, Session: s.number}, ipc.Args{}, emit)
	})
}

// on has the session's worker do something as soon as it has nothing else to do.
func (s *Session) on(ctx context.Context, do func(*worker.Worker) error) error {
	if _, err := s.pool.acquire(ctx, request{pinned: s.member, admitted: true}); err != nil {
		return err
	}
	defer s.pool.release(s.member, true)
	return do(s.member.worker)
}

// Close ends a session that is not to be finished; its node is not asked. It may be
// called twice, and after Finish.
func (s *Session) Close() {
	if s.member == nil {
		return
	}
	if !s.over && s.member.worker.Alive() {
		s.member.worker.Drop(s.number)
	}
	s.leave()
	s.member = nil
}

func (s *Session) leave() {
	p, m := s.pool, s.member
	p.mu.Lock()
	defer p.unlock()
	m.sessions--
	m.served = p.clock.now()
	if m.load == 0 && m.role == retiring {
		p.rest(m)
	}
	p.stale = p.stale || p.drained != nil
}
