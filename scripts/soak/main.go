// Command soak checks guarantees that need a long run: that nothing is lost, duplicated or
// reordered, that memory does not grow, that nothing is left behind, that idle workers cost
// little, and that the death of a worker delays callers little.
//
//	go run ./scripts/soak chunks     an hour of audio in chunks of 20 ms
//	go run ./scripts/soak kills      a worker killed every 200 ms, for a minute
//	go run ./scripts/soak idle       the cost of 100 idle workers over 30 s
//	go run ./scripts/soak recovery   the time from a kill to the next success
//
// It prints its figures, and fails if one is out of its bounds.
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
	"strings"
	"syscall"
	"time"

	"github.com/gophersnake/gophersnake/runner"
)

//go:embed python
var embedded embed.FS

const help = `soak checks guarantees that need a long run.

    go run ./scripts/soak chunks     an hour of audio in chunks of 20 ms
    go run ./scripts/soak kills      a worker killed every 200 ms, for a minute
    go run ./scripts/soak idle       the cost of 100 idle workers over 30 s
    go run ./scripts/soak recovery   the time from a kill to the next success

It prints its figures, and exits with 1 if one is out of its bounds.

`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "soak:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("soak", flag.ContinueOnError)
	flags.SetOutput(out)
	flags.Usage = func() {
		fmt.Fprint(out, help)
		flags.PrintDefaults()
	}
	chunks := flags.Int("chunks", 180_000, "chunks: how many to send")
	length := flags.Duration("for", time.Minute, "kills: how long workers are killed")
	interval := flags.Duration("every", 200*time.Millisecond, "kills: the time between two kills")
	seed := flags.Uint64("seed", 1, "kills: determines which workers are killed")
	workers := flags.Int("workers", 100, "idle: how many workers to start")
	settle := flags.Duration("settle", 10*time.Second, "idle: how long to wait before the measurement")
	span := flags.Duration("over", 30*time.Second, "idle: how long to measure")
	deaths := flags.Int("deaths", 100, "recovery: how many workers are killed for each row of the table")
	setups := flags.String("setups", "0s,5s", "recovery: how long setup() of the node takes, comma-separated, with rows for each; fewer workers are killed if it is long")
	kind := ""
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		kind, args = args[0], args[1:]
	}
	if err := flags.Parse(args); err != nil {
		return err
	}
	switch kind {
	case "":
		return fmt.Errorf("name a soak, one of: %s", kinds)
	case "chunks":
		return soakChunks(ctx, *chunks, out)
	case "kills":
		return soakKills(ctx, kills{length: *length, interval: *interval, seed: *seed}, out)
	case "idle":
		return soakIdle(ctx, idle{workers: *workers, settle: *settle, length: *span}, out)
	case "recovery":
		return soakRecovery(ctx, *setups, *deaths, out)
	}
	return fmt.Errorf("there is no soak %q; there are: %s", kind, kinds)
}

const kinds = "chunks, kills, idle, recovery"

// errBound is wrapped by the error for a figure that is out of its bounds.
var errBound = errors.New("beyond the bound")

// start starts one of the pipelines. The returned function closes it and removes its files.
func start(ctx context.Context, name string, opts ...runner.Option) (*runner.Runner, func() error, error) {
	manifest, err := embedded.ReadFile("python/" + name + ".yaml")
	if err != nil {
		return nil, nil, err
	}
	return startText(ctx, string(manifest), opts...)
}

// startText is start for a manifest that uses the same nodes.
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

// unpack writes the nodes to a temporary folder, which remove deletes.
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

// open starts the runner of a manifest, which it writes to the folder.
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
