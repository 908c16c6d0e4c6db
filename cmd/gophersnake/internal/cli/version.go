package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/failure"
	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/output"
	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/program"
)

func newVersion(a *app) *cobra.Command {
	var format string
	c := &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Long: `Print the version of gophersnake, the version of the protocol between the command and
its workers, the version of Go, and the platform. With --output json, also the revision
of the source code.`,
		Example: "  gophersnake version\n  gophersnake version --output json",
		Args:    program.ArgumentCount(0, 0, ""),
		RunE: func(*cobra.Command, []string) error {
			if err := failure.CheckChoice("output", format, "text", "json"); err != nil {
				return err
			}
			v := program.ReadVersion()
			if format == "json" {
				return output.PrintJSON(a.Out, v)
			}
			_, err := fmt.Fprintln(a.Out, v)
			return err
		},
	}
	program.AddOutputFlag(c, &format)
	return c
}
