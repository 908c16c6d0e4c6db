package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/failure"
	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/input"
	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/program"
	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/terminal"
	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/cluster/jobs"
)

func newJobsSchedule(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "schedule",
		Short: "Add, list and remove schedules, each time of which has a job",
		Long: `Add, list and remove schedules. The machines that serve the pipeline queue one job for each time
of a schedule, with the id NAME-TIME.

` + program.JobsHelp,
		Example: `  gophersnake jobs schedule add nightly report --cron '30 2 * * *' --input '{"days": 1}'
  gophersnake jobs schedule add monday report --cron '0 9 * * MON' --zone Europe/Berlin
  gophersnake jobs schedule ls
  gophersnake jobs schedule rm nightly`,
		Args: cobra.NoArgs,
	}
	c.AddCommand(newScheduleAdd(a), newScheduleList(a),
		newJobsChange(a, "rm NAME...", "Remove schedules; their jobs stay", "NAME",
			func(ctx context.Context, s *jobs.Store, name string) error { return s.RemoveSchedule(ctx, name) }))
	return c
}

func newScheduleAdd(a *app) *cobra.Command {
	var client program.JobsClient
	var schedule jobs.Schedule
	var inputs []string
	var priority string
	c := &cobra.Command{
		Use:   "add NAME PIPELINE [INPUT]",
		Short: "Add a schedule",
		Long: `Add a schedule. An expression has five fields: minute, hour, day of the month, month and day of
the week; or it is @hourly, @daily, @weekly, @monthly or @yearly. All jobs have the input as it is now.

If no machine was there at some times, the latest of them has a job as soon as there is one; with
--skip-missed it has none after a minute.

` + program.JobsHelp + "\n\n" + input.Help,
		Args: program.ArgumentCount(2, 3, "NAME and PIPELINE"),
		RunE: func(c *cobra.Command, args []string) error {
			if err := checkPriority(priority); err != nil {
				return err
			}
			if schedule.Attempts < 1 {
				return failure.Usagef("--attempts takes a number from 1, not %d", schedule.Attempts)
			}
			schedule.Name, schedule.Priority = args[0], jobs.Priority(priority)
			return a.addSchedule(c.Context(), &client, schedule, args[1], append(inputs, args[2:]...))
		},
	}
	f := c.Flags()
	f.StringVar(&schedule.Cron, "cron", "", "the times, an `EXPRESSION` such as '30 9 * * MON-FRI'")
	f.StringVar(&schedule.Zone, "zone", "UTC", "the time `ZONE` of the expression, such as Europe/Berlin")
	f.StringArrayVarP(&inputs, "input", "i", nil, "the input of the jobs")
	f.StringVar(&priority, "priority", string(jobs.Normal), "high, normal or low")
	f.IntVar(&schedule.Attempts, "attempts", 1, "how often a run is made that fails with a retryable error")
	f.StringVar(&schedule.Webhook, "webhook", "", "a `URL` to which a machine posts each job when it has ended")
	f.BoolVar(&schedule.SkipMissed, "skip-missed", false, "queue no job for a time at which no machine was there")
	_ = c.MarkFlagRequired("cron")
	client.Add(c)
	return c
}

// addSchedule is the command jobs schedule add without the parsing of flags.
func (a *app) addSchedule(ctx context.Context, client *program.JobsClient, schedule jobs.Schedule, pipeline string, arguments []string) error {
	inputs, err := input.Resolve(a.In, a.Logger.Warn, arguments)
	if err != nil {
		return err
	}
	if len(inputs.Sources) != 1 {
		return failure.Usagef("a schedule has one input, but there are %s", terminal.Plural(len(inputs.Sources), "input"))
	}
	if schedule.Pipeline, err = a.servedAs(pipeline); err != nil {
		return err
	}
	if schedule.Input, err = inputs.Sources[0].Load(ctx); err != nil {
		return input.Named(inputs.Sources[0].Name, err)
	}
	store, conn, err := client.Open(ctx, a.App)
	if err != nil {
		return err
	}
	defer conn.Close()
	return store.AddSchedule(ctx, schedule)
}

// scheduleDocument is a schedule as JSON.
type scheduleDocument struct {
	Name       string        `json:"name"`
	Pipeline   string        `json:"pipeline"`
	Cron       string        `json:"cron"`
	Zone       string        `json:"zone"`
	Priority   jobs.Priority `json:"priority"`
	Attempts   int           `json:"attempts"`
	Webhook    string        `json:"webhook,omitempty"`
	SkipMissed bool          `json:"skip_missed,omitempty"`
	Created    time.Time     `json:"created"`
	Last       time.Time     `json:"last,omitzero"`
	Next       time.Time     `json:"next,omitzero"`
}

func newScheduleList(a *app) *cobra.Command {
	var client program.JobsClient
	var format string
	c := &cobra.Command{
		Use: "ls", Short: "List schedules", Long: "List all schedules.\n\n" + program.JobsHelp,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := failure.CheckChoice("output", format, "text", "json"); err != nil {
				return err
			}
			store, conn, err := client.Open(c.Context(), a.App)
			if err != nil {
				return err
			}
			defer conn.Close()
			all, err := store.Schedules(c.Context())
			if err != nil {
				return err
			}
			return a.printSchedules(all, format)
		},
	}
	program.AddOutputFlag(c, &format)
	client.Add(c)
	return c
}

// printSchedules prints schedules: in JSON, one in each line.
func (a *app) printSchedules(all []*jobs.Schedule, format string) error {
	encoder := json.NewEncoder(a.Out)
	table := tabwriter.NewWriter(a.Out, 0, 0, 2, ' ', 0)
	if format == "text" {
		_, _ = fmt.Fprintln(table, "NAME\tPIPELINE\tCRON\tZONE\tLAST\tNEXT")
	}
	for _, s := range all {
		var err error
		if format == "json" {
			err = encoder.Encode(scheduleDocument{
				Name: s.Name, Pipeline: s.Pipeline, Cron: s.Cron, Zone: s.Zone, Priority: s.Priority, Attempts: s.Attempts, Webhook: s.Webhook,
				SkipMissed: s.SkipMissed, Created: s.Created, Last: s.Last, Next: s.Next,
			})
		} else {
			_, err = fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\n", s.Name, runner.PrintableLine(s.Pipeline), runner.PrintableLine(s.Cron),
				runner.PrintableLine(s.Zone), moment(s.Last), moment(s.Next))
		}
		if err != nil {
			return err
		}
	}
	return table.Flush()
}

// moment returns a time in the zone of this machine, - if there is none.
func moment(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.Local().Format(time.DateTime)
}
