package runner

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/pyworker"
	"github.com/gophersnake/gophersnake/runner/pool"
	"github.com/gophersnake/gophersnake/runner/pyenv"
	"github.com/gophersnake/gophersnake/runner/worker"
)

// The times that a manifest need not say.
const (
	// cancelGrace is how long a node may go on after its call was cancelled.
	cancelGrace = 2 * time.Second
	// sharedWait is how long a call waits for room in shared memory.
	sharedWait = 10 * time.Second
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
		return python{}, Wrap(err, Io, "unpack the worker's Python package")
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
	faults := make([]error, len(nodes))
	var starting sync.WaitGroup
	for i, n := range nodes {
		n.pool = r.newPool(n, py)
		starting.Go(func() {
			description, err := n.pool.Warm(ctx)
			if err != nil {
				faults[i] = classify(err).InNode(n.id)
				return
			}
			n.noInput = len(description.Inputs) == 0
			faults[i] = r.plan.checkInputs(n, description)
		})
	}
	starting.Wait()
	err = errors.Join(faults...)
	if err == nil {
		return nil
	}
	r.closePools(ctx)
	if one := slices.DeleteFunc(faults, func(err error) bool { return err == nil }); len(one) == 1 {
		return one[0]
	}
	return err
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

func (r *Runner) newPool(n *node, py python) *pool.Pool {
	logger := r.options.logger.Named(n.id)
	config := pool.Config{
		Min: n.config.Workers.Min,
		Max: n.config.Workers.Max,
		Worker: worker.Config{
			Python:  py.interpreter,
			Package: py.pkg,
			Setup: ipc.Setup{
				Node:     n.id,
				Base:     r.pipeline.Base,
				Python:   n.python,
				NodeType: n.config.Type,
				Params:   n.config.Params,
				Ports:    r.plan.ports(n),
				Limits:   ipc.SetupLimits{Limits: ipc.DefaultLimits(), Memory: n.config.Memory},
				LogLevel: logger.GetLevel().String(),
				Shared:   r.shared(),
				Window:   r.window(),
				Begun:    true,

				Idempotent: n.config.Idempotent,
			},
			Env:          workerEnv(n.config.Env),
			StartTimeout: n.config.SetupTimeout,
			Timeout:      n.config.Timeout,
			Grace:        cancelGrace,
			Logger:       logger,
		},
		Started: func(w *worker.Worker, took time.Duration) {
			logger.Debug("worker started", "pid", w.PID(), "took", took)
			r.emit(WorkerStarted{Node: n.id, Time: time.Now(), PID: w.PID(), Took: took})
		},
		Ended: func(exit *worker.Exit) {
			if exit.Reason == worker.ReasonShutdown || exit.Reason == worker.ReasonKilled {
				logger.Debug("worker ended", "pid", exit.PID)
				return
			}
			logger.Debug("worker died", "pid", exit.PID, "error", exit)
			r.emit(WorkerDied{Node: n.id, Time: time.Now(), PID: exit.PID, Err: classify(exit).InNode(n.id)})
		},
	}
	if r.options.events != nil {
		config.Worker.Progress = func(p ipc.Progress) {
			r.emit(SetupProgress{Node: n.id, Time: time.Now(), Message: p.Message, Fraction: p.Fraction})
		}
	}
	return pool.New(config)
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

// workerEnv is the host's environment with what the manifest adds.
func workerEnv(extra map[string]string) []string {
	env := os.Environ()
	for key, value := range extra {
		env = append(env, key+"="+value) // the last one counts
	}
	return env
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
