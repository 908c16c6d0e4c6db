package runner

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/gophersnake/gophersnake/ipc"
)

// Reload has nodes read their Python code again: all Python nodes, or those named.
// New workers start with the code as it is now; when all of them are ready, new calls
// are theirs, and the old ones end when what they have under way has. A stream stays
// with its old worker where that holds its state, and its other nodes' next items go
// to new ones. Nothing that runs is interrupted.
//
// Where a new worker cannot start, or the code no longer fits the pipeline, nothing
// is changed, and the error says why. A node must stay what it was: with an input or
// without, giving one value or many, stateful or not. The manifest and the environment
// are not read again.
//
// Before the runner has been started there is nothing to reload.
func (r *Runner) Reload(ctx context.Context, nodes ...string) error {
	chosen, err := r.reloadable(nodes)
	if err != nil {
		return err
	}
	if err := r.lockStarting(ctx); err != nil {
		return err
	}
	defer r.unlockStarting()
	r.mu.RLock()
	started, draining, closed := r.started, r.draining, r.closed
	r.mu.RUnlock()
	switch {
	case closed:
		return errClosed()
	case draining:
		return errDraining()
	case !started:
		return nil
	}
	begun := time.Now()
	if err := dropStaleBytecode(r.pipeline, r.loaded); err != nil {
		r.options.logger.Warn("an edit may not be seen if it came within a second of another one", "error", err)
	}
	r.loaded = begun
	return r.reloadAll(ctx, chosen)
}

// reloadable are the nodes of the given names, all in Python where there are none.
func (r *Runner) reloadable(names []string) ([]*node, error) {
	if len(names) == 0 {
		return r.pythonNodes(), nil
	}
	var chosen []*node
	for _, name := range names {
		n := r.nodes[name]
		switch {
		case n == nil:
			return nil, NewError(KindManifest, fmt.Sprintf("there is no node %q to reload", name))
		case !n.isPython():
			return nil, NewError(KindManifest, "it is written in Go, so there is no code to read again").WithNode(name).WithOperation("reload")
		}
		if !slices.Contains(chosen, n) {
			chosen = append(chosen, n)
		}
	}
	return chosen, nil
}

// reloadAll reloads nodes side by side, all of them or none.
func (r *Runner) reloadAll(ctx context.Context, nodes []*node) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	consent := newConsent(len(nodes))
	faults := make([]error, len(nodes))
	var reloading sync.WaitGroup
	for i, n := range nodes {
		reloading.Go(func() {
			var fresh ipc.Description
			err := n.pool.Reload(ctx, r.workerConfig(n, r.python), func(d ipc.Description) error {
				fresh = d
				if err := r.checkReload(n, d); err != nil {
					return err
				}
				return consent.give(ctx)
			})
			if err == nil {
				n.description.Store(&fresh)
				return
			}
			consent.refuse()
			cancel(errRefused) // what the others have started is of no use
			if !errors.Is(err, errRefused) {
				faults[i] = classify(err).WithNode(n.id).WithOperation("reload")
			}
		})
	}
	reloading.Wait()
	return joined(faults)
}

// checkReload refuses code that does not fit in the place of what is there.
func (r *Runner) checkReload(n *node, d ipc.Description) error {
	if err := r.plan.checkInputs(n, d); err != nil {
		return err
	}
	before := n.description.Load()
	var change string
	switch {
	case n.noInput != (len(d.Inputs) == 0):
		change = "whether it takes an input"
	case before.Stateful != d.Stateful:
		change = "whether it is stateful"
	case before.Many != d.Many:
		change = "whether it gives many values"
	default:
		return nil
	}
	return NewError(KindManifest, "the new code changes "+change+", which runs and streams rely on").
		WithHint("start the pipeline anew")
}

// errRefused is why a node is not reloaded: another one cannot be.
var errRefused = errors.New("another node cannot be reloaded")

// consent is what several have to give before any of them goes on.
type consent struct {
	mu      sync.Mutex
	missing int
	refused bool
	decided chan struct{}
}

func newConsent(of int) *consent { return &consent{missing: of, decided: make(chan struct{})} }

// give waits until all have given theirs. Its error is errRefused where one has not,
// or the context's.
func (c *consent) give(ctx context.Context) error {
	c.mu.Lock()
	c.missing--
	if c.missing == 0 && !c.refused {
		close(c.decided)
	}
	c.mu.Unlock()
	select {
	case <-c.decided:
	case <-ctx.Done():
		c.refuse() // unless the decision has fallen
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case !c.refused:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	return errRefused
}

// refuse says that one cannot, unless all have consented before.
func (c *consent) refuse() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.missing > 0 && !c.refused {
		c.refused = true
		close(c.decided)
	}
}
