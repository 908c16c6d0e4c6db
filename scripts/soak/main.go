// Command soak runs streams for long, and holds gophersnake to what it promises of
// them: nothing lost, doubled or out of order, memory that stays flat, and nothing
// left behind.
//
//	go run ./scripts/soak chunks   an hour's worth of 20 ms audio chunks
//	go run ./scripts/soak kills    a worker killed every 200 ms, for a minute
//
// It prints its figures, and fails where one is not as it should be.
package main

import (
	"context"
	"embed"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/gophersnake/gophersnake/runner"
)

//go:embed python
var embedded embed.FS

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("soak", flag.ContinueOnError)
	chunks := flags.Int("chunks", 180_000, "how many chunks of 20 ms")
	length := flags.Duration("for", time.Minute, "how long workers are killed")
	every := flags.Duration("every", 200*time.Millisecond, "the time between two kills")
	seed := flags.Uint64("seed", 1, "chooses which workers are killed")
	if len(args) == 0 {
		return errors.New("which one: chunks or kills?")
	}
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	switch args[0] {
	case "chunks":
		return soakChunks(ctx, *chunks, out)
	case "kills":
		return soakKills(ctx, kills{length: *length, every: *every, seed: *seed}, out)
	}
	return fmt.Errorf("there is no soak %q; there are: chunks, kills", args[0])
}

// start runs one of the pipelines, and returns it with what ends it.
func start(ctx context.Context, name string, opts ...runner.Option) (*runner.Runner, func() error, error) {
	folder, err := os.MkdirTemp("", "soak-")
	if err != nil {
		return nil, nil, err
	}
	r, err := startIn(ctx, folder, name, opts)
	if err != nil {
		return nil, nil, errors.Join(err, os.RemoveAll(folder))
	}
	return r, func() error {
		return errors.Join(r.Close(context.Background()), os.RemoveAll(folder))
	}, nil
}

func startIn(ctx context.Context, folder, name string, opts []runner.Option) (*runner.Runner, error) {
	sources, err := fs.Sub(embedded, "python")
	if err != nil {
		return nil, err
	}
	if err := os.CopyFS(folder, sources); err != nil {
		return nil, err
	}
	pipeline, err := runner.Load(filepath.Join(folder, name+".yaml"))
	if err != nil {
		return nil, err
	}
	r, err := runner.New(pipeline, opts...)
	if err != nil {
		return nil, err
	}
	if err := r.Start(ctx); err != nil {
		return nil, errors.Join(err, r.Close(ctx))
	}
	return r, nil
}
