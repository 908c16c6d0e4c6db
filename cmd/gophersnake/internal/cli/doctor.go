package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/failure"
	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/output"
	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/terminal"
	"github.com/gophersnake/gophersnake/runner"
)

func newDoctor(a *app) *cobra.Command {
	var format string
	c := &cobra.Command{
		Use:   "doctor",
		Short: "Check this machine for problems and say how to fix them",
		Long: `Check whether this machine has what gophersnake needs: interpreters, uv, a cache folder,
sockets and limits. Nothing is installed. Exit code 1 means that pipelines do not run on
this machine.`,
		Example: "  gophersnake doctor\n  gophersnake doctor --python 3.12 --output json",
		Args:    argumentCount(0, 0, ""),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := failure.CheckChoice("output", format, "text", "json"); err != nil {
				return err
			}
			findings, err := runner.Diagnose(c.Context(), a.options()...)
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
				err = output.PrintJSON(a.out, findings)
			} else {
				a.printFindings(findings, failed)
			}
			if err == nil && failed > 0 {
				return failure.Silent{Code: 1}
			}
			return err
		},
	}
	addOutputFlag(c, &format)
	return c
}

// printFindings prints one line for each finding, its hint, and a summary.
func (a *app) printFindings(findings []runner.Finding, failed int) {
	width := 0
	for _, f := range findings {
		width = max(width, len(f.Name))
	}
	paint := map[runner.FindingStatus]func(string) string{
		runner.FindingOK: a.style.Green, runner.FindingWarning: a.style.Yellow, runner.FindingFailure: a.style.Red,
	}
	for _, f := range findings {
		fmt.Fprintf(a.out, "%s  %-*s  %s\n", paint[f.Status](fmt.Sprintf("%-4s", f.Status)), width, f.Name, runner.PrintableLine(f.Detail))
		if f.Hint != "" {
			fmt.Fprintf(a.out, "%s%s %s\n", strings.Repeat(" ", width+8), a.style.Cyan("→"), f.Hint)
		}
	}
	if failed > 0 {
		fmt.Fprintf(a.out, "\n%s: pipelines do not run on this machine.\n", a.style.Red(terminal.Plural(failed, "check")+" failed"))
	} else {
		fmt.Fprintf(a.out, "\n%s\n", a.style.Green("Pipelines can run on this machine."))
	}
}
