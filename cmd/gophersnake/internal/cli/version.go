package cli

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/failure"
	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/output"
	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/pyworker"
)

// buildVersion describes the build of this program.
type buildVersion struct {
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"`
	Modified bool   `json:"modified,omitempty"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
	Protocol int    `json:"protocol"`
}

func newVersion(a *app) *cobra.Command {
	var format string
	c := &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Long: `Print the version of gophersnake, the version of the protocol between the command and
its workers, the version of Go, and the platform. With --output json, also the revision
of the source code.`,
		Example: "  gophersnake version\n  gophersnake version --output json",
		Args:    argumentCount(0, 0, ""),
		RunE: func(*cobra.Command, []string) error {
			if err := failure.CheckChoice("output", format, "text", "json"); err != nil {
				return err
			}
			v := readVersion()
			if format == "json" {
				return output.PrintJSON(a.out, v)
			}
			_, err := fmt.Fprintln(a.out, v)
			return err
		},
	}
	addOutputFlag(c, &format)
	return c
}

// readVersion returns the version of this program, which is that of the Python package in it.
func readVersion() buildVersion {
	v := buildVersion{Version: pyworker.Version(), Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH, Protocol: ipc.Version}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			switch s.Key {
			case "vcs.revision":
				v.Revision = s.Value
			case "vcs.modified":
				v.Modified = s.Value == "true"
			}
		}
	}
	return v
}

// String returns the version as one line.
func (v buildVersion) String() string {
	return fmt.Sprintf("gophersnake %s, protocol %d, %s, %s", v.Version, v.Protocol, v.Go, v.Platform)
}
