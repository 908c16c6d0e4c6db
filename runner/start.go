package runner

import (
	"cmp"
	"context"
	"errors"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/pyworker"
	"github.com/gophersnake/gophersnake/runner/internal/container"
	"github.com/gophersnake/gophersnake/runner/internal/pool"
	"github.com/gophersnake/gophersnake/runner/internal/pyenv"
	"github.com/gophersnake/gophersnake/runner/internal/scratch"
	"github.com/gophersnake/gophersnake/runner/internal/worker"
	"github.com/gophersnake/gophersnake/runner/manifest"
)

// Times that a manifest cannot set.
const (
	// cancelGrace is the grace period of a call that was canceled: its worker is
	// killed if the node continues for longer.
	cancelGrace = 2 * time.Second
	// sharedWait bounds how long a call waits for room in shared memory.
	sharedWait = 10 * time.Second
	// spareAfter is the time for which a node has been ready before a spare is
	// started, so that a short run does not pay for one.
	spareAfter = 2 * time.Second
)

// unpack unpacks the files of a pipeline of [LoadFS].
func (r *Runner) unpack() (err error) {
	if r.pipeline.Files == nil {
		return nil
	}
	if r.files, err = scratch.Unpack(r.pipeline.Files); err != nil {
		return Wrap(err, KindIO, "unpack the pipeline's files")
	}
	unpacked := *r.pipeline
	unpacked.Base, unpacked.Files = filepath.Join(r.files.Dir, unpacked.Base), nil
	r.pipeline = &unpacked
	return nil
}

// removeFiles removes the unpacked files.
func (r *Runner) removeFiles() {
	if err := r.files.Remove(); err != nil {
		r.options.logger.Warn("cannot remove the pipeline's unpacked files", "folder", r.files.Dir, "error", err)
	}
}

// Start makes the pipeline ready. It builds or reuses the Python environment, starts
// the workers of all nodes concurrently, and checks the params of the nodes against
// their signatures. It returns at once if the runner has been started or closed; a closed
// runner stays closed, and the error says so. After any other error it may be called again.
// The error joins the faults if several nodes cannot be started; see [Error.Faults].
func (r *Runner) Start(ctx context.Context) error {
	if started, err := r.isStarted(); started || err != nil {
		return err
	}
	if err := r.lockStarting(ctx); err != nil {
		return err
	}
	defer r.unlockStarting()
	if started, err := r.isStarted(); started || err != nil {
		return err
	}
	r.mu.Lock()
	r.isStarting = true
	r.mu.Unlock()
	err := r.startNodes(ctx)
	r.mu.Lock()
	r.started, r.isStarting, r.startFailure = err == nil, false, nil
	if err != nil && ctx.Err() == nil {
		r.startFailure = classify(err)
	}
	closed := r.closed
	r.mu.Unlock()
	if err != nil {
		return err
	}
	if closed {
		r.closePools(ctx)
		r.closeEngines(ctx)
		return errClosed()
	}
	return nil
}

// lockStarting waits until no other Start or Reload is in progress.
func (r *Runner) lockStarting(ctx context.Context) error {
	select {
	case r.starting <- struct{}{}:
		return nil
	case <-ctx.Done():
		return classify(context.Cause(ctx))
	}
}

func (r *Runner) unlockStarting() { <-r.starting }

// isStarted reports whether Start has succeeded. The error is that of a runner that is
// closed and cannot be started any more.
func (r *Runner) isStarted() (bool, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.closed {
		return false, errClosed()
	}
	return r.started, nil
}

// startNodes starts the engines and the workers of all nodes. If some fail, it stops the
// others.
func (r *Runner) startNodes(ctx context.Context) error {
	if err := r.startEngines(ctx); err != nil {
		return err
	}
	if err := r.startPython(ctx); err != nil {
		r.closeEngines(ctx)
		return err
	}
	for _, n := range r.order {
		if n.isRemote {
			r.gathers = r.gathers || n.description.Load().Many
		}
	}
	return nil
}

// startPython starts the workers of all Python nodes concurrently. If some fail, it
// returns all their errors and stops the others.
func (r *Runner) startPython(ctx context.Context) error {
	nodes := r.pythonNodes()
	if len(nodes) == 0 {
		return nil
	}
	installed, err := r.install(ctx, nodes)
	if err != nil {
		return err
	}
	if withheld := r.withheldVariables(); len(withheld) > 0 {
		r.options.logger.Info("workers do not get variables of the environment that can keep Python from starting; name those that they need in pass_env", "variables", strings.Join(withheld, ", "))
	}
	r.loaded, r.templates = time.Now(), worker.NewTemplates()
	r.mu.Lock()
	if r.closed { // Close has not seen the pools, so no worker may start
		r.mu.Unlock()
		return errClosed()
	}
	for _, n := range nodes {
		n.installed = installed[n]
		if n.leads() {
			n.pool = r.newPool(n, installed[n])
		} else {
			n.pool = n.chain.pool
		}
	}
	r.mu.Unlock()
	faults := make([]error, len(nodes))
	var starting sync.WaitGroup
	for i, n := range nodes {
		if faults[i] = n.checkPlace(installed); faults[i] != nil || !n.leads() {
			continue
		}
		starting.Go(func() {
			description, err := n.pool.Warm(ctx)
			if err != nil {
				faults[i] = r.startFault(n, err)
				return
			}
			faults[i] = n.describedAs(description)
		})
	}
	starting.Wait()
	if err := joinFaults(faults); err != nil {
		r.closePools(ctx)
		r.mu.Lock()
		for _, n := range nodes {
			n.pool = nil
		}
		r.mu.Unlock()
		return err
	}
	r.gathers, r.batch = r.plan.Merges(), 0
	for _, n := range nodes {
		d := n.description.Load()
		r.gathers = r.gathers || d.Many || d.Stateful
		r.batch = max(r.batch, d.Batch)
	}
	return nil
}

// startFault returns the error of a node whose workers do not start.
func (r *Runner) startFault(n *node, err error) *Error {
	e := n.fault(err).WithNode(n.memberOf(err).id)
	if start, ok := errors.AsType[*worker.StartError](err); ok && start.Exit != nil && start.Stage == worker.StageHandshake {
		e = e.WithHint(r.startHint(n))
	}
	return e
}

// pythonNodes returns the Python nodes in the order in which they run.
func (r *Runner) pythonNodes() []*node {
	var nodes []*node
	for _, n := range r.order {
		if n.isPython() {
			nodes = append(nodes, n)
		}
	}
	return nodes
}

// newPool returns the pool of a node. It has no workers yet.
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
		MayRepeat:  n.mayRepeat,
		ForkServer: w.ForkServer,
		Observe:    r.observe(n, config.Logger),
	})
}

// workerConfig returns the configuration of each worker of a node.
func (r *Runner) workerConfig(n *node, py python) worker.Config {
	logger := r.options.logger.Named(n.id).With("node", n.id)
	l := n.config.Limits
	config := worker.Config{
		Python:  py.interpreter,
		Package: py.pkg,
		Setup: ipc.Setup{
			Node:     n.id,
			Base:     r.pipeline.Base,
			Python:   n.python,
			NodeType: n.config.Type,
			Params:   n.config.OrderedParams(),
			Ports:    n.ports(),
			Limits: ipc.SetupLimits{
				Limits: ipc.DefaultLimits(), Memory: l.Memory,
				Inline: cmp.Or(r.options.sharedMemory, DefaultSharedMemory),
			},
			LogLevel: logger.GetLevel().String(),
			Shared:   r.shared(n),
			Window:   r.window(),
			Begun:    true,

			Idempotent: n.config.Idempotent,
			Threads:    n.config.Workers.Threads,
			Timeout:    n.config.Timeout.Seconds(),
		},
		Env:          workerEnv(n.config, r.options.passEnv),
		StartTimeout: n.config.SetupTimeout,
		Timeout:      n.config.Timeout,
		Grace:        cancelGrace,
		Limits: worker.Limits{
			ResidentSoft: l.ResidentSoft, Resident: l.Resident, CPUTime: l.CPUTime, OpenFiles: l.OpenFiles,
			Threads: l.Threads, Result: l.Result,
		},
		Logger:    logger,
		Templates: r.templates,
	}
	r.isolate(&config, n.config, py)
	config.Container = r.container(n.config, py)
	if r.options.events != nil {
		config.Progress = func(p ipc.Progress) {
			r.emit(SetupProgress{Node: n.memberAt(p.Member).id, Time: time.Now(), Message: p.Message, Fraction: p.Fraction})
		}
	}
	if n.chain != nil {
		n.chain.configure(r, &config)
	}
	return config
}

// shared returns the settings for shared memory of a node's workers, nil if it is off.
func (r *Runner) shared(n *node) *ipc.SetupShared {
	if r.options.sharedMemory == 0 {
		return nil
	}
	return &ipc.SetupShared{
		From: ipc.SharedFrom, Limit: r.options.sharedMemory, Wait: sharedWait.Seconds(),
		Domain: n.domain, Results: n.resultDomain(), Arena: r.arena,
	}
}

// window returns the number of values and bytes that a node may yield ahead of the
// stream. Large arrays must not fill the shared memory: the node would block there
// until it gets an error.
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

// Drain refuses further runs and streams, and waits for those in progress. The
// workers stay until [Runner.Close]. If the context ends first, Drain returns its
// error; the runner refuses further runs nevertheless.
func (r *Runner) Drain(ctx context.Context) error {
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return errClosed()
	}
	r.draining = true
	r.mu.Unlock()
	select {
	case <-r.settled():
	case <-ctx.Done():
		return classify(context.Cause(ctx))
	}
	for _, n := range r.nodes {
		r.mu.RLock()
		p := n.pool
		r.mu.RUnlock()
		if p == nil || !n.leads() {
			continue
		}
		if err := p.Drain(ctx); err != nil { // so that it starts no further workers
			return classify(err).WithNode(n.id)
		}
	}
	return nil
}

// settled returns a channel that is closed when no run and no stream is in progress.
// The runner must already refuse further ones.
func (r *Runner) settled() <-chan struct{} {
	settled := make(chan struct{})
	go func() {
		r.runs.Wait()
		close(settled)
	}()
	return settled
}

// Close waits for the runs and streams in progress and shuts all workers down. If
// the context ends first, they are ended at once. When Close returns, no worker is
// left. It may be called several times.
//
// The error is always nil today. Close has one, as [net/http.Server.Shutdown] does, for
// later kinds of nodes that can fail to shut down.
func (r *Runner) Close(ctx context.Context) error {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	settled := r.settled()
	select {
	case <-settled:
	case <-ctx.Done():
		r.endStreams()
	}
	r.closePools(ctx)
	r.closeEngines(ctx)
	<-settled
	r.removeFiles()
	r.arena.Close()
	return nil
}

// closePools shuts down the workers of all nodes concurrently. Close may call it while
// Start makes the pools.
func (r *Runner) closePools(ctx context.Context) {
	var closing sync.WaitGroup
	r.mu.RLock()
	for _, n := range r.nodes {
		if p := n.pool; p != nil && n.leads() {
			closing.Go(func() { p.Close(ctx) })
		}
	}
	r.mu.RUnlock()
	closing.Wait()
}

// python is the installation that workers run.
type python struct {
	interpreter string // path of the environment's interpreter
	pkg         string // folder with the worker's package
	env         string // folder of the environment; empty without one
}

// damage says what is wrong with the files of the installation; empty if nothing is.
func (py python) damage() string {
	if found := pyworker.Damage(filepath.Dir(py.pkg)); found != "" {
		return found
	}
	if py.env == "" {
		return ""
	}
	if found := pyenv.Damage(py.env); found != "" {
		return filepath.Join(py.env, found)
	}
	return ""
}

// preparePython finds an interpreter, builds or reuses the environment that a node requires,
// and unpacks the worker's package. A node without requirements and an interpreter of its own
// has the environment of the pipeline. The interpreter of one in a container is podman.
func (r *Runner) preparePython(ctx context.Context, n *manifest.Node) (python, error) {
	cache, err := pyenv.CacheDir(r.options.cacheDir)
	if err != nil {
		return python{}, classify(err)
	}
	pkg, repaired, err := pyworker.Extract(filepath.Join(cache, "pyworker"))
	if err != nil {
		return python{}, classify(pyenv.FileError("unpack the worker's Python package", err))
	}
	if repaired != "" {
		r.options.logger.Warn("the worker's Python package was damaged; it is repaired", "dir", pkg, "damage", repaired)
	}
	if n.Container != nil {
		podman, err := container.Find()
		if err != nil {
			return python{}, Wrap(err, KindIO, "run a node in a container").WithHint(container.Hint)
		}
		return python{interpreter: podman, pkg: pkg}, nil
	}
	base, err := pyenv.Find(ctx, pyenv.FindOptions{
		Explicit: r.options.python,
		Manifest: r.interpreter(n),
		CacheDir: cache,
	})
	if err != nil {
		return python{}, classify(err)
	}
	if r.options.systemPython {
		if err := pyenv.System(ctx, base, r.requirements(n)); err != nil {
			return python{}, classify(err)
		}
		r.compile(ctx, base, pkg)
		return python{interpreter: base.Path, pkg: pkg}, nil
	}
	env, err := pyenv.Ensure(ctx, r.environmentSpec(n, base, cache))
	if err != nil {
		return python{}, classify(err)
	}
	r.compile(ctx, base, pkg) // not before the environment, which needs the space more
	return python{interpreter: env.Python, pkg: pkg, env: env.Dir}, nil
}

// environmentSpec describes the environment that a node requires.
func (r *Runner) environmentSpec(n *manifest.Node, base pyenv.Interpreter, cache string) pyenv.Spec {
	return pyenv.Spec{
		Interpreter:  base,
		Requirements: r.requirements(n),
		Base:         r.pipeline.Base,
		CacheDir:     cache,
		Progress:     r.options.progress,
		Logger:       r.options.logger.Named("environment"),
	}
}

// Python builds or reuses the environment that the pipeline requires, and returns
// the path of its interpreter. Runs do this by themselves; the method is for other
// programs that need the environment, such as tests of the nodes. Environments that nodes
// have for themselves are not built. The interpreter can
// import the package gophersnake of this program, unless it is used as it is
// ([WithSystemPython]).
func (r *Runner) Python(ctx context.Context) (string, error) {
	py, err := r.preparePython(ctx, new(manifest.Node))
	if err == nil && !r.options.systemPython {
		err = py.addPackage()
	}
	return py.interpreter, err
}

// compile makes workers start faster. Without the bytecode they work as well.
func (r *Runner) compile(ctx context.Context, base pyenv.Interpreter, pkg string) {
	if err := pyenv.Compile(ctx, base, pkg, pyworker.StartModule); err != nil {
		r.options.logger.Debug("workers start more slowly", "error", err)
	}
}
