// Command bench measures a call through gophersnake against other ways to call
// Python, all in one run and on the same values. See README.md beside it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the program at once
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// settings are what the flags say.
type settings struct {
	python        string
	rounds, calls int
	peers         []contender
	payloads      []payload
	json          string
	skipMissing   bool
	check         bool
}

func parse(args []string, messages io.Writer) (settings, error) {
	var s settings
	var peers, loads string
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(messages)
	flags.StringVar(&s.python, "python", "", "the interpreter of all peers: a path, a command or a version (default: as the runner finds it)")
	flags.IntVar(&s.rounds, "rounds", 20, "how many turns each peer takes")
	flags.IntVar(&s.calls, "calls", 200, "how many calls a turn is")
	flags.StringVar(&peers, "peers", "", "the peers to measure, comma-separated (default: all)")
	flags.StringVar(&loads, "payloads", "", "the payloads to measure with, comma-separated (default: all)")
	flags.StringVar(&s.json, "json", "", "write the figures into this file, too")
	flags.BoolVar(&s.skipMissing, "skip-missing", false, "go on without the peers that cannot be set up")
	flags.BoolVar(&s.check, "check", false, "fail where the figures are not as expected")
	if err := flags.Parse(args); err != nil {
		return s, err
	}
	if flags.NArg() > 0 {
		return s, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	if s.rounds < 1 || s.calls < 1 {
		return s, errors.New("--rounds and --calls are at least 1")
	}
	var err error
	if s.peers, err = choose("peer", contenders, func(c contender) string { return c.name }, peers); err != nil {
		return s, err
	}
	s.payloads, err = choose("payload", payloads, func(p payload) string { return p.name }, loads)
	return s, err
}

func run(ctx context.Context, args []string, out, messages io.Writer) (err error) {
	s, err := parse(args, messages)
	if err != nil {
		return err
	}
	h, err := newHost(ctx, s.python)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.close()) }()

	peers, err := setUp(ctx, h, s, messages)
	defer func() { err = errors.Join(err, closeAll(peers)) }()
	if err != nil {
		return err
	}
	report := newReport(h.python.Version.String(), s.rounds, s.calls)
	for _, load := range s.payloads {
		_, _ = fmt.Fprintf(messages, "measuring %s: %d rounds of %d calls\n", load.name, s.rounds, s.calls)
		all, err := measurePayload(ctx, peers, load, s.rounds, s.calls)
		if err != nil {
			return err
		}
		report.add(all)
	}
	if err := report.markdown(out); err != nil {
		return err
	}
	if s.json != "" {
		if err := report.save(s.json); err != nil {
			return err
		}
	}
	if s.check {
		return report.check()
	}
	return nil
}

// setUp sets the peers up one after the other. With an error, it returns those
// that are running all the same, so that they can be closed.
func setUp(ctx context.Context, h *host, s settings, messages io.Writer) ([]running, error) {
	var peers []running
	for _, c := range s.peers {
		_, _ = fmt.Fprintf(messages, "setting up %s\n", c.name)
		p, err := c.setUp(ctx, h)
		switch {
		case ctx.Err() != nil:
			if err == nil {
				peers = append(peers, running{c, p})
			}
			return peers, context.Cause(ctx)
		case err == nil:
			peers = append(peers, running{c, p})
		case s.skipMissing:
			_, _ = fmt.Fprintf(messages, "skipping %s: it cannot be set up: %v\n", c.name, err)
		default:
			return peers, fmt.Errorf("peer %s cannot be set up: %w\n(--skip-missing goes on without it)", c.name, err)
		}
	}
	if len(peers) == 0 {
		return nil, errors.New("no peer could be set up")
	}
	return peers, nil
}

func closeAll(peers []running) error {
	var faults []error
	for _, p := range peers {
		faults = append(faults, p.close())
	}
	return errors.Join(faults...)
}
