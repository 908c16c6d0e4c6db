package pool

import (
	"context"
	"sync"

	"github.com/gophersnake/gophersnake/runner/internal/worker"
)

// generation is the workers of one configuration; see [Pool.Reload].
type generation struct {
	number int
	config worker.Config
	ctx    context.Context // ends the starts under way
	cancel context.CancelFunc
	inUse  sync.WaitGroup // starts and workers
}

// newGeneration returns a generation that is buried when it is cancelled: when all
// that is its own has ended, so has its template, which knows how its workers end.
// The pool is not over before that.
func (p *Pool) newGeneration(number int, config worker.Config) *generation {
	config.OnSoftBreach = p.wornOut
	if p.config.ForkServer {
		config.Template = worker.NewTemplate(config)
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

// run runs something that a generation is not over before. The caller holds p.mu,
// and knows that the generation has not been cancelled.
func (p *Pool) run(g *generation, f func()) {
	g.inUse.Add(1)
	p.running.Go(func() {
		defer g.inUse.Done()
		f()
	})
}
