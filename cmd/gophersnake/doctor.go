package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
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
			checks := a.examine(c.Context())
			if format == "json" {
				if err := printJSON(a.out, checks); err != nil {
					return err
				}
			} else {
				a.printChecks(checks)
			}
			if slices.ContainsFunc(checks, func(c check) bool { return c.Status == statusFail }) {
				return silentError{1}
			}
			return nil
		},
	}
	c.Flags().StringVarP(&format, "output", "o", "text", "text or json")
	return c
}

// The findings of a check.
const (
	statusOK   = "ok"
	statusWarn = "warn"
	statusFail = "fail"
)

// check is one thing that was looked at.
type check struct {
	Name   string `json:"name"`
	Status string `json:"status"`
	Detail string `json:"detail"`
	Hint   string `json:"hint,omitempty"`
}

func (c check) found(status, format string, args ...any) check {
	c.Status, c.Detail = status, fmt.Sprintf(format, args...)
	return c
}

func (c check) ok(format string, args ...any) check   { return c.found(statusOK, format, args...) }
func (c check) warn(format string, args ...any) check { return c.found(statusWarn, format, args...) }
func (c check) fail(format string, args ...any) check { return c.found(statusFail, format, args...) }

// mend adds what to do about it.
func (c check) mend(hint string) check {
	c.Hint = hint
	return c
}

func (a *app) printChecks(checks []check) {
	width := 0
	for _, c := range checks {
		width = max(width, len(c.Name))
	}
	st := a.outStyle
	paint := map[string]func(string) string{statusOK: st.green, statusWarn: st.yellow, statusFail: st.red}
	missing := 0
	for _, c := range checks {
		fmt.Fprintf(a.out, "%s  %-*s  %s\n", paint[c.Status](fmt.Sprintf("%-4s", c.Status)), width, c.Name, c.Detail)
		if c.Hint != "" {
			fmt.Fprintf(a.out, "%s%s %s\n", strings.Repeat(" ", width+8), st.cyan("→"), c.Hint)
		}
		if c.Status == statusFail {
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
