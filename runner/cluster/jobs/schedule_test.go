package jobs_test

import (
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/runner/cluster/internal/clustertest"
	"github.com/gophersnake/gophersnake/runner/cluster/jobs"
	"github.com/gophersnake/gophersnake/runner/internal/testkit"
)

// clock is the time of the schedules of a test.
type clock struct{ at atomic.Pointer[time.Time] }

// newYear is when the clocks of the tests begin.
var newYear = time.Date(2026, time.January, 1, 0, 0, 0, 0, time.UTC)

func newClock() *clock {
	c := &clock{}
	c.set(newYear)
	return c
}

func (c *clock) now() time.Time { return *c.at.Load() }

func (c *clock) set(t time.Time) { c.at.Store(&t) }

// option makes a machine use the clock.
func (c *clock) option() jobs.ServerOption { return jobs.WithClock(c.now, time.Millisecond) }

// schedule adds a schedule of the pipeline echo at the time of a clock.
func (s *site) schedule(c *clock, schedule jobs.Schedule) {
	s.t.Helper()
	schedule.Pipeline = "echo"
	require.NoError(s.t, s.AddScheduleAt(s.t.Context(), schedule, c.now()))
}

// awaitLast waits until a time of a schedule was dealt with.
func (s *site) awaitLast(name string, last time.Time) *jobs.Schedule {
	s.t.Helper()
	var found *jobs.Schedule
	testkit.Eventually(s.t, func() bool {
		all, err := s.Schedules(s.t.Context())
		require.NoError(s.t, err)
		i := slices.IndexFunc(all, func(c *jobs.Schedule) bool { return c.Name == name })
		if i < 0 {
			return false
		}
		found = all[i]
		return found.Last.Equal(last)
	}, name, last)
	return found
}

// hasJobs waits until the jobs of the pipeline echo with some ids have ended, and checks that it has
// no others.
func (s *site) hasJobs(ids ...string) {
	s.t.Helper()
	for _, id := range ids { // a list does not have a job that begins and ends while it is made
		s.await(jobs.Ref{Pipeline: "echo", ID: id})
	}
	var found []string
	require.NoError(s.t, s.List(s.t.Context(), "echo", func(j *jobs.Job) bool { found = append(found, j.ID); return true }))
	slices.Sort(found)
	assert.Equal(s.t, ids, found)
}

func TestEachTimeOfAScheduleHasOneJobHoweverManyMachinesThereAre(t *testing.T) {
	t.Parallel()
	s, c := newSite(t), newClock()
	for range 3 {
		s.serveWith("echo", clustertest.EchoPipeline, c.option())
	}
	s.schedule(c, jobs.Schedule{Name: "half", Cron: "*/30 * * * *", Input: map[string]any{"n": 1}, Priority: jobs.High, Attempts: 2})
	var want []string
	for i := range 6 {
		at := newYear.Add(time.Duration(i+1) * 30 * time.Minute)
		c.set(at.Add(-time.Second))
		s.hasJobs(want...)
		c.set(at.Add(time.Second))
		found := s.awaitLast("half", at)
		assert.Equal(t, at.Add(30*time.Minute), found.Next.UTC())
		want = append(want, "half-"+at.Format("20060102T150405Z"))
		s.hasJobs(want...)
		ref := jobs.Ref{Pipeline: "echo", ID: want[i]}
		assert.Equal(t, map[string]any{"n": int64(1)}, s.result(ref))
		j := s.await(ref)
		assert.Equal(t, jobs.High, j.Priority)
		assert.Equal(t, 1, j.Begins)
	}
	require.NoError(t, s.RemoveSchedule(t.Context(), "half"))
	require.ErrorIs(t, s.RemoveSchedule(t.Context(), "half"), jobs.ErrNoSchedule)
	s.schedule(c, jobs.Schedule{Name: "other", Cron: "@daily"})
	c.set(newYear.AddDate(0, 0, 1))
	s.awaitLast("other", newYear.AddDate(0, 0, 1))
	s.hasJobs(append(want, "other-20260102T000000Z")...)
}

func TestOfTheTimesThatWereMissedTheLatestHasAJobUnlessTheyAreSkipped(t *testing.T) {
	t.Parallel()
	s, c := newSite(t), newClock()
	s.serve("echo", clustertest.EchoPipeline).Close()
	s.schedule(c, jobs.Schedule{Name: "late", Cron: "*/5 * * * *"})
	s.schedule(c, jobs.Schedule{Name: "skipped", Cron: "*/5 * * * *", SkipMissed: true})
	c.set(newYear.AddDate(3, 0, 0).Add(7 * time.Minute))
	s.serveWith("echo", clustertest.EchoPipeline, c.option())
	last := newYear.AddDate(3, 0, 0).Add(5 * time.Minute)
	s.awaitLast("late", last)
	s.awaitLast("skipped", last)
	s.hasJobs("late-20290101T000500Z")
	c.set(last.Add(5*time.Minute + jobs.MissedAfter))
	s.awaitLast("skipped", last.Add(5*time.Minute))
	s.awaitLast("late", last.Add(5*time.Minute))
	s.hasJobs("late-20290101T000500Z", "late-20290101T001000Z", "skipped-20290101T001000Z")
}

// A machine has died after it has queued the job, and before it has noted the time.
func TestATimeWhoseJobIsQueuedHasNoSecondOne(t *testing.T) {
	t.Parallel()
	s, c := newSite(t), newClock()
	s.serve("echo", clustertest.EchoPipeline).Close()
	s.schedule(c, jobs.Schedule{Name: "daily", Cron: "@daily", Input: "of the schedule"})
	ref := s.submit("echo", "of the machine that died", jobs.WithID("daily-20260102T000000Z"))
	c.set(newYear.AddDate(0, 0, 1))
	s.serveWith("echo", clustertest.EchoPipeline, c.option())
	s.awaitLast("daily", newYear.AddDate(0, 0, 1))
	s.hasJobs(ref.ID)
	assert.Equal(t, "of the machine that died", s.result(ref))
}

func TestTheTimesOfAScheduleAreThoseOfItsZone(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.serve("echo", clustertest.EchoPipeline).Close()
	for i, each := range []struct{ zone, cron, now, next string }{
		{"", "30 9 * * *", "2026-07-01T00:00:00Z", "2026-07-01T09:30:00Z"},
		{"Europe/Berlin", "30 9 * * *", "2026-07-01T00:00:00Z", "2026-07-01T07:30:00Z"},
		{"Europe/Berlin", "30 9 * * *", "2026-12-01T00:00:00Z", "2026-12-01T08:30:00Z"},
		{"Asia/Kolkata", "0 0 * * MON", "2026-07-01T00:00:00Z", "2026-07-05T18:30:00Z"},
		{"Europe/Berlin", "30 2 * * *", "2026-03-28T12:00:00Z", "2026-03-30T00:30:00Z"}, // the hour is skipped
		{"Europe/Berlin", "30 2 * * *", "2026-10-24T12:00:00Z", "2026-10-25T00:30:00Z"}, // and repeated
		{"Europe/Berlin", "30 2 * * *", "2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z"},
		{"UTC", "0 0 29 2 *", "2026-07-01T00:00:00Z", "2028-02-29T00:00:00Z"},
	} {
		now, err := time.Parse(time.RFC3339, each.now)
		require.NoError(t, err)
		c := newClock()
		c.set(now)
		name := string(rune('a' + i))
		s.schedule(c, jobs.Schedule{Name: name, Cron: each.cron, Zone: each.zone})
		found := s.awaitLast(name, time.Time{})
		assert.Equal(t, each.next, found.Next.UTC().Format(time.RFC3339), each)
	}
}

func TestAScheduleThatIsNotValidIsRefused(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.serve("echo", clustertest.EchoPipeline).Close()
	good := jobs.Schedule{Name: "good", Pipeline: "echo", Cron: "@daily"}
	require.NoError(t, s.AddSchedule(t.Context(), good))
	require.ErrorIs(t, s.AddSchedule(t.Context(), good), jobs.ErrScheduleExists)
	for text, change := range map[string]func(*jobs.Schedule){
		"a name has 1 to 100":               func(c *jobs.Schedule) { c.Name = "a b" },
		"expected exactly 5 fields":         func(c *jobs.Schedule) { c.Cron = "* * * *" },
		"above maximum":                     func(c *jobs.Schedule) { c.Cron = "61 * * * *" },
		"it has five fields":                func(c *jobs.Schedule) { c.Cron = "@every 5s" },
		"the zone is not a part of it":      func(c *jobs.Schedule) { c.Cron = "TZ=UTC 0 0 * * *" },
		"unknown time zone Mars/Phobos":     func(c *jobs.Schedule) { c.Zone = "Mars/Phobos" },
		"has no time in the next":           func(c *jobs.Schedule) { c.Cron = "0 0 31 2 *" },
		"a priority is high, normal or low": func(c *jobs.Schedule) { c.Priority = "urgent" },
		"the URL of the webhook":            func(c *jobs.Schedule) { c.Webhook = "example.com" },
		"the input has":                     func(c *jobs.Schedule) { c.Input = strings.Repeat("x", 128<<10) },
		"encode the input":                  func(c *jobs.Schedule) { c.Input = make(chan int) },
		`jobs of a pipeline "other"`:        func(c *jobs.Schedule) { c.Pipeline = "other" },
	} {
		wrong := good
		wrong.Name = "wrong"
		change(&wrong)
		require.ErrorContains(t, s.AddSchedule(t.Context(), wrong), text)
	}
	all, err := s.Schedules(t.Context())
	require.NoError(t, err)
	require.Len(t, all, 1)
	assert.Equal(t, good.Cron, all[0].Cron)
	assert.Equal(t, "UTC", all[0].Zone)
}

func TestASchedulesJobIsSubmittedWhenThePipelineIsResumed(t *testing.T) {
	t.Parallel()
	s, c := newSite(t), newClock()
	s.serveWith("echo", clustertest.EchoPipeline, c.option())
	require.NoError(t, s.Drain(t.Context(), "echo"))
	s.schedule(c, jobs.Schedule{Name: "daily", Cron: "@daily"})
	c.set(newYear.AddDate(0, 0, 1))
	s.serveWith("echo", clustertest.EchoPipeline, c.option())
	require.NoError(t, s.Resume(t.Context(), "echo"))
	c.set(newYear.AddDate(0, 0, 1).Add(time.Minute)) // after the pause of the one that has tried
	s.awaitLast("daily", newYear.AddDate(0, 0, 1))
	s.hasJobs("daily-20260102T000000Z")
}
