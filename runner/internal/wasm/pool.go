package wasm

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner/internal/engine"
)

// take returns an instance for a call, whose context is set: the idle one that was used
// last, or one that is not instantiated yet. It waits for a place if Max calls run.
func (m *Module) take(ctx context.Context, turn *engine.Turn) (*instance, error) {
	switch err := m.line.Enter(ctx, turn); {
	case errors.Is(err, engine.ErrLineClosed):
		return nil, ErrClosed
	case err == nil:
	case ctx.Err() != nil:
		return nil, &InterruptedError{Cause: err, End: ctx.Err(), Waited: true}
	default:
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var i *instance
	if last := len(m.idle) - 1; last >= 0 {
		i, m.idle[last] = m.idle[last], nil
		m.idle = m.idle[:last]
	} else {
		i = m.newInstance()
	}
	i.ctx, i.cancel = context.WithCancelCause(ctx)
	m.active[i] = struct{}{}
	return i, nil
}

// give takes the instance of a call that has ended with an error or nil. It is used again
// if that is certain to be safe.
func (m *Module) give(i *instance, err error) {
	// If the context has ended, the module may be closed at any time, though the call succeeded.
	reusable := !m.isCommand && i.ctx.Err() == nil && keepsInstance(err)
	i.cancel(nil)
	if !reusable {
		i.close()
	}
	m.mu.Lock()
	delete(m.active, i)
	if reusable {
		i.idle = time.Now()
		m.idle = append(m.idle, i)
		if m.timer == nil && m.config.IdleTimeout > 0 && len(m.idle) > m.config.Min {
			m.timer = time.AfterFunc(m.config.IdleTimeout, m.dropOverdue)
		}
	}
	m.mu.Unlock()
	m.line.Leave()
}

// keepsInstance reports whether the instance of a call with this error is as it was before.
func keepsInstance(err error) bool {
	if err == nil {
		return true
	}
	_, isValue := errors.AsType[*ipc.ValueError](err)
	_, isResult := errors.AsType[*ResultError](err)
	return isValue || isResult
}

// startInstance makes an instance that is idle. Its error is a *[StartError].
func (m *Module) startInstance(ctx context.Context) error {
	i := m.newInstance()
	i.ctx, i.cancel = context.WithCancelCause(ctx)
	defer i.cancel(nil)
	if err := i.instantiate(); err != nil {
		i.close()
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	i.idle = time.Now()
	m.idle = append(m.idle, i)
	return nil
}

// dropOverdue closes the instances that were idle for too long, and sets the timer for the
// next one.
func (m *Module) dropOverdue() {
	m.mu.Lock()
	m.timer = nil
	m.mu.Unlock()
	m.dropIdle(m.config.IdleTimeout)
}

// dropIdle closes the instances that were idle for at least so long, but for Min of them if
// the time is not 0.
func (m *Module) dropIdle(idle time.Duration) {
	m.mu.Lock()
	var drop []*instance
	kept := m.config.Min
	if idle == 0 {
		kept = 0
	}
	now := time.Now()
	for len(m.idle) > kept && now.Sub(m.idle[0].idle) >= idle { // the first was used before the others
		drop = append(drop, m.idle[0])
		m.idle = slices.Delete(m.idle, 0, 1)
	}
	if idle > 0 && len(m.idle) > kept && m.timer == nil && !m.closed {
		m.timer = time.AfterFunc(idle-now.Sub(m.idle[0].idle), m.dropOverdue)
	}
	if idle == 0 && m.timer != nil {
		m.timer.Stop()
		m.timer = nil
	}
	m.mu.Unlock()
	for _, i := range drop {
		i.close()
	}
}
