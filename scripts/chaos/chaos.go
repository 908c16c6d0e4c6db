package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/pprof"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gophersnake/gophersnake/retry"
	"github.com/gophersnake/gophersnake/runner"
)

// config is what a run is to be.
type config struct {
	seed   uint64
	length time.Duration // 0 where the number of calls is given
	calls  int
	rate   float64       // the part of the calls that have a fault
	strike time.Duration // the time between two signals to workers
	stuck  time.Duration // how long a call may take
	lanes  []string      // nil for all
	json   bool
}

// chaos is a run.
type chaos struct {
	config
	planner planner
	lanes   []*lane // those that take part
	ledger  *ledger
	workers *workers
	memory  *memory
	gate    gate
	watch   *watch
	took    time.Duration // for the calls
	items   atomic.Int64  // that came out of streams
	closing atomic.Bool
	out     io.Writer
}

// newChaos prepares a run.
func newChaos(c config, out io.Writer) (*chaos, error) {
	all := newLanes()
	known := make([]string, len(all))
	for i, l := range all {
		known[i] = l.name
	}
	lanes := all
	if c.lanes != nil {
		lanes = slices.DeleteFunc(slices.Clone(all), func(l *lane) bool { return !slices.Contains(c.lanes, l.name) })
		for _, name := range c.lanes {
			if !slices.Contains(known, name) {
				return nil, fmt.Errorf("there is no pipeline %q; there are: %s", name, strings.Join(known, ", "))
			}
		}
	}
	made := &chaos{
		config:  c,
		planner: planner{seed: c.seed, rate: c.rate, lanes: all},
		lanes:   lanes,
		ledger:  newLedger(len(all)),
		workers: newWorkers(len(all)),
		watch:   newWatch(c.stuck),
		out:     out,
	}
	made.memory = &memory{calls: &made.gate, ledger: made.ledger.bytes}
	if !c.json {
		made.ledger.tell = func(text string) { fmt.Fprintf(out, "violation: %s\n", text) }
	}
	return made, nil
}

// run goes through with it, and returns what there is to tell. Its error is one of
// the machine's; what gophersnake did wrong is told in the report.
func (c *chaos) run(ctx context.Context) (*report, error) {
	folder, err := os.MkdirTemp("", "chaos-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(folder)
	site, err := newSite(folder)
	if err != nil {
		return nil, err
	}
	defer site.leave()
	// What the program sets up once is not to be taken for a leak.
	if err := c.visit(ctx, site.pipelines); err != nil {
		return nil, err
	}
	before, err := site.look()
	if err != nil {
		return nil, err
	}
	if err := c.live(ctx, site); err != nil {
		return nil, err
	}
	c.ledger.close()
	if n := c.workers.groundless; n > 0 {
		c.ledger.violation("nodes were called unhealthy without a cause %d times", n)
	}
	executed := c.ledger.checkExecuted(filepath.Join(site.pipelines, "notes", "executed"), c.planner.lanes)
	left := site.left(before)
	for _, each := range left {
		c.ledger.violation("left behind: %s", each)
	}
	return c.report(executed, left), nil
}

// visit opens and closes one of the pipelines.
func (c *chaos) visit(ctx context.Context, folder string) error {
	r, err := c.lanes[0].open(ctx, folder)
	if err != nil {
		return err
	}
	return r.Close(ctx)
}

// live opens all pipelines, has them called, hurt and struck, and closes them.
func (c *chaos) live(ctx context.Context, site *site) error {
	runners := make([]*runner.Runner, len(c.lanes))
	defer func() {
		for _, r := range runners {
			if r != nil {
				_ = r.Close(ctx) // it has been closed already, but for an error on the way
			}
		}
	}()
	var opening sync.WaitGroup
	failed := make([]error, len(c.lanes))
	for i, l := range c.lanes {
		opening.Go(func() {
			runners[i], failed[i] = l.open(ctx, site.pipelines, runner.WithEvents(c.workers.events(l)))
		})
	}
	opening.Wait()
	if err := errors.Join(append(failed, site.canTell())...); err != nil {
		return err
	}
	stop, cancel := context.WithCancel(ctx)
	defer cancel()
	var around sync.WaitGroup // what goes on beside the calls
	reload := func(l *lane) {
		r := runners[slices.Index(c.lanes, l)]
		around.Go(func() { c.reload(stop, l, r) })
	}
	around.Go(func() { c.workers.strikes(stop, c.planner.seed, c.strike, c.lanes, reload) })
	around.Go(func() { c.memory.follow(stop) })
	around.Go(func() { c.progress(stop) })
	around.Go(func() {
		c.watch.follow(stop, func(what []string) {
			c.tellStuck(what, runners, os.Stderr)
			os.Exit(1) // there is nothing to wait for
		})
	})
	if c.length > 0 {
		time.AfterFunc(c.length, cancel)
	}
	begun := time.Now()
	var calling sync.WaitGroup
	for i, l := range c.lanes {
		var turns atomic.Int64
		turns.Store(c.turns(l))
		for range l.callers {
			calling.Go(func() {
				for stop.Err() == nil && turns.Add(-1) >= 0 {
					c.gate.enter()
					c.call(ctx, l, runners[i])
					c.gate.leave()
				}
			})
		}
	}
	calling.Wait()
	c.took = time.Since(begun)
	c.closing.Store(true)
	var closing sync.WaitGroup
	for i, l := range c.lanes {
		closing.Go(func() {
			defer c.watch.begin("closing the pipeline " + l.name)()
			if err := runners[i].Close(ctx); err != nil {
				c.ledger.violation("closing the pipeline %s: %v", l.name, err)
			}
		})
	}
	closing.Wait()
	cancel()
	around.Wait()
	return ctx.Err()
}

// turns is how many calls a lane has.
func (c *chaos) turns(l *lane) int64 {
	if c.length > 0 {
		return 1 << 62
	}
	all := 0
	for _, each := range c.lanes {
		all += each.share
	}
	return max(1, int64(c.calls)*int64(l.share)/int64(all))
}

// call makes the next call of a lane.
func (c *chaos) call(ctx context.Context, l *lane, r *runner.Runner) {
	k := c.ledger.issue(l)
	p := c.planner.plan(l, k)
	defer c.watch.begin(p)()
	switch {
	case p.cancel > 0 && p.deadline:
		var done context.CancelFunc
		ctx, done = context.WithTimeout(ctx, p.cancel)
		defer done()
	case p.cancel > 0:
		var done context.CancelFunc
		ctx, done = context.WithCancel(ctx)
		defer done()
		defer time.AfterFunc(p.cancel, done).Stop()
	}
	items, wrong, err := l.do(ctx, r, p)
	got, story := judge(p, err)
	if wrong != nil {
		got, story = other, "a wrong answer: "+wrong.Error()
	}
	allowed := p.allowed()
	if !l.single || c.isExplained(err) {
		allowed |= neighbour
	}
	c.ledger.settle(p, k, got, allowed, story)
	c.items.Add(int64(items))
}

// isExplained reports whether it is known what ended a worker that had but one call:
// a signal, or the deadline, which a busy machine may be the reason for.
func (c *chaos) isExplained(err error) bool {
	var e *runner.Error
	return errors.As(err, &e) && (c.workers.wasHit(e.PID) || strings.Contains(e.Message, "no answer within"))
}

// reload has a pipeline begin anew under its calls. That may fail where a signal hits
// one of its new workers, and then changes nothing.
func (c *chaos) reload(ctx context.Context, l *lane, r *runner.Runner) {
	c.gate.enter()
	defer c.gate.leave()
	defer c.watch.begin("reloading the pipeline " + l.name)()
	err := r.Reload(ctx)
	if err == nil || ctx.Err() != nil || c.closing.Load() {
		return
	}
	if kind := runner.KindOf(err); kind != runner.KindPythonVM && kind != runner.KindTransport {
		c.ledger.violation("reloading the pipeline %s: %+v", l.name, err)
	}
}

// judge says what an error means, and tells its story.
func judge(p plan, err error) (outcome, string) {
	if err == nil {
		return right, ""
	}
	story := fmt.Sprintf("%+v", err)
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return cancelled, story
	case errors.Is(err, retry.ErrOpen):
		return refused, story
	}
	switch runner.KindOf(err) {
	case runner.KindExecution:
		if !strings.Contains(story, fmt.Sprintf("call %d", p.number)) {
			return other, "an exception that is not its own: " + story
		}
		return execution, story
	case runner.KindPythonVM:
		return vm, story
	case runner.KindTransport:
		return transport, story
	case runner.KindMarshaling:
		return marshaling, story
	}
	return other, story
}

// tellStuck says of calls that take too long how the pipelines are, and what the
// program is doing.
func (c *chaos) tellStuck(what []string, runners []*runner.Runner, out io.Writer) {
	fmt.Fprintf(out, "violation: no answer within %v:\n  %s\n", c.stuck, strings.Join(what, "\n  "))
	for i, r := range runners {
		fmt.Fprintf(out, "%s:\n%v\n", c.lanes[i].name, r.Health())
	}
	_ = pprof.Lookup("goroutine").WriteTo(out, 1) // there is nobody to tell that it failed
}
