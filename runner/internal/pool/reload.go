package pool

import (
	"context"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner/internal/worker"
)

// generation is the workers of one configuration. [Pool.Reload] replaces it by the
// next one.
type generation struct {
	number int
	config worker.Config
	ctx    context.Context // ends the starts under way
	cancel context.CancelFunc
	inUse  sync.WaitGroup // its starts and workers
}

// newGeneration returns a generation without workers. After it is canceled and all of
// its workers have ended, its template is closed, which is what reports how forked
// workers end. Close waits for that.
func (p *Pool) newGeneration(number int, config worker.Config) *generation {
	config.OnSoftBreach = p.softBreached
	if p.config.ForkServer {
		config.Template = config.Templates.Open(config)
	}
	g := &generation{number: number, config: config}
	g.ctx, g.cancel = context.WithCancel(p.ctx)
	p.running.Add(1)
	context.AfterFunc(g.ctx, func() {
		defer p.running.Done()
		g.inUse.Wait()
		config.Template.Close()
	})
	return g
}

// goLocked runs f in a goroutine that the generation's end and Close wait for. The
// generation must not have been canceled.
func (p *Pool) goLocked(g *generation, f func()) {
	g.inUse.Add(1)
	p.running.Go(func() {
		defer g.inUse.Done()
		f()
	})
}

// Reload replaces the workers by those of a new configuration. It starts Min of them,
// at least one. When they are ready, they get all new calls and sessions, and the old
// ones end when their calls and sessions have ended; Reload does not wait for that.
//
// If a new worker cannot start, or check refuses the node's new description, the new
// workers are ended, the old ones stay, and the error is returned. Check is called
// once, when all new workers are ready; it may be nil, and may take its time. Once it
// has agreed, only Close and the death of a new worker can make the reload fail.
func (p *Pool) Reload(ctx context.Context, config worker.Config, check func(ipc.Description) error) error {
	p.reloading.Lock()
	defer p.reloading.Unlock()
	began := p.clock.now()
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
		err = p.takeOverLocked(g, fresh)
	}
	if err == nil {
		p.counters.Reloads++
		p.recordLocked(Reloaded{Workers: len(fresh), Took: p.clock.now().Sub(began)})
		p.unlock()
		return nil
	}
	for _, m := range fresh {
		p.retireLocked(m, nil)
	}
	p.unlock()
	g.cancel()
	g.inUse.Wait()
	return err
}

// startAll starts the first workers of a generation at the same time. If one fails, it
// ends the other starts; the workers that are ready are returned with the error.
func (p *Pool) startAll(ctx context.Context, g *generation) ([]*member, error) {
	starts, startCtx := errgroup.WithContext(g.ctx)
	stop := context.AfterFunc(ctx, g.cancel)
	defer stop()
	fresh := make([]*member, p.minServing())
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil, ErrClosed
	}
	for i := range fresh {
		done := make(chan struct{})
		p.goLocked(g, func() { <-done })
		starts.Go(func() (err error) {
			defer close(done)
			fresh[i], err = p.startOne(startCtx, g)
			return err
		})
	}
	p.mu.Unlock()
	err := starts.Wait()
	fresh = without(fresh, nil)
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case err == nil:
	case p.closed:
		err = ErrClosed
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	}
	return fresh, err
}

// startOne starts a worker of a generation that is not yet the pool's.
func (p *Pool) startOne(ctx context.Context, g *generation) (*member, error) {
	began := p.clock.now()
	w, err := worker.Start(ctx, g.config)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.unlock()
	p.counters.Started++
	p.recordLocked(WorkerStarted{Worker: w, Took: p.clock.now().Sub(began)})
	m := p.addLocked(w, g)
	if p.closed {
		p.parkLocked(m)
	}
	return m, nil
}

// takeOverLocked makes a new generation the pool's, unless one of its workers has
// ended.
func (p *Pool) takeOverLocked(g *generation, fresh []*member) error {
	if p.closed {
		return ErrClosed
	}
	for _, m := range fresh {
		if m.ended {
			return m.worker.Exit()
		}
	}
	old := p.generation
	old.cancel()
	p.generation, p.description = g, fresh[0].worker.Description()
	p.starting, p.announced, p.startingSpares, p.quarantine = 0, 0, 0, quarantine{}
	p.failures, p.spareFailures = backoff{}, backoff{}
	p.wanted = true
	for _, m := range p.members {
		if m.generation == old && m.role != RoleRetiring {
			p.retireLocked(m, nil)
		}
	}
	for _, m := range fresh {
		p.serveLocked(m)
	}
	return nil
}
