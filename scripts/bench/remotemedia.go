package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner"
)

// streamItem is an item of the section remotemedia, in both languages.
type streamItem struct {
	name   string
	fewer  int // divides the number of RemoteMedia's calls
	ours   any
	theirs any
}

var streamItems = []streamItem{
	{"text of 29 B", 2, "from gopher to snake and back", "from gopher to snake and back"},
	{"small JSON", 2, small, small},
	recorded("20 ms of audio", 4, 320),
	recorded("64 KiB of audio", 40, 64<<10/4),
	recorded("1 MiB - 1 KiB of audio", 200, (1<<20-1024)/4),
}

func recorded(name string, fewer, frames int) streamItem {
	samples := make([]float32, frames)
	for i := range samples {
		samples[i] = float32(i%(1<<16)) / (1 << 16)
	}
	return streamItem{name, fewer, &ipc.Audio{Samples: samples, Rate: 16000, Channels: 1}, map[string]any{"frames": frames}}
}

// measureRemoteMedia compares a stream through one node with a session of RemoteMedia's
// runtime, and what becomes of faults. If that runtime cannot be installed, it is skipped.
func measureRemoteMedia(ctx context.Context, b *bench) (err error) {
	theirs, err := startRemoteMedia(ctx, b.host)
	if err != nil {
		if ctx.Err() == nil {
			b.report.Tables = append(b.report.Tables, table{Section: remoteMediaName, Title: remoteMediaTitle})
			b.skip(remoteMediaName, "RemoteMedia", err)
			return nil
		}
		return err
	}
	defer func() { _ = theirs.close() }() // the runtime does not end in order
	r, err := b.host.pipeline(ctx, "remotemedia_ours.yaml")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close(context.Background())) }()
	if err := b.remoteMediaCalls(ctx, r, theirs); err != nil {
		return err
	}
	if err := theirs.close(); err != nil && ctx.Err() != nil {
		return err
	}
	return b.remoteMediaFaults(ctx, r)
}

const remoteMediaTitle = "An item through one node in a process, one at a time: p50"

// startRemoteMedia installs RemoteMedia's runtime in the user's cache folder, and starts a
// session with one node.
func startRemoteMedia(ctx context.Context, h *host) (*program, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return nil, err
	}
	folder := filepath.Join(h.programs, "remotemedia")
	install := exec.CommandContext(ctx, h.python.Path, filepath.Join(folder, "install.py"), filepath.Join(cache, "gophersnake-tests", "remotemedia-ffi-0.4.4"))
	out, err := install.Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return nil, errors.New(strings.TrimSpace(string(exit.Stderr)))
	} else if err != nil {
		return nil, err
	}
	lines := strings.Fields(string(out))
	python := lines[len(lines)-1]
	return startProgramIn(ctx, h, "RemoteMedia", python, func(command *exec.Cmd) {
		command.Dir = folder // it has the settings of the runtime
		command.Env = append(command.Env, "PYTHONPATH="+folder, "PYTHON_ENV_MODE=system", "RUST_LOG=off")
	}, filepath.Join(folder, "peer.py"))
}

// sessionRequest is a request to python/remotemedia/peer.py.
type sessionRequest struct {
	Item   any `json:"item"`
	Warmup int `json:"warmup"`
	Calls  int `json:"calls"`
	Flight int `json:"flight"`
}

// remoteMediaCalls measures both in turns.
func (b *bench) remoteMediaCalls(ctx context.Context, r *runner.Runner, theirs *program) error {
	var p50, p99 []figure
	for _, item := range streamItems {
		calls := max(b.calls/item.fewer, 1)
		b.logf("measuring RemoteMedia with %s: %d rounds of %d calls", item.name, b.rounds, calls)
		all, err := takeTurns(b.rounds, streamed(ctx, r, item.ours, b.calls, 1), inSessions(theirs, item.theirs, calls, 1))
		if err != nil {
			return err
		}
		for i, name := range []string{"gophersnake", "RemoteMedia"} {
			ratio := all[i].ratio(all[0])
			p50 = append(p50, figure{item.name + ", " + name, microseconds(all[i].percentile(0.5)), ratio})
			p99 = append(p99, figure{item.name + ", " + name, microseconds(all[i].percentile(0.99)), 0})
		}
	}
	var rates []figure
	for _, flight := range []int{8, 64} {
		calls := 10 * b.calls
		all, err := takeTurns(b.rounds, streamed(ctx, r, streamItems[0].ours, calls, flight), inSessions(theirs, streamItems[0].theirs, calls/5, flight))
		if err != nil {
			return err
		}
		ours, rm := all[0].rate()*float64(calls), all[1].rate()*float64(calls/5)
		name := fmt.Sprintf("%d in flight", flight)
		rates = append(rates, figure{name + ", gophersnake", ours, 1}, figure{name + ", RemoteMedia", rm, rm / ours})
	}
	b.report.Tables = append(b.report.Tables,
		table{Section: remoteMediaName, Title: remoteMediaTitle, Unit: "µs", Ratio: "÷ gophersnake", Figures: p50},
		table{Section: remoteMediaName, Title: "The same: p99", Unit: "µs", Ratio: "÷ gophersnake", Figures: p99},
		table{Section: remoteMediaName, Title: "Texts of 29 B, several at once", Unit: "items/s", Ratio: "÷ gophersnake", Figures: rates})
	return nil
}

// inSessions returns the calls of RemoteMedia. If several are in flight, they are one duration.
func inSessions(theirs *program, item any, calls, flight int) task {
	return func() ([]time.Duration, error) {
		var answer struct {
			NS    []time.Duration
			Error string
		}
		err := theirs.request(sessionRequest{item, max(calls/5, 1), calls, flight}, &answer)
		if err == nil && answer.Error != "" {
			err = errors.New(strings.TrimSpace(answer.Error))
		}
		return answer.NS, err
	}
}

// streamed returns the same calls through a stream of gophersnake.
func streamed(ctx context.Context, r *runner.Runner, item any, calls, flight int) task {
	return func() (took []time.Duration, err error) {
		s, err := r.Stream(ctx)
		if err != nil {
			return nil, err
		}
		defer func() { _ = s.Close() }()
		if flight > 1 {
			start := time.Now()
			err := sendMany(s, item, calls, flight)
			return []time.Duration{time.Since(start)}, err
		}
		warmup := max(calls/5, 1)
		for i := range warmup + calls {
			start := time.Now()
			if err := s.Send(item); err != nil {
				return nil, err
			}
			if _, err := s.Recv(); err != nil {
				return nil, err
			}
			if i >= warmup {
				took = append(took, time.Since(start))
			}
		}
		return took, nil
	}
}

// sendMany sends items, of which at most flight are under way, and receives the results.
func sendMany(s *runner.Stream, item any, calls, flight int) error {
	room := make(chan struct{}, flight)
	sent := make(chan error, 1)
	go func() {
		for range calls {
			room <- struct{}{}
			if err := s.Send(item); err != nil {
				sent <- err
				return
			}
		}
		sent <- nil
	}()
	for range calls {
		if _, err := s.Recv(); err != nil {
			_ = s.Close() // Send fails, and does not wait
			return errors.Join(err, <-sent)
		}
		<-room
	}
	return <-sent
}

// sessionFaults are what a node does, and how the report names it.
var sessionFaults = []struct{ mode, name string }{
	{"raise", "the node raises"},
	{"segv", "it dies by SIGSEGV"},
	{"exit", "it calls `os._exit(3)`"},
	{"loop", "it loops for ever"},
	{"hold the GIL", "C code holds the GIL for ever"},
	{"set", "it returns a set"},
	{"kill", "its process is killed by SIGKILL, with 100 items under way"},
}

// faultWait is how long a result of RemoteMedia is waited for, in seconds.
const faultWait = 8

// remoteMediaFaults adds a table of what becomes of faults. RemoteMedia has a new process for
// each of them.
func (b *bench) remoteMediaFaults(ctx context.Context, r *runner.Runner) error {
	rows := [][]string{{"fault", "gophersnake", "then", "RemoteMedia", "then"}}
	for _, fault := range sessionFaults {
		b.logf("trying what becomes of a fault: %s", fault.name)
		ours, then, err := ourOutcome(ctx, r, fault.mode)
		if err != nil {
			return err
		}
		ours = strings.ReplaceAll(ours, b.host.programs+"/", "")
		p, err := startRemoteMedia(ctx, b.host)
		if err != nil {
			return err
		}
		var answer struct{ First, Next, Error string }
		err = p.request(map[string]any{"item": fault.mode, "wait": faultWait}, &answer)
		_ = p.close()
		if err != nil {
			return err
		}
		rows = append(rows, []string{fault.name, ours, then, answer.First + answer.Error, answer.Next})
	}
	b.report.Tables = append(b.report.Tables, table{Section: remoteMediaName, Title: "Faults: what the caller sees, and what becomes of the next item", Rows: rows})
	return nil
}

// ourOutcome returns what the caller sees of a fault and of the next item.
func ourOutcome(ctx context.Context, r *runner.Runner, mode string) (first, next string, err error) {
	if mode == "kill" {
		if first, err = killed(ctx, r); err != nil {
			return "", "", err
		}
	} else {
		first = outcome(ctx, r, mode)
	}
	return first, outcome(ctx, r, "hello"), nil
}

func outcome(ctx context.Context, r *runner.Runner, input string) string {
	start := time.Now()
	v, err := r.Run(ctx, input)
	said := fmt.Sprintf("result %q", v)
	if err != nil {
		said, _, _ = strings.Cut(runner.AsError(err).Error(), "\n")
		said = "`" + said + "`"
	}
	return fmt.Sprintf("%s after %.1f s", said, time.Since(start).Seconds())
}

// killed kills the worker while 100 items are under way, and counts the results.
func killed(ctx context.Context, r *runner.Runner) (string, error) {
	s, err := r.Stream(ctx)
	if err != nil {
		return "", err
	}
	defer func() { _ = s.Close() }()
	sent := make(chan error, 1)
	go func() {
		defer s.CloseSend()
		for range 100 {
			if err := s.Send("nap"); err != nil {
				sent <- err
				return
			}
		}
		sent <- nil
	}()
	arrived := 0
	for {
		if _, err := s.Recv(); err != nil {
			break
		}
		if arrived++; arrived == 10 {
			if err := syscall.Kill(r.Health().Nodes[0].Pool.Workers[0].PID, syscall.SIGKILL); err != nil {
				return "", err
			}
		}
	}
	return fmt.Sprintf("%d of 100 results", arrived), <-sent
}
