package main

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/gophersnake/gophersnake/runner"
)

//go:embed python
var embedded embed.FS

// lane is a pipeline with those who call it.
type lane struct {
	index   int
	name    string
	callers int
	share   int      // of the calls, where their number is given
	burden  int      // how many times as often its calls have a fault
	nodes   []string // that a fault can befall, where it matters which
	single  bool     // its workers have one call at a time
	once    bool     // its calls are not to be carried out twice
	breaker bool
	streams bool
	faults  []*fault

	// do makes a call, and says how many items came out of a stream, and what is wrong
	// with the answer.
	do func(ctx context.Context, r *runner.Runner, p plan) (items int, wrong, err error)
}

// newLanes returns all pipelines.
func newLanes() []*lane {
	message := running(plan.message, plan.checkMessage)
	lanes := []*lane{
		{name: "sync", single: true, callers: 6, share: 10, do: message},
		{name: "ahead", callers: 16, share: 25, do: message},
		{name: "async", callers: 24, share: 15, do: message},
		{name: "batch", callers: 24, share: 10, do: message},
		{name: "alone", callers: 24, share: 10, do: message},
		{name: "once", single: true, callers: 4, share: 8, once: true, do: message},
		{name: "once_together", callers: 12, share: 8, once: true, do: message},
		{name: "breaker", callers: 4, share: 4, breaker: true, do: message},
		{name: "graph", callers: 4, share: 3, nodes: []string{"spread", "left", "join"}, do: running(plan.message, plan.checkGraph)},
		{name: "many", single: true, callers: 4, share: 3, nodes: []string{"burst"}, do: running(plan.oneBurst, plan.checkMany)},
		{name: "shared", single: true, callers: 3, share: 2, burden: 2, do: sharing},
		{name: "chain", callers: 3, share: 2, burden: 2, nodes: []string{"grow", "pass_on", "shrink"}, do: running(plan.chainMessage, plan.checkChain)},
		{name: "stream", streams: true, callers: 2, share: 1, burden: 20, nodes: []string{"burst", "step", "tally"}, do: streaming},
	}
	// Where a worker that answers twice has one call at a time, it is the next one that
	// suffers from it, and nobody could tell why.
	forgers := []string{"ahead", "async", "batch", "alone", "once_together", "breaker"}
	for i, l := range lanes {
		l.index, l.faults = i, suited(slices.Contains(forgers, l.name))
	}
	return lanes
}

func (p plan) oneBurst() any { return p.burstMessage(p.hurt) }

// running is a call by Run.
func running(input func(plan) any, check func(plan, any) error) func(context.Context, *runner.Runner, plan) (int, error, error) {
	return func(ctx context.Context, r *runner.Runner, p plan) (items int, wrong, err error) {
		got, err := r.Run(ctx, input(p))
		if err != nil {
			return 0, nil, err
		}
		return 0, check(p, got), nil
	}
}

// sharing is a call by RunShared.
func sharing(ctx context.Context, r *runner.Runner, p plan) (items int, wrong, err error) {
	got, err := r.RunShared(ctx, p.arrayMessage())
	if err != nil {
		return 0, nil, err
	}
	defer got.Release()
	return 0, p.checkArray(got.Value), nil
}

// streaming is a call by Stream: all that comes out, up to a failure, is right.
func streaming(ctx context.Context, r *runner.Runner, p plan) (items int, wrong, err error) {
	s, err := r.Stream(ctx)
	if err != nil {
		return 0, nil, err
	}
	defer s.Close()
	go func() {
		for item := range p.items {
			if s.Send(p.burstMessage(item)) != nil {
				return // Recv tells why
			}
		}
		s.CloseSend()
	}()
	want := p.streamed()
	for i := 0; ; i++ {
		item, err := s.Recv()
		switch {
		case err == io.EOF && i != len(want):
			return i, fmt.Errorf("%d of %d items came out", i, len(want)), nil
		case err == io.EOF:
			return i, nil, nil
		case err != nil:
			var told *runner.Error
			if !errors.As(err, &told) || told.Metadata["delivered"] != strconv.Itoa(i) {
				return i, fmt.Errorf("%d items came out, and the error says otherwise: %+v", i, err), nil
			}
			return i, nil, err
		case i == len(want):
			return i, fmt.Errorf("more than %d items came out: %v", i, item.Value), nil
		}
		if got, ok := item.Value.(map[string]any); !ok || !maps.Equal(got, want[i]) {
			return i, fmt.Errorf("item %d is %v instead of %v", i, item.Value, want[i]), nil
		}
		if i+1 == p.stop {
			return i + 1, nil, nil // no more is wanted: the stream is closed
		}
	}
}

// shared is how much shared memory each worker and each pipeline may take: little, so
// that there is not always room for what is to be handed over.
const shared = 8 << 20

// open starts the runner of a lane, in a folder that has the Python files.
func (l *lane) open(ctx context.Context, folder string, opts ...runner.Option) (*runner.Runner, error) {
	pipeline, err := runner.Load(filepath.Join(folder, l.name+".yaml"))
	if err != nil {
		return nil, err
	}
	opts = append(opts, runner.WithNode("sum_in_go", sumInGo), runner.WithSharedMemory(shared))
	r, err := runner.New(pipeline, opts...)
	if err != nil {
		return nil, err
	}
	if err := r.Start(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", l.name, err), r.Close(ctx))
	}
	return r, nil
}

// unpack writes the Python files into a folder.
func unpack(folder string) error {
	sources, err := fs.Sub(embedded, "python")
	if err != nil {
		return err
	}
	if err := os.CopyFS(folder, sources); err != nil {
		return err
	}
	return os.Mkdir(filepath.Join(folder, "notes"), 0o700)
}
