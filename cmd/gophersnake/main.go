// Command gophersnake runs pipelines of Python nodes in worker processes.
// `gophersnake help` lists its commands.
//
// A release build sets the version:
//
//	go build -ldflags "-X main.version=1.2.3" ./cmd/gophersnake
package main

import (
	"os"

	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/cli"
)

// version is set by -ldflags; if it is empty, the version is that of the Go module.
var version string

func main() { os.Exit(cli.Main(version)) }
