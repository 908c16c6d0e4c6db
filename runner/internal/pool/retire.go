package pool

import (
	"strconv"
	"time"

	"github.com/gophersnake/gophersnake/runner/internal/worker"
)

// A worker retires when it has reached MaxAge or MaxCalls, has passed a soft limit of
// its own, or has been idle for too long. If the pool would have too few workers without
// it, its replacement is ready first: a spare, or a worker that is started while the old
// one still serves.
// MaxCalls alone is never exceeded, so the replacement is started when seven eighths
// of them are used. A retiring worker keeps its sessions until they are closed.

// checkCallsLocked retires a worker that has just been assigned the last of its calls.
func (p *Pool) checkCallsLocked(m *member) {
	limit := p.config.MaxCalls
	switch {
	case m.role != RoleServing && m.role != RoleQuarantine:
	case m.calls >= limit:
		p.retireLocked(m, &worker.Breach{
			Limit: worker.LimitCalls, Value: strconv.FormatUint(m.calls, 10), Bound: strconv.FormatUint(limit, 10),
		})
	case m.calls == limit-limit/8:
		p.dirty = true
	}
}

// softBreached marks a worker that has passed a soft limit. The worker calls it.
func (p *Pool) softBreached(w *worker.Worker) {
	p.mu.Lock()
	defer p.unlock()
	for _, m := range p.members {
		if m.worker == w && m.exceeded == nil {
			m.exceeded, p.dirty = w.SoftBreach(), true
		}
	}
}

// retireDueLocked retires the workers that have reached a limit, as far as others can
// replace them. A worker for which there is no replacement yet continues to serve.
func (p *Pool) retireDueLocked(now time.Time) {
	for _, m := range p.members {
		p.checkAgeLocked(m, now)
		switch {
		case m.exceeded == nil, m.role == RoleRetiring:
		case m.role == RoleQuarantine:
			p.retireLocked(m, m.exceeded) // if further suspects wait, another worker is started
		case m.role == RoleSpare:
			if m.generation == p.generation { // Reload owns the workers of the next one
				p.retireLocked(m, m.exceeded)
			}
		case p.hasSpareLocked():
			p.retireLocked(m, m.exceeded)
			p.promoteLocked()
		case !p.wouldMissLocked() || !p.canReplaceLocked(now):
			p.retireLocked(m, m.exceeded)
		}
	}
}

// checkAgeLocked marks a worker that has reached MaxAge, or requires a reconcile when
// it will have.
func (p *Pool) checkAgeLocked(m *member, now time.Time) {
	limit := p.config.MaxAge
	if limit == 0 || m.exceeded != nil || m.role == RoleRetiring {
		return
	}
	if at := m.readyAt.Add(limit); now.Before(at) {
		p.timer.requireBy(at)
		return
	}
	m.exceeded = &worker.Breach{
		Limit: worker.LimitAge, Value: durationText(now.Sub(m.readyAt)), Bound: durationText(limit),
	}
}

// wouldMissLocked reports whether the pool would have too few serving workers without one
// of them: fewer than the minimum, or no idle one.
func (p *Pool) wouldMissLocked() bool { return p.serving <= p.minServing() || len(p.idle) == 0 }

// needsReplacementLocked reports whether a serving worker has reached a limit, or will
// soon have been assigned the last of its calls.
func (p *Pool) needsReplacementLocked(m *member) bool {
	limit := p.config.MaxCalls
	return m.role == RoleServing && (m.exceeded != nil || limit > 0 && m.calls >= limit-limit/8)
}

// retireIdleLocked retires the workers beyond Min that have been idle for IdleTimeout.
func (p *Pool) retireIdleLocked(now time.Time) {
	limit := p.config.IdleTimeout
	if limit == 0 || p.serving <= p.config.Min {
		return
	}
	for _, m := range append([]*member(nil), p.idle...) { // the one that is idle longest first
		if at := m.lastActive.Add(limit); now.Before(at) {
			p.timer.requireBy(at)
		} else if m.sessions == 0 && p.serving > p.config.Min {
			p.retireLocked(m, &worker.Breach{
				Limit: worker.LimitIdle, Value: durationText(now.Sub(m.lastActive)), Bound: durationText(limit),
			})
		}
	}
	if p.serving > p.config.Min {
		p.timer.requireBy(now.Add(limit)) // the busy ones may be idle by then
	}
}
