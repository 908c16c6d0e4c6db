// Command soak holds gophersnake to what it promises in the long run: nothing lost,
// doubled or out of order, memory that stays flat, nothing left behind, little taken
// by workers that do nothing, and little lost by those that die.
//
//	go run ./scripts/soak chunks     an hour's worth of 20 ms audio chunks
//	go run ./scripts/soak kills      a worker killed every 200 ms, for a minute
//	go run ./scripts/soak idle       what 100 idle workers cost in 30 s
//	go run ./scripts/soak recovery   the time from a kill to the next success
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
	workers := flags.Int("workers", 100, "how many workers are idle")
	settle := flags.Duration("settle", 10*time.Second, "how long they are left alone before it counts")
	span := flags.Duration("over", 30*time.Second, "how long it counts then")
	deaths := flags.Int("deaths", 100, "how many workers are killed, in turn, for each row of the recovery table")
	setups := flags.String("setups", "0s,5s", "how long their setup() takes, for a row each; of those that take long, fewer are killed")
	if len(args) == 0 {
		return fmt.Errorf("which one: %s?", kinds)
	}
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	switch args[0] {
	case "chunks":
		return soakChunks(ctx, *chunks, out)
	case "kills":
		return soakKills(ctx, kills{length: *length, every: *every, seed: *seed}, out)
	case "idle":
		return soakIdle(ctx, idle{workers: *workers, settle: *settle, length: *span}, out)
	case "recovery":
		return soakRecovery(ctx, *setups, *deaths, out)
	}
	return fmt.Errorf("there is no soak %q; there are: %s", args[0], kinds)
}

const kinds = "chunks, kills, idle, recovery"

// errBeyond is wrapped where a figure is not as it should be.
var errBeyond = errors.New("beyond the bound")

// start runs one of the pipelines, and returns it with what ends it.
func start(ctx context.Context, name string, opts ...runner.Option) (*runner.Runner, func() error, error) {
	manifest, err := embedded.ReadFile("python/" + name + ".yaml")
	if err != nil {
		return nil, nil, err
	}
	return startText(ctx, string(manifest), opts...)
}

// startText is start for a pipeline that is written just now, of the same nodes.
func startText(ctx context.Context, manifest string, opts ...runner.Option) (*runner.Runner, func() error, error) {
	folder, remove, err := unpack()
	if err != nil {
		return nil, nil, err
	}
	r, err := open(ctx, folder, manifest, opts)
	if err != nil {
		return nil, nil, errors.Join(err, remove())
	}
	return r, func() error { return errors.Join(r.Close(context.Background()), remove()) }, nil
}

// unpack writes the pipelines and their nodes into a folder of its own.
func unpack() (folder string, remove func() error, err error) {
	if folder, err = os.MkdirTemp("", "soak-"); err != nil {
		return "", nil, err
	}
	remove = func() error { return os.RemoveAll(folder) }
	sources, err := fs.Sub(embedded, "python")
	if err == nil {
		err = os.CopyFS(folder, sources)
	}
	if err != nil {
		return "", nil, errors.Join(err, remove())
	}
	return folder, remove, nil
}

func open(ctx context.Context, folder, manifest string, opts []runner.Option) (*runner.Runner, error) {
	file := filepath.Join(folder, "pipeline.yaml")
	if err := os.WriteFile(file, []byte(manifest), 0o600); err != nil {
		return nil, err
	}
	pipeline, err := runner.Load(file)
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
