package jobs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	cron "github.com/robfig/cron/v3"
	"github.com/vmihailenco/msgpack/v5"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/cluster/internal/wire"
	"github.com/gophersnake/gophersnake/runner/cluster/jobs/internal/webhook"
)

// Schedule makes the machines that serve a pipeline submit a job at each time of a cron expression.
type Schedule struct {
	// Name has 1 to 100 letters, digits and characters of _.-, and does not begin with . or -.
	Name     string
	Pipeline string
	// Cron is an expression with five fields, such as "30 9 * * MON-FRI", or one of @hourly, @daily,
	// @weekly, @monthly and @yearly.
	Cron string
	// Zone is the name of the time zone of the expression. The default is UTC. In a zone that has
	// summer time, the times in the hour that is skipped do not come, and those in the hour that
	// is repeated come twice.
	Zone string
	// Input is that of each job, of at most 128 KiB.
	Input any
	// Priority, Attempts and Webhook are those of each job; see [WithPriority], [WithAttempts] and
	// [WithWebhook]. The defaults are those of [Store.Submit].
	Priority Priority
	Attempts int
	Webhook  string
	// SkipMissed makes a time that no machine has noticed for [MissedAfter] have no job. By default, the
	// latest of the times that were missed has one, as soon as a machine is there.
	SkipMissed bool

	// Created is when the schedule was added, Last the last time that has had a job or was
	// skipped, and Next the following one. They are set by [Store.Schedules].
	Created, Last, Next time.Time
}

// MissedAfter is after how long a time of a schedule with SkipMissed counts as missed.
const MissedAfter = time.Minute

// The errors of schedules.
var (
	ErrNoSchedule     = errors.New("there is no such schedule")
	ErrScheduleExists = errors.New("there is a schedule with this name")
)

// scheduleRecord is what the bucket has of a schedule.
type scheduleRecord struct {
	Pipeline   string    `msgpack:"pipeline"`
	Cron       string    `msgpack:"cron"`
	Zone       string    `msgpack:"zone"`
	Input      []byte    `msgpack:"input"`
	Priority   Priority  `msgpack:"priority"`
	Attempts   int       `msgpack:"attempts"`
	Webhook    string    `msgpack:"webhook,omitempty"`
	SkipMissed bool      `msgpack:"skip_missed,omitempty"`
	Created    time.Time `msgpack:"created"`
	// Last is the last time that was dealt with, at first the time of the addition.
	Last time.Time `msgpack:"last"`
}

// schedulePrefix begins the keys of schedules. The key is =schedule.NAME.
const schedulePrefix = "=schedule."

func scheduleKey(name string) string { return schedulePrefix + wire.Token(name) }

// scheduleName matches the names of schedules.
var scheduleName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}$`)

// parseCron returns the times of an expression in a zone. A function returns the first time after
// another one; it is zero if there is none within five years.
func parseCron(expression, zone string) (next func(time.Time) time.Time, err error) {
	if strings.HasPrefix(expression, "@every") || strings.Contains(expression, "=") {
		return nil, errors.New("it has five fields, or is one of @hourly, @daily, @weekly, @monthly and @yearly; the zone is not a part of it")
	}
	times, err := cron.ParseStandard(expression)
	if err != nil {
		return nil, err
	}
	location, err := time.LoadLocation(zone)
	if err != nil {
		return nil, err
	}
	return func(t time.Time) time.Time { return times.Next(t.In(location)) }, nil
}

// AddSchedule adds a schedule. Its first time is the first one after now. The error wraps
// [ErrScheduleExists] if there is one with its name; it is of kind manifest if no machine has ever
// served jobs of the pipeline, of kind other if a field is not valid, and of kind io if the servers
// cannot be reached.
func (s *Store) AddSchedule(ctx context.Context, c Schedule) error {
	return s.addSchedule(ctx, c, time.Now())
}

func (s *Store) addSchedule(ctx context.Context, c Schedule, now time.Time) error {
	invalid := func(text string, args ...any) error {
		return runner.NewError(runner.KindOther, fmt.Sprintf("add the schedule %.100q: ", c.Name)+fmt.Sprintf(text, args...))
	}
	r := scheduleRecord{
		Pipeline: c.Pipeline, Cron: c.Cron, Zone: cmp.Or(c.Zone, "UTC"), Priority: cmp.Or(c.Priority, Normal), Attempts: max(c.Attempts, 1),
		Webhook: c.Webhook, SkipMissed: c.SkipMissed, Created: now, Last: now,
	}
	if !scheduleName.MatchString(c.Name) {
		return invalid("a name has 1 to 100 letters, digits and characters of _.-")
	}
	next, err := parseCron(r.Cron, r.Zone)
	if err != nil {
		return invalid("the expression %.100q in the zone %.100q: %v", r.Cron, r.Zone, err)
	}
	if next(r.Last).IsZero() {
		return invalid("the expression %.100q has no time in the next five years", r.Cron)
	}
	if _, err := ParsePriority(string(r.Priority)); err != nil {
		return err
	}
	if r.Webhook != "" {
		if err := webhook.CheckURL(r.Webhook); err != nil {
			return invalid("the URL of the webhook is not valid: %v", err)
		}
	}
	payload, err := ipc.Encode("input", c.Input)
	if err != nil {
		return runner.Wrap(err, runner.KindMarshaling, "").WithOperation("encode the input")
	}
	if r.Input = wire.AppendPayload(nil, payload); len(r.Input) > largestInline {
		return invalid("the input has %d bytes, and at most %d are allowed; let the input be the name of a file", len(r.Input), largestInline)
	}
	if _, err := s.js.Stream(ctx, queueName(r.Pipeline)); err != nil {
		return s.submitError(ctx, r.Pipeline, err)
	}
	data, err := msgpack.Marshal(&r)
	if err == nil {
		_, err = s.records.Create(ctx, scheduleKey(c.Name), data)
	}
	if errors.Is(err, jetstream.ErrKeyExists) {
		return runner.Wrap(ErrScheduleExists, runner.KindOther, c.Name).WithHint("gophersnake jobs schedule rm removes it")
	}
	if err == nil {
		_ = s.nc.Publish(subjectOfWake(r.Pipeline), []byte(wakeSchedules))
	}
	return storeError(ctx, err, "add the schedule "+c.Name)
}

// Schedules returns all schedules, sorted by their names.
func (s *Store) Schedules(ctx context.Context) (all []*Schedule, err error) {
	err = s.eachSchedule(ctx, func(name string, r *scheduleRecord, _ uint64) {
		c := &Schedule{
			Name: name, Pipeline: r.Pipeline, Cron: r.Cron, Zone: r.Zone, Priority: r.Priority, Attempts: r.Attempts, Webhook: r.Webhook,
			SkipMissed: r.SkipMissed, Created: r.Created,
		}
		if r.Last.After(r.Created) {
			c.Last = r.Last
		}
		if next, err := parseCron(r.Cron, r.Zone); err == nil {
			c.Next = next(r.Last)
		}
		if c.Input, err = decode("input", r.Input, s.config.OrderedMaps); err != nil {
			s.logger.Warn("the input of a schedule cannot be read", "schedule", name, "error", err)
		}
		all = append(all, c)
	})
	slices.SortFunc(all, func(a, b *Schedule) int { return strings.Compare(a.Name, b.Name) })
	return all, storeError(ctx, err, "list the schedules")
}

// eachSchedule calls each with all schedules and their revisions.
func (s *Store) eachSchedule(ctx context.Context, each func(name string, r *scheduleRecord, revision uint64)) error {
	return s.watchEntries(ctx, schedulePrefix+"*", func(entry jetstream.KeyValueEntry) (bool, error) {
		if entry == nil { // these were all
			return false, nil
		}
		var r scheduleRecord
		if err := msgpack.Unmarshal(entry.Value(), &r); err != nil {
			return false, err
		}
		each(wire.Untoken(strings.TrimPrefix(entry.Key(), schedulePrefix)), &r, entry.Revision())
		return true, nil
	})
}

// RemoveSchedule removes a schedule. The jobs that it has submitted stay. The error wraps
// [ErrNoSchedule] if there is none with the name.
func (s *Store) RemoveSchedule(ctx context.Context, name string) error {
	entry, err := s.records.Get(ctx, scheduleKey(name))
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return runner.Wrap(ErrNoSchedule, runner.KindOther, name).WithHint("gophersnake jobs schedule ls lists all")
	}
	for err == nil {
		err = s.records.Purge(ctx, scheduleKey(name), jetstream.LastRevision(entry.Revision()), jetstream.PurgeTTL(time.Second))
		if !isConflict(err) {
			break
		}
		entry, err = s.records.Get(ctx, scheduleKey(name)) // it had a time meanwhile
	}
	return storeError(ctx, err, "remove the schedule "+name)
}
