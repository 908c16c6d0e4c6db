package runner

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/pyworker"
	"github.com/gophersnake/gophersnake/runner/internal/pool"
	"github.com/gophersnake/gophersnake/runner/internal/pyenv"
	"github.com/gophersnake/gophersnake/runner/internal/worker"
)

// The times that a manifest need not say.
const (
	// cancelGrace is how long a node may go on after its call was cancelled.
	cancelGrace = 2 * time.Second
	// sharedWait is how long a call waits for room in shared memory.
	sharedWait = 10 * time.Second
	// spareAfter is how long a node has to be ready before a spare is started, so
	// that a short run does not pay for one.
	spareAfter = 2 * time.Second
)

// python is where the Python code runs.
type python struct {
	interpreter string // of the environment
	pkg         string // the folder of the worker's package
}

// preparePython finds an interpreter, makes or reuses the environment that the
// pipeline requires, and unpacks the worker's package.
func (r *Runner) preparePython(ctx context.Context) (python, error) {
	cache, err := pyenv.CacheDir(r.options.cacheDir)
	if err != nil {
		return python{}, classify(err)
	}
	pkg, err := pyworker.Extract(filepath.Join(cache, "pyworker"))
	if err != nil {
		return python{}, Wrap(err, KindIO, "unpack the worker's Python package")
	}
	base, err := pyenv.Find(ctx, pyenv.FindOptions{
		Explicit: r.options.python,
		Manifest: r.interpreter(),
		CacheDir: cache,
	})
	if err != nil {
		return python{}, classify(err)
	}
	if r.options.systemPython {
		if err := pyenv.System(ctx, base, r.pipeline.Requirements); err != nil {
			return python{}, classify(err)
		}
		return python{interpreter: base.Path, pkg: pkg}, nil
	}
	env, err := pyenv.Ensure(ctx, pyenv.Spec{
		Interpreter:  base,
		Requirements: r.pipeline.Requirements,
		Base:         r.pipeline.Base,
		CacheDir:     cache,
		Progress:     r.options.progress,
		Logger:       r.options.logger.Named("environment"),
	})
	if err != nil {
		return python{}, classify(err)
	}
	return python{interpreter: env.Python, pkg: pkg}, nil
}

// Python makes or reuses the environment that the pipeline requires, and returns
// the path of its interpreter. Runs do so by themselves; this is for what else is
// to run there, such as the tests of the nodes.
func (r *Runner) Python(ctx context.Context) (string, error) {
	py, err := r.preparePython(ctx)
	return py.interpreter, err
}

// interpreter is the one that the manifest names; a path is relative to the manifest.
func (r *Runner) interpreter() string {
	name := r.pipeline.Interpreter
	if strings.ContainsRune(name, filepath.Separator) && !filepath.IsAbs(name) {
		return filepath.Join(r.pipeline.Base, name)
	}
	return name
}

// startNodes brings up the workers of all Python nodes side by side. Where some
// fail, all their errors are told, and nothing is left running.
func (r *Runner) startNodes(ctx context.Context) error {
	nodes := r.pythonNodes()
	if len(nodes) == 0 {
		return nil
	}
	py, err := r.preparePython(ctx)
	if err != nil {
		return err
	}
	r.python, r.loaded = py, time.Now()
	r.mu.Lock()
	for _, n := range nodes {
		n.pool = r.newPool(n, py)
	}
	r.mu.Unlock()
	faults := make([]error, len(nodes))
	var starting sync.WaitGroup
	for i, n := range nodes {
		starting.Go(func() {
			description, err := n.pool.Warm(ctx)
			if err != nil {
				faults[i] = classify(err).WithNode(n.id)
				return
			}
			n.describe(description)
			faults[i] = r.plan.checkInputs(n, description)
		})
	}
	starting.Wait()
	if err = joined(faults); err == nil {
		return nil
	}
	r.closePools(ctx)
	r.mu.Lock()
	for _, n := range nodes {
		n.pool = nil
	}
	r.mu.Unlock()
	return err
}

// joined is what went wrong: nothing, one error as it is, or several joined.
func joined(faults []error) error {
	faults = slices.DeleteFunc(faults, func(err error) bool { return err == nil })
	if len(faults) == 1 {
		return faults[0]
	}
	return errors.Join(faults...)
}

func (r *Runner) pythonNodes() []*node {
	var nodes []*node
	for i := range r.plan.steps {
		if n := r.plan.steps[i].node; n.isPython() {
			nodes = append(nodes, n)
		}
	}
	return nodes
}

// newPool makes the pool of a node, which has no workers yet.
func (r *Runner) newPool(n *node, py python) *pool.Pool {
	w, l := n.config.Workers, n.config.Limits
	config := r.workerConfig(n, py)
	return pool.New(pool.Config{
		Worker: config,
		Min:    w.Min, Max: w.Max,
		Spare: w.Spare, SpareAfter: spareAfter,
		ScaleAfter: w.ScaleAfter, IdleTimeout: w.IdleTimeout,
		MaxAge: w.MaxAge, MaxCalls: uint64(w.MaxCalls),
		Queue: l.Queue, QueueWait: l.QueueWait,
		ForkServer: w.ForkServer,
		Observe:    r.observe(n, config.Logger),
	})
}

// workerConfig is what each worker of a node is told.
func (r *Runner) workerConfig(n *node, py python) worker.Config {
	logger := r.options.logger.Named(n.id)
	l := n.config.Limits
	config := worker.Config{
		Python:  py.interpreter,
		Package: py.pkg,
		Setup: ipc.Setup{
			Node:     n.id,
			Base:     r.pipeline.Base,
			Python:   n.python,
			NodeType: n.config.Type,
			Params:   n.config.Params,
			Ports:    r.plan.ports(n),
			Limits:   ipc.SetupLimits{Limits: ipc.DefaultLimits(), Memory: l.Memory},
			LogLevel: logger.GetLevel().String(),
			Shared:   r.shared(),
			Window:   r.window(),
			Begun:    true,

			Idempotent: n.config.Idempotent,
		},
		Env:          workerEnv(n.config, r.options.passEnv),
		StartTimeout: n.config.SetupTimeout,
		Timeout:      n.config.Timeout,
		Grace:        cancelGrace,
		Limits: worker.Limits{
			ResidentSoft: l.ResidentSoft, Resident: l.Resident, CPUTime: l.CPUTime, OpenFiles: l.OpenFiles, Result: l.Result,
		},
		Logger: logger,
	}
	r.isolate(&config, n.config, py)
	if r.options.events != nil {
		config.Progress = func(p ipc.Progress) {
			r.emit(SetupProgress{Node: n.id, Time: time.Now(), Message: p.Message, Fraction: p.Fraction})
		}
	}
	return config
}

// shared is what the workers are told of shared memory.
func (r *Runner) shared() *ipc.SetupShared {
	if r.options.sharedMemory == 0 {
		return nil
	}
	return &ipc.SetupShared{From: ipc.SharedFrom, Limit: r.options.sharedMemory, Wait: sharedWait.Seconds()}
}

// window bounds what a call may send ahead of its taker. Large arrays must not fill
// the shared memory, or the node would wait there, and not for ever.
func (r *Runner) window() ipc.Window {
	w := ipc.DefaultWindow()
	if limit := r.options.sharedMemory; limit != 0 {
		w.Bytes = int(min(int64(w.Bytes), limit/4))
	}
	return w
}

func (r *Runner) emit(e Event) {
	if r.options.events != nil {
		r.options.events(e)
	}
}

func (r *Runner) closePools(ctx context.Context) {
	var closing sync.WaitGroup
	for _, n := range r.nodes {
		if n.pool != nil {
			closing.Go(func() { n.pool.Close(ctx) })
		}
	}
	closing.Wait()
}
