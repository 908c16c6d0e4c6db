package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/pprof"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gophersnake/gophersnake/retry"
	"github.com/gophersnake/gophersnake/runner"
)

// config holds the settings of a run.
type config struct {
	seed      uint64
	length    time.Duration // 0 if the number of calls is given
	calls     int
	rate      float64       // the fraction of the calls that have a fault
	interval  time.Duration // between two injections
	stuck     time.Duration // how long a call may take
	pipelines []string      // names of targets; nil for all
	json      bool
	hostile   bool // attacks in place of faults
	serve     bool // requests to gophersnake serve in place of calls
	clients   int  // of gophersnake serve
}

// chaos is a run.
type chaos struct {
	config
	planner  planner
	targets  []*target // those that are called
	ledger   *ledger
	workers  *workers
	memory   *memory
	gate     gate
	watchdog *watchdog
	took     time.Duration // of all calls together
	items    atomic.Int64  // received from streams
	closing  atomic.Bool
	out      io.Writer
}

// newChaos prepares a run. It fails if a pipeline's name is unknown.
func newChaos(c config, out io.Writer) (*chaos, error) {
	all := newTargets()
	if c.hostile {
		all = newHostileTargets()
	}
	names := make([]string, len(all))
	for i, t := range all {
		names[i] = t.name
	}
	targets := all
	if c.pipelines != nil {
		targets = slices.DeleteFunc(slices.Clone(all), func(t *target) bool { return !slices.Contains(c.pipelines, t.name) })
		for _, name := range c.pipelines {
			if !slices.Contains(names, name) {
				return nil, fmt.Errorf("there is no pipeline %q; there are: %s", name, strings.Join(names, ", "))
			}
		}
	}
	made := &chaos{
		config:   c,
		planner:  planner{seed: c.seed, rate: c.rate, targets: all},
		targets:  targets,
		ledger:   newLedger(len(all)),
		workers:  newWorkers(len(all)),
		watchdog: newWatchdog(c.stuck),
		out:      out,
	}
	made.memory = &memory{calls: &made.gate, ledger: made.ledger.bytes}
	if !c.json {
		made.ledger.violations.Report = func(text string) { _, _ = fmt.Fprintf(out, "violation: %s\n", text) }
	}
	return made, nil
}

// run executes the run and returns its report. It returns an error only if the run could
// not be made on this machine; what gophersnake did wrong is in the report.
func (c *chaos) run(ctx context.Context) (*report, error) {
	folder, err := os.MkdirTemp("", "chaos-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(folder) }()
	workspace, err := newWorkspace(folder)
	if err != nil {
		return nil, err
	}
	defer workspace.restore()
	// What the process sets up only once does not count as a leak.
	if err := c.openOnce(ctx, workspace.pipelines); err != nil {
		return nil, err
	}
	before, err := workspace.resources()
	if err != nil {
		return nil, err
	}
	if err := c.load(ctx, workspace); err != nil {
		return nil, err
	}
	c.ledger.close()
	if n := c.workers.unexplained; n > 0 {
		c.ledger.violations.Add("nodes became unhealthy without a cause %d times", n)
	}
	executed := c.ledger.checkExecuted(workspace.executedFile(), c.planner.targets)
	leaks := workspace.leaks(before)
	for _, leak := range leaks {
		c.ledger.violations.Add("left behind: %s", leak)
	}
	return c.report(executed, leaks), nil
}

// openOnce opens and closes one of the pipelines.
func (c *chaos) openOnce(ctx context.Context, folder string) error {
	r, err := c.targets[0].open(ctx, folder)
	if err != nil {
		return err
	}
	return r.Close(ctx)
}

// load opens all pipelines, calls them while signals and reloads are injected, and
// closes them.
func (c *chaos) load(ctx context.Context, workspace *workspace) error {
	runners, err := c.openAll(ctx, workspace)
	defer func() {
		for _, r := range runners {
			if r != nil {
				_ = r.Close(ctx) // does nothing unless an error occurred below
			}
		}
	}()
	if err != nil {
		return err
	}
	stop, cancel := context.WithCancel(ctx)
	defer cancel()
	var background sync.WaitGroup
	reload := func(t *target) {
		r := runners[slices.Index(c.targets, t)]
		background.Go(func() { c.reload(stop, t, r) })
	}
	if !c.hostile { // the neighbors of a hostile node must not die
		background.Go(func() { c.workers.injectAll(stop, c.planner.seed, c.interval, c.targets, reload) })
	}
	background.Go(func() { c.memory.run(stop) })
	background.Go(func() { c.progress(stop) })
	background.Go(func() {
		c.watchdog.run(stop, func(overdue []string) {
			c.reportStuck(overdue, runners, os.Stderr)
			os.Exit(1) // the run would not end
		})
	})
	if c.length > 0 {
		time.AfterFunc(c.length, cancel)
	}
	c.callAll(ctx, stop, runners)
	c.closeAll(ctx, runners)
	cancel()
	background.Wait()
	return ctx.Err()
}

// openAll starts the runners of all targets. With an error it returns those that did
// start, the others being nil.
func (c *chaos) openAll(ctx context.Context, workspace *workspace) ([]*runner.Runner, error) {
	runners := make([]*runner.Runner, len(c.targets))
	failed := make([]error, len(c.targets))
	var opening sync.WaitGroup
	for i, t := range c.targets {
		opening.Go(func() {
			runners[i], failed[i] = t.open(ctx, workspace.pipelines, runner.WithEvents(c.workers.observer(t)))
		})
	}
	opening.Wait()
	return runners, errors.Join(append(failed, workspace.checkWorkersVisible())...)
}

// callAll makes the calls of all targets, until their number is reached or stop ends. The
// calls in progress at that time run to their end.
func (c *chaos) callAll(ctx, stop context.Context, runners []*runner.Runner) {
	started := time.Now()
	var calling sync.WaitGroup
	for i, t := range c.targets {
		var remaining atomic.Int64
		remaining.Store(c.callCount(t))
		for range t.callers {
			calling.Go(func() {
				for stop.Err() == nil && remaining.Add(-1) >= 0 {
					c.gate.enter()
					c.call(ctx, t, runners[i])
					c.gate.leave()
				}
			})
		}
	}
	calling.Wait()
	c.took = time.Since(started)
}

// closeAll closes all runners.
func (c *chaos) closeAll(ctx context.Context, runners []*runner.Runner) {
	c.closing.Store(true)
	var closing sync.WaitGroup
	for i, t := range c.targets {
		closing.Go(func() {
			defer c.watchdog.track("closing the pipeline " + t.name)()
			if err := runners[i].Close(ctx); err != nil {
				c.ledger.violations.Add("closing the pipeline %s: %v", t.name, err)
			}
		})
	}
	closing.Wait()
}

// callCount returns the number of calls of a target.
func (c *chaos) callCount(t *target) int64 {
	if c.length > 0 {
		return 1 << 62
	}
	total := 0
	for _, other := range c.targets {
		total += other.weight
	}
	return max(1, int64(c.calls)*int64(t.weight)/int64(total))
}

// call makes the next call of a target and enters its outcome into the ledger.
func (c *chaos) call(ctx context.Context, t *target, r *runner.Runner) {
	k := c.ledger.issue(t)
	p := c.planner.plan(t, k)
	defer c.watchdog.track(p)()
	switch {
	case p.cancelAfter > 0 && p.deadline:
		var done context.CancelFunc
		ctx, done = context.WithTimeout(ctx, p.cancelAfter)
		defer done()
	case p.cancelAfter > 0:
		var done context.CancelFunc
		ctx, done = context.WithCancel(ctx)
		defer done()
		defer time.AfterFunc(p.cancelAfter, done).Stop()
	}
	items, wrong, err := t.do(ctx, r, p)
	got, detail := classify(p, err)
	if wrong != nil {
		got, detail = other, "a wrong answer: "+wrong.Error()
	}
	allowed := p.allowed()
	switch {
	case t.hostile: // an attack may have its effect after its call
		allowed |= anything
	case !t.serial || c.hasCause(err):
		allowed |= collateral
	}
	c.ledger.settle(p, k, got, allowed, detail)
	c.items.Add(int64(items))
}

// hasCause reports whether there is a cause for the death of a worker that had a single
// call: an injected signal, or a deadline that the call may have missed on a busy machine.
func (c *chaos) hasCause(err error) bool {
	var e *runner.Error
	return errors.As(err, &e) && (c.workers.wasSignaled(e.PID) || strings.Contains(e.Message, "no answer within"))
}

// reload reloads a pipeline while it is called. The reload may fail if a signal kills one
// of the new workers; it then changes nothing.
func (c *chaos) reload(ctx context.Context, t *target, r *runner.Runner) {
	c.gate.enter()
	defer c.gate.leave()
	defer c.watchdog.track("reloading the pipeline " + t.name)()
	err := r.Reload(ctx)
	if err == nil || ctx.Err() != nil || c.closing.Load() {
		return
	}
	if kind := runner.KindOf(err); kind != runner.KindPythonVM && kind != runner.KindTransport {
		c.ledger.violations.Add("reloading the pipeline %s: %+v", t.name, err)
	}
}

// classify returns the outcome that an error stands for, and the error's full text.
func classify(p plan, err error) (outcome, string) {
	if err == nil {
		return right, ""
	}
	detail := fmt.Sprintf("%+v", err)
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return canceled, detail
	case errors.Is(err, retry.ErrOpen):
		return refused, detail
	}
	switch runner.KindOf(err) {
	case runner.KindExecution:
		if !p.target.hostile && !strings.Contains(detail, fmt.Sprintf("call %d", p.number)) {
			return other, "an exception of another call: " + detail
		}
		return execution, detail
	case runner.KindPythonVM:
		return vm, detail
	case runner.KindTransport:
		return transport, detail
	case runner.KindMarshaling:
		return marshaling, detail
	}
	if p.target.hostile {
		return refused, detail
	}
	return other, detail
}

// reportStuck prints the operations that take too long, the health of all pipelines and
// the stacks of all goroutines.
func (c *chaos) reportStuck(overdue []string, runners []*runner.Runner, out io.Writer) {
	_, _ = fmt.Fprintf(out, "violation: no answer within %v:\n  %s\n", c.stuck, strings.Join(overdue, "\n  "))
	for i, r := range runners {
		_, _ = fmt.Fprintf(out, "%s:\n%v\n", c.targets[i].name, r.Health())
	}
	_ = pprof.Lookup("goroutine").WriteTo(out, 1)
}
