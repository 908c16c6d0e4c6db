package pool

import (
	"strconv"
	"time"

	"github.com/gophersnake/gophersnake/runner/internal/worker"
)

// A worker retires when it is too old, has had its number of calls, or has passed
// a soft limit of its own. Where it would be missed, its replacement is there first:
// a spare, or one that is started for it while it goes on. Only its number of calls
// it never exceeds; so the replacement is started when seven eighths of them are
// gone. Sessions keep it until they are closed.

// countDown retires a worker that has just been given the last of its calls.
func (p *Pool) countDown(m *member) {
	limit := p.config.MaxCalls
	switch {
	case m.role != serving:
	case m.calls >= limit:
		p.retire(m, &worker.Breach{
			Limit: worker.LimitCalls, Value: strconv.FormatUint(m.calls, 10), Bound: strconv.FormatUint(limit, 10),
		})
	case m.calls == limit-limit/8:
		p.stale = true
	}
}

// wornOut hears of a worker that has passed a soft limit.
func (p *Pool) wornOut(w *worker.Worker) {
	p.mu.Lock()
	defer p.unlock()
	for _, m := range p.alive {
		if m.worker == w && m.due == nil {
			m.due, p.stale = w.SoftBreach(), true
		}
	}
}

// The functions below are called with p.mu held.

// retireDue retires those who have reached a limit, as far as others can take
// their place.
func (p *Pool) retireDue(now time.Time) {
	for _, m := range p.alive {
		p.age(m, now)
		switch {
		case m.due == nil || m.role == retiring:
		case m.role == spare:
			if m.generation == p.generation {
				p.retire(m, m.due)
			}
		case p.hasSpare():
			p.retire(m, m.due)
			p.promote()
		case !p.leavesGap() || !p.canReplace(now):
			p.retire(m, m.due)
		}
	}
}

// age says of a worker that it is due, or when it will be.
func (p *Pool) age(m *member, now time.Time) {
	limit := p.config.MaxAge
	if limit == 0 || m.due != nil || m.role == retiring {
		return
	}
	if at := m.born.Add(limit); now.Before(at) {
		p.again(at)
		return
	}
	m.due = &worker.Breach{Limit: worker.LimitAge, Value: shown(now.Sub(m.born)), Bound: shown(limit)}
}

// leavesGap reports whether one of those that serve would be missed.
func (p *Pool) leavesGap() bool { return p.serving <= p.least() || len(p.idle) == 0 }

// isLeaving reports whether a worker will soon need a replacement.
func (p *Pool) isLeaving(m *member) bool {
	limit := p.config.MaxCalls
	return m.role == serving && (m.due != nil || limit > 0 && m.calls >= limit-limit/8)
}

// retireIdle retires those beyond the minimum who have had nothing to do for long.
func (p *Pool) retireIdle(now time.Time) {
	limit := p.config.IdleTimeout
	if limit == 0 || p.serving <= p.config.Min {
		return
	}
	for _, m := range append([]*member(nil), p.idle...) { // the one that is idle longest first
		if at := m.served.Add(limit); now.Before(at) {
			p.again(at)
		} else if m.sessions == 0 && p.serving > p.config.Min {
			p.retire(m, &worker.Breach{
				Limit: worker.LimitIdle, Value: shown(now.Sub(m.served)), Bound: shown(limit),
			})
		}
	}
	if p.serving > p.config.Min {
		p.again(now.Add(limit)) // for those that are busy
	}
}
