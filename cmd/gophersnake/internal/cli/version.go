package cli

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/gophersnake/gophersnake/ipc"
)

// buildVersion is what this program was built of.
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
		Use:     "version",
		Short:   "Print the version",
		Long:    "Print the version, what it was built of, and the version of the worker protocol.",
		Example: "  gophersnake version\n  gophersnake version --output json",
		Args:    needs(0, 0, ""),
		RunE: func(*cobra.Command, []string) error {
			if err := outputFormat("output", format, "text", "json"); err != nil {
				return err
			}
			v := readVersion(a.version)
			if format == "json" {
				return printJSON(a.out, v)
			}
			_, err := fmt.Fprintln(a.out, v)
			return err
		},
	}
	c.Flags().StringVarP(&format, "output", "o", "text", "text or json")
	return c
}

func readVersion(version string) buildVersion {
	v := buildVersion{Version: version, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH, Protocol: ipc.Version}
	if info, ok := debug.ReadBuildInfo(); ok {
		v.Version = orDefault(v.Version, info.Main.Version)
		for _, s := range info.Settings {
			switch s.Key {
			case "vcs.revision":
				v.Revision = s.Value
			case "vcs.modified":
				v.Modified = s.Value == "true"
			}
		}
	}
	v.Version = orDefault(v.Version, "(devel)")
	return v
}

// String is the version in a line.
func (v buildVersion) String() string {
	return fmt.Sprintf("gophersnake %s, protocol %d, %s, %s", v.Version, v.Protocol, v.Go, v.Platform)
}
