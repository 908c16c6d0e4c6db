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
	"path/filepath"
	"runtime"
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

// liveHeap is what the program keeps on its heap, as a service would: with an empty
// one, Go's collector would run every few calls of some MiB.
const liveHeap = 64 << 20

// settings are what the flags say.
type settings struct {
	python        string
	rounds, calls int
	sections      []section
	peers         []contender
	payloads      []payload
	json          string
	plots         []string
	check         bool
}

func parse(args []string, messages io.Writer) (settings, error) {
	var s settings
	var parts, peers, loads string
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(messages)
	flags.StringVar(&s.python, "python", "", "the interpreter of all peers: a path, a command or a version (default: as the runner finds it)")
	flags.IntVar(&s.rounds, "rounds", 20, "how many turns each peer takes")
	flags.IntVar(&s.calls, "calls", 200, "how many calls a turn is, fewer of large payloads")
	flags.StringVar(&parts, "sections", "", "the sections of the report, comma-separated (default: all)")
	flags.StringVar(&peers, "peers", "", "the peers to measure, comma-separated (default: all)")
	flags.StringVar(&loads, "payloads", "", "the payloads to measure with, comma-separated (default: all)")
	flags.StringVar(&s.json, "json", "", "write the figures into this file, too")
	flags.Func("plot", "draw the calls into this file, .svg or .png; may be given again", func(path string) error {
		if ext := filepath.Ext(path); ext != ".svg" && ext != ".png" {
			return fmt.Errorf("it ends in %q, not in .svg or .png", ext)
		}
		s.plots = append(s.plots, path)
		return nil
	})
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
	if s.sections, err = choose("section", sections, func(s section) string { return s.name }, parts); err != nil {
		return s, err
	}
	if s.peers, err = choose("peer", contenders, func(c contender) string { return c.name }, peers); err != nil {
		return s, err
	}
	s.payloads, err = choose("payload", payloads, func(p payload) string { return p.name }, loads)
	return s, err
}

func run(ctx context.Context, args []string, out, messages io.Writer) (err error) {
	if len(args) > 0 && args[0] == driveCommand {
		return drive(ctx, args[1:])
	}
	s, err := parse(args, messages)
	if err != nil {
		return err
	}
	h, err := newHost(ctx, s.python)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.close()) }()

	heap := make([]byte, liveHeap)
	defer runtime.KeepAlive(heap)
	b := &bench{settings: s, host: h, report: newReport(h.python.Version, s), messages: messages}
	if err := b.measure(ctx); err != nil {
		return err
	}
	if err := b.report.markdown(out); err != nil {
		return err
	}
	if s.json != "" {
		if err := b.report.save(s.json); err != nil {
			return err
		}
	}
	if err := b.plot(ctx); err != nil {
		return err
	}
	if s.check {
		return b.report.check()
	}
	return nil
}
