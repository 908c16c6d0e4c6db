// Command chaos calls pipelines from many goroutines while all goes wrong that can:
// workers are killed, stopped and crash, hang, flood their output, lie on the wire.
// A ledger of all calls proves that each got one answer, and the right one, or an
// error of the right kind; that nothing was carried out twice that must not be; and
// that nothing is left behind.
//
//	go run ./scripts/chaos --seed 1 --time 10m
//	go run ./scripts/chaos --calls 20000 --rate 0.05
//
// The seed decides what each call carries, what goes wrong with it, and which signals
// workers are sent in which order: with the same seed and --rate, call N is the same
// call again. When things happen is the machine's doing and cannot be had again.
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
)

const help = `chaos calls pipelines while all goes wrong that can, and proves that no call suffers from it.

    go run ./scripts/chaos --seed 1 --time 10m            for ten minutes
    go run ./scripts/chaos --calls 20000 --rate 0.05      many faults, for some calls
    go run ./scripts/chaos --time 1m --pipelines sync,shared
    go run ./scripts/chaos --time 10m --json > chaos.json

It exits with 1 where something is not as it should be.

`

// errViolations is the error of a run in which something was not as it should be.
var errViolations = errors.New("gophersnake did not keep what it promises; see the violations")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:], os.Stdout)
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
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
		return errors.New("it looks into /proc, which only Linux has")
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
	var lanes string
	flags := flag.NewFlagSet("chaos", flag.ContinueOnError)
	flags.SetOutput(out)
	flags.Usage = func() {
		fmt.Fprint(out, help)
		flags.PrintDefaults()
	}
	flags.Uint64Var(&c.seed, "seed", 1, "decides what goes wrong with which call")
	flags.DurationVar(&c.length, "time", 0, "how long calls are made")
	flags.IntVar(&c.calls, "calls", 0, "or how many calls are made")
	flags.Float64Var(&c.rate, "rate", 0.004, "the part of the calls that have a fault")
	flags.DurationVar(&c.strike, "strike", 400*time.Millisecond, "the time between two signals to workers")
	flags.DurationVar(&c.stuck, "stuck", 5*time.Minute, "how long a call may take before it counts as lost")
	flags.StringVar(&lanes, "pipelines", "", "some of the pipelines only, separated by commas")
	flags.BoolVar(&c.json, "json", false, "print the report as JSON, and nothing else")
	if err := flags.Parse(args); err != nil {
		return c, err
	}
	if lanes != "" {
		c.lanes = strings.Split(lanes, ",")
	}
	switch {
	case flags.NArg() > 0:
		return c, fmt.Errorf("what is %q? All is said by flags; see --help", flags.Arg(0))
	case c.length < 0 || c.calls < 0 || (c.length > 0) == (c.calls > 0):
		return c, errors.New("how much: --time 10m, or --calls 20000?")
	case c.rate < 0 || c.rate > 1:
		return c, fmt.Errorf("--rate is a part of the calls, between 0 and 1, not %v", c.rate)
	case c.strike <= 0 || c.stuck <= 0:
		return c, errors.New("--strike and --stuck must be positive")
	}
	return c, nil
}
