package program

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/pyworker"
)

// Build describes the build of this program.
type Build struct {
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"`
	Modified bool   `json:"modified,omitempty"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
	Protocol int    `json:"protocol"`
}

// ReadVersion returns the version of this program, which is that of the Python package in it.
func ReadVersion() Build {
	v := Build{Version: pyworker.Version(), Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH, Protocol: ipc.Version}
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
func (v Build) String() string {
	return fmt.Sprintf("gophersnake %s, protocol %d, %s, %s", v.Version, v.Protocol, v.Go, v.Platform)
}
