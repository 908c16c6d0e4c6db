package jobs

import (
	"context"
	"slices"
	"time"

	"github.com/vmihailenco/msgpack/v5"
)

// scheduler submits the jobs of the schedules whose pipelines a server has. Each machine does that for
// itself. The id of a job consists of the name of the schedule and the time, so the first machine
// queues it, and for the others it is known.
type scheduler struct {
	store     *Store
	pipelines []string
	now       func() time.Time
	tick      time.Duration
	known     map[string]*plan // by name
}

// plan is a schedule as a machine knows it.
type plan struct {
	revision uint64
	record   scheduleRecord
	times    func(time.Time) time.Time // nil if the machine cannot read the expression
	next     time.Time
}

const (
	// scheduleTick is how often a machine looks whether a time has come.
	scheduleTick = time.Second
	// scheduleAge is how old what it knows of the schedules may be, if it was not told of a change.
	scheduleAge = 30 * time.Second
	// schedulePause is how long it waits after an error.
	schedulePause = 10 * time.Second
	// wakeSchedules tells the machines of a pipeline that a schedule was added.
	wakeSchedules = "schedules"
)

// runSchedules submits the jobs of schedules until the server takes no more.
func (s *Server) runSchedules() {
	c := &scheduler{store: s.store, now: s.clock, tick: s.scheduleTick, known: make(map[string]*plan)}
	for _, p := range s.pullers {
		c.pipelines = append(c.pipelines, p.pipeline)
	}
	ticker := time.NewTicker(c.tick)
	defer ticker.Stop()
	var read time.Time
	for {
		if time.Since(read) >= scheduleAge {
			if err := c.read(s.taking); err != nil && s.taking.Err() == nil {
				s.store.logger.Warn("cannot read the schedules", "error", err)
			}
			read = time.Now()
		}
		for name, p := range c.known {
			if p.times != nil && !p.next.IsZero() && !c.now().Before(p.next) {
				c.fire(s.taking, name, p)
			}
		}
		select {
		case <-s.taking.Done():
			return
		case <-s.schedulesChanged:
			read = time.Time{}
		case <-ticker.C:
		}
	}
}

// read reads all schedules of the machine's pipelines.
func (c *scheduler) read(ctx context.Context) error {
	found := make(map[string]*plan)
	err := c.store.eachSchedule(ctx, func(name string, r *scheduleRecord, revision uint64) {
		if !slices.Contains(c.pipelines, r.Pipeline) {
			return
		}
		if p := c.known[name]; p != nil && p.revision == revision {
			found[name] = p
			return
		}
		found[name] = c.plan(name, *r, revision)
	})
	if err == nil {
		c.known = found
	}
	return err
}

func (c *scheduler) plan(name string, r scheduleRecord, revision uint64) *plan {
	p := &plan{revision: revision, record: r}
	var err error
	if p.times, err = parseCron(r.Cron, r.Zone); err != nil {
		c.store.logger.Warn("this machine cannot run a schedule", "schedule", name, "zone", r.Zone, "error", err)
		return p
	}
	p.next = p.times(r.Last)
	return p
}

// fire submits the job of the latest time that has come, and notes the time. If either fails, the
// next tick tries again.
func (c *scheduler) fire(ctx context.Context, name string, p *plan) {
	ctx, cancel := context.WithTimeout(ctx, submitPatience)
	defer cancel()
	now := c.now()
	entry, err := c.store.records.Get(ctx, scheduleKey(name))
	if err != nil { // it was removed, or the servers do not answer
		p.next = now.Add(schedulePause)
		if err = c.read(ctx); err != nil {
			c.store.logger.Warn("cannot read the schedules", "error", err)
		}
		return
	}
	if entry.Revision() != p.revision { // another machine was faster
		var r scheduleRecord
		if err := msgpack.Unmarshal(entry.Value(), &r); err == nil {
			c.known[name] = c.plan(name, r, entry.Revision())
		}
		return
	}
	at := latest(p.times, p.record.Last, now)
	if at.IsZero() { // it was too early, after an error
		p.next = p.times(p.record.Last)
		return
	}
	if !p.record.SkipMissed || now.Sub(at) <= MissedAfter {
		if err := c.submit(ctx, name, p, at); err != nil {
			c.store.logger.Warn("cannot submit the job of a schedule; trying again", "schedule", name, "time", at, "error", err)
			p.next = now.Add(schedulePause)
			return
		}
	}
	p.record.Last = at
	data, err := msgpack.Marshal(&p.record)
	if err == nil {
		var revision uint64
		revision, err = c.store.records.Update(ctx, scheduleKey(name), data, p.revision)
		p.revision = revision
	}
	p.next = p.times(at)
	if err != nil { // then the next look at the schedules shows what has become of it
		p.revision, p.next = 0, time.Time{}
		if !isConflict(err) {
			c.store.logger.Warn("cannot note the time of a schedule", "schedule", name, "time", at, "error", err)
		}
	}
}

// submit queues the job of a time, unless it is known.
func (c *scheduler) submit(ctx context.Context, name string, p *plan, at time.Time) error {
	input, err := decode("input", p.record.Input, true)
	if err != nil {
		return err
	}
	_, _, err = c.store.Submit(ctx, p.record.Pipeline, input, WithID(idOfTime(name, at)), WithPriority(p.record.Priority),
		WithAttempts(p.record.Attempts, time.Second), WithWebhook(p.record.Webhook))
	return err
}

// idOfTime returns the id of the job of a schedule at a time.
func idOfTime(name string, at time.Time) string {
	return name + "-" + at.UTC().Format("20060102T150405Z")
}

// latest returns the last time after one and not after now, zero if there is none. It looks back
// step by step, so that a schedule that was not run for years takes no longer than another one.
func latest(times func(time.Time) time.Time, after, now time.Time) (at time.Time) {
	for back := time.Hour; ; back *= 4 {
		from := now.Add(-back)
		if from.Before(after) {
			from = after
		}
		for t := times(from); !t.IsZero() && !t.After(now); t = times(t) {
			at = t
		}
		if !at.IsZero() || !from.After(after) || back > 10*365*24*time.Hour {
			return at
		}
	}
}
