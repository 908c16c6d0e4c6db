package runner

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner/internal/worker"
	"github.com/gophersnake/gophersnake/runner/manifest"
)

// Reload makes nodes read their Python code again: the named nodes, or all Python
// nodes if there are no names. It starts new workers with the code as it is now. When
// all of them are ready, new calls go to them, and the old workers end after the
// calls that they have. Nothing in progress is interrupted. A stream stays with the
// old worker of a stateful node; the next items of its other nodes go to new workers.
//
// If a new worker cannot start, or the code no longer fits the pipeline, nothing is
// changed and the error says why. New code must not change whether a node takes an
// input, yields one value or many, or is stateful. The manifest and the environment
// are not read again.
//
// Before the runner has been started there is nothing to reload, and Reload returns
// nil.
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
	now := time.Now()
	if err := dropStaleBytecode(r.pipeline, r.loaded); err != nil {
		r.options.logger.Warn("an edit within a second of another one may have no effect", "error", err)
	}
	r.loaded, r.templates = now, worker.NewTemplates()
	return r.reloadAll(ctx, chosen)
}

// reloadable returns the nodes with the given names, or all Python nodes if there are
// no names.
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
			return nil, NewError(KindManifest, fmt.Sprintf("its kind is %s, so there is no Python code to read again", n.kind())).WithNode(name).WithOperation("reload")
		}
		if !slices.Contains(chosen, n) {
			chosen = append(chosen, n)
		}
	}
	return chosen, nil
}

// reloadAll reloads nodes concurrently, all of them or none.
func (r *Runner) reloadAll(ctx context.Context, nodes []*node) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	vote := newVote(len(nodes))
	faults := make([]error, len(nodes))
	var reloading sync.WaitGroup
	for i, n := range nodes {
		reloading.Go(func() {
			var fresh ipc.Description
			err := n.pool.Reload(ctx, r.workerConfig(n, n.installed), func(d ipc.Description) error {
				fresh = d
				if err := n.checkReload(d); err != nil {
					return err
				}
				return vote.approve(ctx)
			})
			if err == nil {
				n.description.Store(&fresh)
				return
			}
			vote.reject()
			cancel(errRejected) // the workers that the others are starting are not needed
			if !errors.Is(err, errRejected) {
				faults[i] = classify(err).WithNode(n.id).WithOperation("reload")
			}
		})
	}
	reloading.Wait()
	return joinFaults(faults)
}

// checkReload returns an error if new code of the node does not fit the pipeline as it
// was started.
func (n *node) checkReload(d ipc.Description) error {
	if err := n.checkInputs(d); err != nil {
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

// errRejected is the reason why a node is not reloaded if another one cannot be.
var errRejected = errors.New("another node cannot be reloaded")

// vote is a unanimous decision: it is approved when all voters have approved it, and
// rejected when one rejects it before. A decision is final.
type vote struct {
	decided chan struct{} // closed by the decision

	mu       sync.Mutex
	missing  int // approvals
	rejected bool
}

func newVote(voters int) *vote { return &vote{missing: voters, decided: make(chan struct{})} }

// approve adds an approval, and waits for the decision. It returns nil if that is
// approved, and otherwise errRejected, or the context's error if the context has
// ended.
func (v *vote) approve(ctx context.Context) error {
	v.mu.Lock()
	v.missing--
	if v.missing == 0 && !v.rejected {
		close(v.decided)
	}
	v.mu.Unlock()
	select {
	case <-v.decided:
	case <-ctx.Done():
		v.reject() // has no effect after the decision
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	switch {
	case !v.rejected:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	return errRejected
}

// reject rejects the vote, unless it has been decided.
func (v *vote) reject() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.missing > 0 && !v.rejected {
		v.rejected = true
		close(v.decided)
	}
}

// dropStaleBytecode removes bytecode that Python keeps in __pycache__ for files of a
// pipeline's code that have changed since. Python compares the size and the second of
// the last change, so it would miss the later one of two edits within a second.
//
// The bytecode of a file that has changed since workers last began to read the code
// is removed in any case: they may have read the file just before an edit and written
// the bytecode just after it.
func dropStaleBytecode(p *manifest.Pipeline, lastRead time.Time) error {
	folders, _ := p.CodeFolders()
	var faults []error
	for _, folder := range folders {
		files, err := filepath.Glob(filepath.Join(escapeGlob(folder), "__pycache__", "*.pyc"))
		if err != nil {
			return err
		}
		for _, bytecode := range files {
			module, _, _ := strings.Cut(filepath.Base(bytecode), ".")
			source, err := os.Stat(filepath.Join(folder, module+".py"))
			if err != nil {
				continue // Python does not use bytecode without its source
			}
			written, err := os.Stat(bytecode)
			if err == nil && source.ModTime().Before(lastRead) && source.ModTime().Before(written.ModTime()) {
				continue
			}
			if err := os.Remove(bytecode); err != nil && !errors.Is(err, fs.ErrNotExist) {
				faults = append(faults, err)
			}
		}
	}
	return errors.Join(faults...)
}

// escapeGlob returns the pattern that matches only the given path.
func escapeGlob(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}
