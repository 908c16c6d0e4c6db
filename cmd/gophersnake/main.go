// Command gophersnake runs pipelines of Python nodes in worker processes.
// `gophersnake help` lists its commands.
package main

import (
	"os"

	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/cli"
)

func main() { os.Exit(cli.Main()) }
