package runner_test

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/internal/testkit"
)

// stalls are the points of the protocol, in the order in which a worker reaches them, with
// the kind of node that does.
var stalls = []struct{ point, kind string }{
	{"spawned", "value"},
	{"half of the announcement", "value"},
	{"accept", "value"},
	{"secret", "value"},
	{"connected", "value"},
	{"hello", "value"},
	{"header of hello", "value"},
	{"end of hello", "value"},
	{"setup", "value"},
	{"ready", "value"},
	{"header of ready", "value"},
	{"end of ready", "value"},
	{"idle", "value"},
	{"call", "value"},
	{"transfer", "value"},
	{"release", "value"},
	{"header of release", "value"},
	{"segment of result", "value"},
	{"result", "value"},
	{"header of result", "value"},
	{"descriptors of result", "value"},
	{"end of result", "value"},
	{"item", "generator"},
	{"header of item", "generator"},
	{"end of item", "generator"},
	{"last", "generator"},
	{"end of last", "generator"},
	{"open", "stateful"},
	{"snapshot", "stateful"},
	{"finish", "stateful"},
	{"shutdown", "value"},
	{"template setup", "value"},
	{"template fork", "value"},
	{"template reaper", "value"},
	{"template worker", "value"},
	{"template order", "value"},
	{"template ended", "value"},
	{"template reported", "value"},
	{"template reap", "value"},
}

func TestAWorkerThatStallsHoldsUpNobodyElse(t *testing.T) {
	ownTMPDIR(t)
	s := &siege{t: t, python: hostilePython(t)}
	s.healthy()()
	s.stallAt("template reap", "value")
	before := holding(t) // after what is created once in a process
	stop := s.healthy()
	t.Run("at", func(t *testing.T) {
		var running sync.WaitGroup
		room := make(chan struct{}, 8) // they mostly wait, so more than the processors can run
		for _, each := range stalls {
			room <- struct{}{}
			running.Go(func() {
				defer func() { <-room }()
				t.Run(each.point, func(t *testing.T) { (&siege{t: t, python: s.python}).stallAt(each.point, each.kind) })
			})
		}
		running.Wait()
	})
	stop()
	assertHolding(t, before)
	t.Logf("%d of %d calls of healthy nodes succeeded, the slowest took %v", s.ok.Load(), s.calls.Load(), time.Duration(s.slowest.Load()))
	assert.Greater(t, s.ok.Load(), s.calls.Load()/2, "healthy nodes work")
}

// stallAt calls a node whose workers stall at a point, until one has, and closes the
// runner. All calls must end with their contexts.
func (s *siege) stallAt(point, kind string) {
	stalled := filepath.Join(s.t.TempDir(), "stalled")
	forks := fmt.Sprint(point[:min(len(point), 8)] == "template")
	r, err := load(s.t, "nodes:\n"+hostileNode(s.t.TempDir(), "h", kind, fmt.Sprintf("HOSTILE_STALL: %q, HOSTILE_STALLED: %q", point, stalled),
		"workers: {min: 1, max: 2, spare: 0, scale_after: 0s, fork_server: "+forks+"}"),
		runner.WithPython(s.python), runner.WithSystemPython())
	require.NoError(s.t, err)
	large, err := ipc.NewTensor(make([]byte, 1<<20), 1<<20)
	require.NoError(s.t, err)
	isStalled := testkit.Exists(stalled)
	for range 10 {
		served := false
		s.within(hostileContext+endsWithin, point+": a stream", func() {
			ctx, cancel := context.WithTimeout(context.Background(), hostileContext)
			defer cancel()
			if stream, err := r.Stream(ctx); err == nil {
				go feedUntilEnd(stream, slices.Repeat([]any{large}, 20))
				_, err = values(stream)
				served = err == nil
				assert.NoError(s.t, stream.Close())
			}
		})
		if isStalled() || s.t.Failed() || served && point == "shutdown" {
			break
		}
	}
	s.within(hostileClose+endsWithin, point+": Close", func() {
		ctx, cancel := context.WithTimeout(context.Background(), hostileClose)
		defer cancel()
		assert.NoError(s.t, r.Close(ctx))
	})
	assert.FileExists(s.t, stalled, "the worker has reached %s", point)
}

// feedUntilEnd sends items until the stream refuses one.
func feedUntilEnd(s *runner.Stream, items []any) {
	for _, each := range items {
		if s.Send(each) != nil {
			return
		}
	}
	s.CloseSend()
}

// Without faults, the fuzzer is a worker like another: the rest of its tests would show
// little if the supervisor ended it at once.
func TestTheFuzzerSpeaksTheProtocol(t *testing.T) {
	python := hostilePython(t)
	for _, kind := range []string{"value", "generator", "stateful"} {
		folder := t.TempDir()
		r, err := load(t, "nodes:\n"+hostileNode(folder, "h", kind, "HOSTILE_STALL: nowhere", "workers: {spare: 0, fork_server: true}"),
			runner.WithPython(python), runner.WithSystemPython())
		require.NoError(t, err)
		large, err := ipc.NewTensor(make([]byte, 1<<18), 1<<18)
		require.NoError(t, err)
		for range 10 {
			stream, err := r.Stream(t.Context())
			require.NoError(t, err)
			go feedUntilEnd(stream, slices.Repeat([]any{large}, 40))
			got, err := values(stream)
			require.NoError(t, err, kind)
			assert.GreaterOrEqual(t, len(got), 40, kind)
			require.NoError(t, stream.Close())
		}
		assert.Positive(t, servedForked(t, folder), "%s: the workers are forked", kind)
		health := r.Health().Nodes[0]
		assert.Empty(t, health.Pool.Deaths, kind)
		require.NoError(t, r.Close(t.Context()))
	}
}
