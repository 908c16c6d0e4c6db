package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/gophersnake/gophersnake/runner"
)

func newDoctor(a *app) *cobra.Command {
	var format string
	c := &cobra.Command{
		Use:   "doctor",
		Short: "Find out what is there, what is missing, and how to mend it",
		Long: `Find out what this machine has of what gophersnake needs: interpreters, uv, a cache
folder, sockets, limits. Nothing is installed. The exit code is 1 where something
is missing without which pipelines do not run.`,
		Example: "  gophersnake doctor\n  gophersnake doctor --python 3.12 --output json",
		Args:    needs(0, 0, ""),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := outputFormat("output", format, "text", "json"); err != nil {
				return err
			}
			findings, err := runner.Diagnose(c.Context(), a.options()...)
			if err != nil {
				return err
			}
			if format == "json" {
				if err := printJSON(a.out, findings); err != nil {
					return err
				}
			} else {
				a.printFindings(findings)
			}
			if slices.ContainsFunc(findings, func(f runner.Finding) bool { return f.Status == runner.FindingFailure }) {
				return silentError{1}
			}
			return nil
		},
	}
	c.Flags().StringVarP(&format, "output", "o", "text", "text or json")
	return c
}

func (a *app) printFindings(findings []runner.Finding) {
	width := 0
	for _, f := range findings {
		width = max(width, len(f.Name))
	}
	st := a.outStyle
	paint := map[runner.FindingStatus]func(string) string{
		runner.FindingOK: st.green, runner.FindingWarning: st.yellow, runner.FindingFailure: st.red,
	}
	missing := 0
	for _, f := range findings {
		fmt.Fprintf(a.out, "%s  %-*s  %s\n", paint[f.Status](fmt.Sprintf("%-4s", f.Status)), width, f.Name, f.Detail)
		if f.Hint != "" {
			fmt.Fprintf(a.out, "%s%s %s\n", strings.Repeat(" ", width+8), st.cyan("→"), f.Hint)
		}
		if f.Status == runner.FindingFailure {
			missing++
		}
	}
	if missing > 0 {
		fmt.Fprintf(a.out, "\n%s missing.\n", st.red(plural(missing, "thing")+" that pipelines need "+isAre(missing)))
	} else {
		fmt.Fprintf(a.out, "\n%s\n", st.green("All that pipelines need is there."))
	}
}

func isAre(n int) string {
	if n == 1 {
		return "is"
	}
	return "are"
}
