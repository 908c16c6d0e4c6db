// Command bench compares a call through gophersnake with other ways to call Python, in one
// run and with the same values. See README.md in this folder.
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
	"strings"
	"syscall"

	"github.com/gophersnake/gophersnake/scripts/bench/distributed"
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

// liveHeap is the size of the live heap during the run. A service has such a heap; with an
// empty one, Go's garbage collector would run every few calls of some MiB.
const liveHeap = 64 << 20

// settings are the values of the flags.
type settings struct {
	python        string
	rounds, calls int
	sections      []section
	peers         []peerSpec
	httpPeers     []httpPeer
	queues        []distributed.Queue
	parts         []distributed.Part
	payloads      []payload
	json          string
	plots         []string
	check         bool
}

// parse reads the flags. Usage and errors of the flags are written to messages.
func parse(args []string, messages io.Writer) (settings, error) {
	var s settings
	var names, parts, peers, loads, servers, queues string
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(messages)
	flags.StringVar(&s.python, "python", "", "the interpreter of all peers: a path, a command or a version (default: the runner's choice)")
	flags.IntVar(&s.rounds, "rounds", 20, "how many rounds to measure")
	flags.IntVar(&s.calls, "calls", 200, "how many calls each peer makes in a round; fewer of large payloads")
	flags.StringVar(&names, "sections", "", "the sections to measure, comma-separated (default: all)")
	flags.StringVar(&peers, "peers", "", "the peers to measure, comma-separated (default: all)")
	flags.StringVar(&servers, "servers", "", "the servers to measure in the section serve, comma-separated (default: all); floor and gophersnake must be among them")
	flags.StringVar(&parts, "parts", "", "the parts of the section cluster to measure, comma-separated (default: all)")
	flags.StringVar(&queues, "queues", "", "the queues to measure beside jobs in the section cluster, comma-separated (default: all)")
	flags.StringVar(&loads, "payloads", "", "the payloads to measure with, comma-separated (default: all)")
	flags.StringVar(&s.json, "json", "", "also write the figures to this file")
	flags.Func("plot", "draw the calls and the curves to this file, .svg or .png; may be repeated", func(path string) error {
		if ext := filepath.Ext(path); ext != ".svg" && ext != ".png" {
			return fmt.Errorf("the name ends in %q, not in .svg or .png", ext)
		}
		s.plots = append(s.plots, path)
		return nil
	})
	flags.BoolVar(&s.check, "check", false, "fail if a figure is not within its bounds")
	if err := flags.Parse(args); err != nil {
		return s, err
	}
	if flags.NArg() > 0 {
		return s, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	if s.rounds < 1 || s.calls < 1 {
		return s, errors.New("--rounds and --calls must be at least 1")
	}
	var err error
	if s.sections, err = choose("section", sections, func(s section) string { return s.name }, names); err != nil {
		return s, err
	}
	if s.peers, err = choosePeers(peers); err != nil {
		return s, err
	}
	if s.httpPeers, err = choose("server", httpPeers, func(p httpPeer) string { return p.name }, servers); err != nil {
		return s, err
	}
	if s.parts, err = choose("part", distributed.Parts, func(p distributed.Part) string { return p.Name }, parts); err != nil {
		return s, err
	}
	if s.queues, err = choose("queue", distributed.Queues, func(q distributed.Queue) string { return q.Name }, queues); err != nil {
		return s, err
	}
	s.payloads, err = choosePayloads(loads)
	return s, err
}

func run(ctx context.Context, args []string, out, messages io.Writer) (err error) {
	if len(args) > 0 && args[0] == driveCommand {
		return drive(ctx, args[1:])
	}
	if len(args) > 1 && args[0] == floorCommand {
		return floor(args[1])
	}
	if len(args) > 1 && args[0] == distributed.Role {
		return distributed.Play(ctx, args[1], os.Stdin, out)
	}
	if len(args) > 0 && args[0] == pairCommand {
		return pair(ctx, args[1:], out, messages)
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
	failed := b.measure(ctx)
	if ctx.Err() != nil {
		return failed
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
		failed = errors.Join(failed, b.report.check())
	}
	return failed
}

func choosePeers(list string) ([]peerSpec, error) {
	return choose("peer", allPeers, func(p peerSpec) string { return p.name }, list)
}

func choosePayloads(list string) ([]payload, error) {
	return choose("payload", payloads, func(p payload) string { return p.name }, list)
}

// choose returns the elements of all whose names are in a comma-separated list, in the
// order of all. An empty list stands for all of them.
func choose[T any](what string, all []T, name func(T) string, list string) ([]T, error) {
	if list == "" {
		return all, nil
	}
	wanted := map[string]bool{}
	for w := range strings.SplitSeq(list, ",") {
		wanted[strings.TrimSpace(w)] = true
	}
	var chosen []T
	var names []string
	for _, one := range all {
		names = append(names, name(one))
		if wanted[name(one)] {
			chosen = append(chosen, one)
			delete(wanted, name(one))
		}
	}
	for w := range wanted {
		return nil, fmt.Errorf("there is no %s %q; there are: %s", what, w, strings.Join(names, ", "))
	}
	return chosen, nil
}
