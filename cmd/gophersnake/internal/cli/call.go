package cli

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/failure"
	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/input"
	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/output"
	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/program"
	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/terminal"
	"github.com/gophersnake/gophersnake/runner/cluster"
)

type callFlags struct {
	inputs    []string
	output    string
	outputDir string
	node      string
	schema    string
	jobs      int
	timeout   time.Duration
	failFast  bool
	nats      program.NATSFlags
}

func newCall(a *app) *cobra.Command {
	var flags callFlags
	c := &cobra.Command{
		Use:   "call NAME [INPUT...] --nats URL",
		Short: "Call a pipeline that other machines serve",
		Long: `Call a pipeline that other machines serve with gophersnake serve --nats. NAME is the name under
which they serve it; neither its manifest nor its code is needed here. Each input goes to a
machine with a free worker. A call whose machine dies is made again on another one, unless a
node is not idempotent. Inputs, results, errors and exit codes are those of gophersnake run.

` + input.Help + "\n\n" + output.Help + "\n\n" + program.NATSHelp,
		Example: `  gophersnake call speech talk.wav --nats nats://a:4222,nats://b:4222
  gophersnake call speech 'clips/*.wav' --nats tls://a:4222 --nats-creds caller.creds --output jsonl
  gophersnake call speech --node transcribe --input talk.wav --nats nats://a:4222`,
		Args: program.ArgumentCount(1, -1, "NAME"),
		RunE: func(c *cobra.Command, args []string) error {
			flags.inputs = append(flags.inputs, args[1:]...)
			return a.callPipeline(c.Context(), args[0], flags)
		},
	}
	f := c.Flags()
	f.StringArrayVarP(&flags.inputs, "input", "i", nil, "an input; can be repeated")
	f.StringVarP(&flags.output, "output", "o", "", "pretty, json, jsonl or a file")
	f.StringVar(&flags.outputDir, "output-dir", "", "folder for media files (default: that of the output file, or else the current folder)")
	f.StringVar(&flags.node, "node", "", "call only the node with this `ID`")
	f.StringVar(&flags.schema, "schema", "", "call only machines whose pipeline has this `DIGEST`, as gophersnake doctor --nats shows it")
	f.IntVarP(&flags.jobs, "jobs", "j", 0, "number of inputs to process at the same time (default: what the machines take at once)")
	f.Var((*program.TimeSpan)(&flags.timeout), "timeout", "end the command after this `time`: 90s, 5m, or a number of seconds; the exit code is 124")
	f.BoolVar(&flags.failFast, "fail-fast", false, "stop at the first input that fails")
	flags.nats.Add(c, "call machines that are connected to these servers")
	return c
}

// callPipeline is the command call without the parsing of flags.
func (a *app) callPipeline(ctx context.Context, name string, flags callFlags) error {
	a.JSONErrors = a.JSONErrors || output.IsJSON(flags.output) && !terminal.Is(a.Err)
	if flags.jobs < 0 {
		return failure.Usagef("--jobs takes a number from 1, not %d", flags.jobs)
	}
	if len(flags.nats.URLs) == 0 {
		return failure.Usagef("--nats URL is missing: the servers that the machines are connected to")
	}
	inputs, err := input.Resolve(a.In, a.Logger.Warn, flags.inputs)
	if err != nil {
		return err
	}
	out, err := a.NewOutput(flags.output, flags.outputDir, "", inputs)
	if err != nil {
		return err
	}
	defer out.Discard()
	ctx, cancel := program.WithTimeout(ctx, flags.timeout)
	defer cancel()
	conn, err := a.ConnectNATS(ctx, &flags.nats, "gophersnake call")
	if err != nil {
		return err
	}
	defer conn.Close()
	var opts []cluster.DialOption
	if flags.schema != "" {
		opts = append(opts, cluster.WithSchema(flags.schema))
	}
	client, err := cluster.Dial(ctx, conn, name, opts...)
	if err != nil {
		return failure.Cause(ctx, err)
	}
	defer client.Close()
	j := &program.Job{App: a.App, Inputs: inputs, Out: out, Jobs: flags.jobs, FailFast: flags.failFast, Display: a.NewDisplay(nil, len(inputs.Sources))}
	defer j.Display.Close()
	if j.Jobs == 0 {
		j.Jobs = slotsOf(client)
	}
	run := client.Run
	if flags.node != "" {
		run = client.Node(flags.node).Call
	}
	ran, err := j.RunAll(ctx, run)
	if ran {
		j.PrintTotals()
	}
	return err
}

// slotsOf returns how many runs the machines take at once.
func slotsOf(client *cluster.Client) int {
	slots := 0
	for _, m := range client.Machines() {
		slots += m.Slots
	}
	return min(max(slots, 1), mostCalls)
}

// mostCalls bounds the calls that the command makes at once by itself.
const mostCalls = 256
