package pool

import (
	"context"

	"golang.org/x/sync/errgroup"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner/internal/worker"
)

// Reload replaces the workers by those of a new configuration. It starts Min of
// them, at least one; when they are ready, all new calls and sessions are theirs,
// and the old ones end when their calls and sessions have. It does not wait for
// that.
//
// Where a new one cannot start, or check, which may be nil, refuses what they say
// of their node, the new ones are ended, the old ones stay, and the error is
// returned. Check is called once, when all new ones are ready. It may take its
// time, and after it has consented nothing but Close and the death of a new worker
// can keep the reload from happening.
func (p *Pool) Reload(ctx context.Context, config worker.Config, check func(ipc.Description) error) error {
	p.reloading.Lock()
	defer p.reloading.Unlock()
	begun := p.clock.now()
	p.mu.Lock()
	if p.refusal != nil {
		defer p.mu.Unlock()
		return p.refusal
	}
	g := p.newGeneration(p.generation.number+1, config)
	g.inUse.Add(1) // until all are started
	p.mu.Unlock()

	fresh, err := p.startAll(ctx, g)
	g.inUse.Done()
	if err == nil && check != nil {
		err = check(fresh[0].worker.Description())
	}
	p.mu.Lock()
	if err == nil {
		err = p.takeOver(g, fresh)
	}
	if err == nil {
		p.counters.Reloads++
		p.tell(Reloaded{Workers: len(fresh), Took: p.clock.now().Sub(begun)})
		p.unlock()
		return nil
	}
	for _, m := range fresh {
		p.retire(m, nil)
	}
	p.unlock()
	g.cancel()
	g.inUse.Wait()
	return err
}

// startAll starts the first workers of a generation, side by side. Where one
// fails, the others are given up.
func (p *Pool) startAll(ctx context.Context, g *generation) (fresh []*member, err error) {
	starts, startCtx := errgroup.WithContext(g.ctx)
	stop := context.AfterFunc(ctx, g.cancel)
	defer stop()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, ErrClosed
	}
	for range p.least() {
		done := make(chan struct{})
		p.run(g, func() { <-done })
		starts.Go(func() error {
			defer close(done)
			begun := p.clock.now()
			w, err := worker.Start(startCtx, g.config)
			if err != nil {
				return err
			}
			p.mu.Lock()
			defer p.unlock()
			p.counters.Started++
			p.tell(WorkerStarted{Worker: w, Took: p.clock.now().Sub(begun)})
			m := p.enter(w, g)
			fresh = append(fresh, m)
			if p.closed {
				p.rest(m)
			}
			return nil
		})
	}
	p.mu.Unlock()
	err = starts.Wait()
	p.mu.Lock()
	switch {
	case err == nil:
	case p.closed:
		err = ErrClosed
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	}
	return fresh, err
}

// takeOver moves the traffic to a new generation, unless it is no longer whole.
// The caller holds p.mu.
func (p *Pool) takeOver(g *generation, fresh []*member) error {
	if p.closed {
		return ErrClosed
	}
	for _, m := range fresh {
		if m.gone {
			return m.worker.Exit()
		}
	}
	old := p.generation
	old.cancel()
	p.generation, p.description = g, fresh[0].worker.Description()
	p.starting, p.arriving, p.sparing = 0, 0, 0
	p.setbacks, p.spareSetbacks = setbacks{}, setbacks{}
	p.asked = true
	for _, m := range p.alive {
		if m.generation == old && m.role != retiring {
			p.retire(m, nil)
		}
	}
	for _, m := range fresh {
		p.serve(m)
	}
	return nil
}
