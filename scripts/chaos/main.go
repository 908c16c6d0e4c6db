// Command chaos calls pipelines from many goroutines while faults are injected: workers
// are killed, stopped, crash, hang, flood their output and violate the wire protocol. A
// ledger of all calls shows that each call got exactly one answer, either the right one or
// an error of the right kind; that no non-idempotent call was executed twice; and that no
// resource is left behind.
//
//	go run ./scripts/chaos --seed 1 --time 10m
//	go run ./scripts/chaos --calls 20000 --rate 0.05
//	go run ./scripts/chaos --hostile --time 5m
//	go run ./scripts/chaos --serve --time 2m
//
// The seed determines the payload and the fault of each call, and the order of the signals
// that are sent to workers: with the same seed and --rate, call N is the same call again.
// The timing differs from run to run.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/gophersnake/gophersnake/scripts/chaos/serving"
)

const help = `chaos calls pipelines while faults are injected, and checks the outcome of every call.

    go run ./scripts/chaos --seed 1 --time 10m            calls for ten minutes
    go run ./scripts/chaos --calls 20000 --rate 0.05      20000 calls, many of them with faults
    go run ./scripts/chaos --time 1m --pipelines sync,shared
    go run ./scripts/chaos --time 10m --json > chaos.json
    go run ./scripts/chaos --hostile --time 5m            attacks of a node beside two neighbors
    go run ./scripts/chaos --serve --time 2m              2000 clients of gophersnake serve

With --hostile, a node makes all attacks of python/hostile in random order. It is a violation
if the data of one of its neighbors changes, or is seen by another node, or if a neighbor
fails.

With --serve, many clients make requests to gophersnake serve. Half of them leave in the middle,
while its processes are killed. It is a violation if a request does not get exactly one answer of
the right kind, if not all workers are ready at the end, or if anything is left behind.

It exits with 1 if there is a violation.

`

// errViolations is the error of a run with violations.
var errViolations = errors.New("gophersnake broke a guarantee; see the violations")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	c, err := parse(args, out)
	if err != nil {
		return err
	}
	if runtime.GOOS != "linux" {
		return errors.New("chaos needs /proc, which only Linux has")
	}
	if c.serve {
		return serving.Run(ctx, serving.Config{Seed: c.seed, Length: c.length, Clients: c.clients, Interval: c.interval, JSON: c.json}, out)
	}
	chaos, err := newChaos(c, out)
	if err != nil {
		return err
	}
	report, err := chaos.run(ctx)
	if err != nil {
		return err
	}
	if err := report.write(out, c.json); err != nil {
		return err
	}
	if report.Count > 0 {
		return errViolations
	}
	return nil
}

func parse(args []string, out io.Writer) (config, error) {
	var c config
	var pipelines string
	flags := flag.NewFlagSet("chaos", flag.ContinueOnError)
	flags.SetOutput(out)
	flags.Usage = func() {
		fmt.Fprint(out, help)
		flags.PrintDefaults()
	}
	flags.Uint64Var(&c.seed, "seed", 1, "determines the payloads, the faults and the order of the signals")
	flags.DurationVar(&c.length, "time", 0, "how long to make calls")
	flags.IntVar(&c.calls, "calls", 0, "how many calls to make; instead of --time")
	flags.Float64Var(&c.rate, "rate", 0.004, "the fraction of the calls that have a fault")
	flags.DurationVar(&c.interval, "inject-every", 400*time.Millisecond, "the time between two signals or reloads")
	flags.DurationVar(&c.stuck, "stuck", 5*time.Minute, "how long a call may take before it is reported as stuck")
	flags.StringVar(&pipelines, "pipelines", "", "the pipelines to call, comma-separated (default: all)")
	flags.BoolVar(&c.hostile, "hostile", false, "attack the host and two neighbors, instead of the faults")
	flags.BoolVar(&c.serve, "serve", false, "make requests to gophersnake serve, instead of calls")
	flags.IntVar(&c.clients, "clients", 2000, "with --serve, how many clients there are")
	flags.BoolVar(&c.json, "json", false, "print the report as JSON, and nothing else")
	if err := flags.Parse(args); err != nil {
		return c, err
	}
	if pipelines != "" {
		c.pipelines = strings.Split(pipelines, ",")
	}
	switch {
	case flags.NArg() > 0:
		return c, fmt.Errorf("unexpected argument %q; see --help", flags.Arg(0))
	case c.serve && (c.clients < 1 || c.length <= 0):
		return c, errors.New("--serve takes --time, and --clients from 1")
	case c.length < 0 || c.calls < 0 || (c.length > 0) == (c.calls > 0):
		return c, errors.New("give either --time or --calls, for instance --time 10m")
	case c.rate < 0 || c.rate > 1:
		return c, fmt.Errorf("--rate is %v; it must be between 0 and 1", c.rate)
	case c.interval <= 0 || c.stuck <= 0:
		return c, errors.New("--inject-every and --stuck must be positive")
	}
	return c, nil
}
