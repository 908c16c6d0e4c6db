// Package serving runs gophersnake serve with many clients, half of which leave in the middle,
// while its workers are killed. A ledger shows that each request got exactly one answer of the
// right kind, that all workers serve at the end, and that nothing is left behind.
package serving

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/gophersnake/gophersnake/scripts/internal/procs"
)

// Config holds the settings of a run.
type Config struct {
	Seed     uint64
	Length   time.Duration // of the load
	Clients  int
	Interval time.Duration // between two kills
	JSON     bool
}

// stuck is how long a request, or the recovery at the end, may take.
const stuck = 2 * time.Minute

// ErrViolations is the error of a run with violations.
var ErrViolations = errors.New("gophersnake serve broke a guarantee; see the violations")

// Run makes a run and writes its report. The error is ErrViolations if there is a violation,
// and otherwise that of a run that could not be made on this machine.
func Run(ctx context.Context, c Config, out io.Writer) error {
	folder, err := os.MkdirTemp("", "chaos-serve-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(folder) }()
	l := newLedger()
	if !c.JSON {
		l.violations.Report = func(text string) { _, _ = fmt.Fprintf(out, "violation: %s\n", text) }
	}
	defer watchLog(l)()
	s, err := startService(ctx, folder)
	if err != nil {
		return err
	}
	defer s.kill()
	r := &run{Config: c, service: s, ledger: l, out: out}
	if err := r.load(ctx); err != nil {
		return fmt.Errorf("%w\n%s", err, s.lastLog())
	}
	if err := r.end(ctx); err != nil {
		return err
	}
	if err := r.report().write(out, c.JSON); err != nil {
		return err
	}
	if l.violations.Count() > 0 {
		return ErrViolations
	}
	return nil
}

// run is a run.
type run struct {
	Config
	service *service
	ledger  *ledger
	out     io.Writer

	before, after resources
	took          time.Duration
	recovery      time.Duration
	peak          int64 // of the resident memory of the service
	kills         int
}

// load makes the requests of all clients while workers are killed.
func (r *run) load(ctx context.Context) error {
	warm := newClients(r, 1)
	for range 3 { // what the service sets up only once does not count as a leak
		if err := warm.probe(ctx); err != nil {
			return err
		}
	}
	warm.close()
	if err := r.service.renew(ctx); err != nil {
		return err
	}
	var err error
	if r.before, err = r.service.awaitResources(ctx, resources{}); err != nil {
		return err
	}
	stop, cancel := context.WithTimeout(ctx, r.Length)
	defer cancel()
	started := time.Now()
	var background sync.WaitGroup
	background.Go(func() { r.killWorkers(stop) })
	background.Go(func() { r.progress(stop) })
	clients := newClients(r, r.Clients)
	clients.run(ctx, stop)
	r.took = time.Since(started)
	cancel()
	background.Wait()
	clients.close()
	return context.Cause(ctx)
}

// killWorkers kills a random process of the service at each interval.
func (r *run) killWorkers(ctx context.Context) {
	random := rand.New(rand.NewPCG(r.Seed, 1<<63))
	ticker := time.NewTicker(r.Interval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		if pids := procs.Descendants(r.service.pid()); len(pids) > 0 {
			if process, err := os.FindProcess(pids[random.IntN(len(pids))]); err == nil && process.Kill() == nil {
				r.kills++
			}
		}
	}
}

// progress prints a line every 5 s, and notes the memory of the service.
func (r *run) progress(ctx context.Context) {
	started := time.Now()
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for n := 1; ; n++ {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		r.peak = max(r.peak, procs.Resident(r.service.pid()))
		if n%5 == 0 && !r.JSON {
			answered, violations := r.ledger.progress()
			_, _ = fmt.Fprintf(r.out, "%4.0f s  %d requests settled  %d kills  %d MiB  %d violations\n",
				time.Since(started).Seconds(), answered, r.kills, procs.Resident(r.service.pid())>>20, violations)
		}
	}
}

// end checks that the service is whole after the load, that it holds no more than before, and
// that nothing is left of it when it has ended.
func (r *run) end(ctx context.Context) error {
	l := r.ledger
	l.close()
	started := time.Now()
	if err := r.service.awaitWhole(ctx, stuck); err != nil {
		l.violations.Add("the capacity is not whole: %v", err)
	}
	r.recovery = time.Since(started)
	probe := newClients(r, 1)
	if err := probe.probe(ctx); err != nil {
		l.violations.Add("a call after the load: %v", err)
	}
	probe.close()
	if err := r.service.renew(ctx); err != nil {
		l.violations.Add("replacing all workers: %v", err)
	}
	var err error
	if r.after, err = r.service.awaitResources(ctx, r.before); err != nil {
		return err
	}
	for _, leak := range r.after.since(r.before) {
		l.violations.Add("left behind: %s", leak)
	}
	if err := r.service.stop(); err != nil {
		l.violations.Add("the end of the service: %v\n%s", err, r.service.lastLog())
	}
	if left := procs.With("TMPDIR=" + r.service.temp); len(left) > 0 {
		l.violations.Add("left behind: processes %v", left)
	}
	if files, _ := filepath.Glob(filepath.Join(r.service.temp, "*")); len(files) > 0 {
		l.violations.Add("left behind: files %v", files)
	}
	return nil
}
