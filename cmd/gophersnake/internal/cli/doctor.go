package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/failure"
	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/output"
	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/program"
	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/terminal"
	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/cluster"
)

func newDoctor(a *app) *cobra.Command {
	var format string
	var nats program.NATSFlags
	c := &cobra.Command{
		Use:   "doctor",
		Short: "Check this machine for problems and say how to fix them",
		Long: `Check whether this machine has what gophersnake needs: interpreters, uv, a cache folder,
sockets and limits. Nothing is installed. Exit code 1 means that pipelines do not run on
this machine.

--nats checks NATS servers instead: the connection, how long a message takes, JetStream and when
it syncs, and what the user may do. It lists the machines that serve pipelines, with their
versions, schemas and clocks. Exit code 1 means that there is no connection.

` + program.NATSHelp,
		Example: "  gophersnake doctor\n  gophersnake doctor --python 3.12 --output json\n  gophersnake doctor --nats tls://a:4222 --nats-creds machine.creds",
		Args:    program.ArgumentCount(0, 0, ""),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := failure.CheckChoice("output", format, "text", "json"); err != nil {
				return err
			}
			findings, err := a.diagnose(c.Context(), &nats)
			if err != nil {
				return err
			}
			failed := 0
			for _, f := range findings {
				if f.Status == runner.FindingFailure {
					failed++
				}
			}
			if format == "json" {
				err = output.PrintJSON(a.Out, findings)
			} else {
				a.printFindings(findings, failed, len(nats.URLs) > 0)
			}
			if err == nil && failed > 0 {
				return failure.Silent{Code: 1}
			}
			return err
		},
	}
	program.AddOutputFlag(c, &format)
	nats.Add(c, "check these servers instead")
	return c
}

// diagnose checks the machine or, if the flags name them, NATS servers.
func (a *app) diagnose(ctx context.Context, nats *program.NATSFlags) ([]runner.Finding, error) {
	if err := nats.Check(); err != nil {
		return nil, err
	}
	if len(nats.URLs) == 0 {
		return runner.Diagnose(ctx, a.Options()...)
	}
	config, err := a.NATSConfig(nats, "gophersnake doctor")
	if err != nil {
		return nil, err
	}
	config.Logger = nil // the findings say it
	return cluster.Diagnose(ctx, config), nil
}

// printFindings prints one line for each finding, its hint, and a summary.
func (a *app) printFindings(findings []runner.Finding, failed int, ofNATS bool) {
	width := 0
	for _, f := range findings {
		width = max(width, len(f.Name))
	}
	paint := map[runner.FindingStatus]func(string) string{
		runner.FindingOK: a.Style.Green, runner.FindingWarning: a.Style.Yellow, runner.FindingFailure: a.Style.Red,
	}
	for _, f := range findings {
		fmt.Fprintf(a.Out, "%s  %-*s  %s\n", paint[f.Status](fmt.Sprintf("%-4s", f.Status)), width, f.Name, runner.PrintableLine(f.Detail))
		if f.Hint != "" {
			fmt.Fprintf(a.Out, "%s%s %s\n", strings.Repeat(" ", width+8), a.Style.Cyan("→"), f.Hint)
		}
	}
	switch {
	case failed > 0 && ofNATS:
		fmt.Fprintf(a.Out, "\n%s: machines cannot call each other.\n", a.Style.Red(terminal.Plural(failed, "check")+" failed"))
	case ofNATS:
		fmt.Fprintf(a.Out, "\n%s\n", a.Style.Green("Machines can call each other."))
	case failed > 0:
		fmt.Fprintf(a.Out, "\n%s: pipelines do not run on this machine.\n", a.Style.Red(terminal.Plural(failed, "check")+" failed"))
	default:
		fmt.Fprintf(a.Out, "\n%s\n", a.Style.Green("Pipelines can run on this machine."))
	}
}
