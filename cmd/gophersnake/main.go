// Command gophersnake runs pipelines whose nodes are Python code in processes of
// their own. Its commands are thin: they read flags and print, and leave the work
// to package runner. `gophersnake help` lists them.
package main

import (
	"context"
	"os"
)

func main() {
	ctx, stop := withSignals(context.Background())
	code := newApp(os.Stdin, os.Stdout, os.Stderr).run(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}
