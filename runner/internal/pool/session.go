package pool

import (
	"context"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner/internal/worker"
)

// Session is the state of a stateful node in one worker. All its calls run on that
// worker, one after the other. When the worker ends, the session is over, and further
// calls fail with the worker's end. A Session must not be used concurrently.
type Session struct {
	pool   *Pool
	member *member
	number uint32
	alone  bool // it was opened in the worker in quarantine
	over   bool // Finish has been called
	report *Report
}

// ReportTo sets the report of the next operations. Nil measures nothing.
func (s *Session) ReportTo(report *Report) { s.report = report }

// Open opens a session on the worker with the fewest of them, from a state that
// [Session.Snapshot] returned or, if it is nil, from the beginning. If alone is set and the
// node's workers run several calls at a time, it is the worker in quarantine, which has no
// other session and no other call until this session is closed. The caller must close the
// session. The report may be nil. The errors are those of [Pool.Call].
func (p *Pool) Open(ctx context.Context, state *ipc.Payload, alone bool, report *Report) (*Session, error) {
	want := request{session: true, alone: alone, report: report}
	for {
		m, err := p.acquire(ctx, &want)
		if err != nil {
			return nil, want.failure(err)
		}
		s := &Session{pool: p, member: m, number: p.addSession(m), alone: alone}
		err = m.worker.Open(ctx, s.number, state)
		report.served(err)
		if err != nil {
			s.leave()
		}
		p.release(m)
		switch {
		case err == nil && want.alone && !alone:
			s.Close() // opening it does no harm, so it can be opened in a worker that serves
			want.alone = false
			continue
		case err == nil:
			return s, nil
		}
		if !p.moveOn(&want, m, err) {
			return nil, err
		}
	}
}

// sessionWorkerLocked returns the worker for a new session: the one with the fewest,
// nil if no worker serves yet. If all have some, it starts or promotes another worker
// for the next sessions; this one need not wait for it.
func (p *Pool) sessionWorkerLocked() *member {
	best := p.fewestSessionsLocked()
	if best == nil || best.sessions == 0 || p.occupiedLocked() >= p.config.Max {
		return best
	}
	if p.promoteLocked() {
		return p.fewestSessionsLocked()
	}
	if !p.clock.now().Before(p.failures.next) {
		p.growLocked()
	}
	return best
}

// fewestSessionsLocked returns the serving worker with the fewest sessions, nil if no
// worker serves.
func (p *Pool) fewestSessionsLocked() (best *member) {
	for _, m := range p.members {
		if m.role == RoleServing && m.worker.Alive() && (best == nil || m.sessions < best.sessions) {
			best = m
		}
	}
	return best
}

// InQuarantine reports whether the session's worker has no other session and no other call
// until this session is closed.
func (s *Session) InQuarantine() bool {
	s.pool.mu.Lock()
	defer s.pool.mu.Unlock()
	return s.member != nil && s.member.role == RoleQuarantine
}

// addSession counts a session on a worker, and returns its number.
func (p *Pool) addSession(m *member) uint32 {
	p.mu.Lock()
	defer p.mu.Unlock()
	m.sessions++
	m.lastSession++
	return m.lastSession
}

// Call calls the node with an item of the session, as soon as its worker has no other
// call. It passes the values that the node yields to emit; see [worker.Worker.Items].
func (s *Session) Call(ctx context.Context, args ipc.Args, emit func(ipc.Payload) error) error {
	m, err := s.pool.acquire(ctx, &request{pinned: s.member, admitted: true, report: s.report})
	if err != nil {
		return err
	}
	defer s.pool.release(m)
	err = m.worker.Items(ctx, worker.Op{Kind: ipc.FrameCall, Session: s.number}, args, s.noted(emit))
	s.report.served(err)
	return err
}

// noted returns emit, which makes known that the session waits for its consumer if it is alone.
func (s *Session) noted(emit func(ipc.Payload) error) func(ipc.Payload) error {
	if s.alone {
		return s.pool.noteConsumer(s.member, emit)
	}
	return emit
}

// Snapshot returns the session's state.
func (s *Session) Snapshot(ctx context.Context) (ipc.Payload, error) {
	m, err := s.pool.acquire(ctx, &request{pinned: s.member, admitted: true, report: s.report})
	if err != nil {
		return ipc.Payload{}, err
	}
	defer s.pool.release(m)
	state, err := m.worker.Call(ctx, worker.Op{Kind: ipc.FrameSnapshot, Session: s.number}, ipc.Args{})
	s.report.served(err)
	return state, err
}

// Finish signals the end of the input to the node, and passes the values that it still
// yields to emit. The arguments have no values, but the attempt. The session is over then; it
// must still be closed.
func (s *Session) Finish(ctx context.Context, args ipc.Args, emit func(ipc.Payload) error) error {
	m, err := s.pool.acquire(ctx, &request{pinned: s.member, admitted: true, report: s.report})
	if err != nil {
		return err
	}
	defer s.pool.release(m)
	s.over = true
	err = m.worker.Items(ctx, worker.Op{Kind: ipc.FrameFinish, Session: s.number}, args, s.noted(emit))
	s.report.served(err)
	return err
}

// Close ends the session. If Finish has not been called, the node's state is dropped
// without calling the node. Close may be called twice.
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

// leave takes the session off its worker's count.
func (s *Session) leave() {
	p, m := s.pool, s.member
	p.mu.Lock()
	defer p.unlock()
	m.sessions--
	m.lastActive = p.clock.now()
	switch {
	case m.load > 0:
	case m.role == RoleRetiring:
		p.parkLocked(m)
	case m.role == RoleQuarantine && m.worker.Alive():
		p.dispatchLocked(m)
	}
	p.dirty = p.dirty || p.drained != nil
}
