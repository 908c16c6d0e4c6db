package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"syscall"
	"time"

	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/scripts/internal/procs"
)

// kills holds the settings of a soak whose workers are killed.
type kills struct {
	length   time.Duration
	interval time.Duration // between two kills
	seed     uint64
}

// victims are the workers that are alive.
type victims struct {
	mu     sync.Mutex // guards what follows
	pids   []int
	deaths int
}

// observe receives the events of the runner.
func (v *victims) observe(e runner.Event) {
	v.mu.Lock()
	defer v.mu.Unlock()
	switch e := e.(type) {
	case runner.WorkerStarted:
		v.pids = append(v.pids, e.PID)
	case runner.WorkerDied:
		v.deaths++
		v.remove(e.PID)
	}
}

func (v *victims) remove(pid int) {
	for i, each := range v.pids {
		if each == pid {
			v.pids = append(v.pids[:i], v.pids[i+1:]...)
			return
		}
	}
}

// kill kills one of them and returns its process id, or 0 if there is none.
func (v *victims) kill(random *rand.Rand) int {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.pids) == 0 {
		return 0
	}
	pid := v.pids[random.IntN(len(v.pids))]
	v.remove(pid)
	_ = syscall.Kill(pid, syscall.SIGKILL)
	return pid
}

// soakKills streams numbers through three stateless nodes while their workers are killed,
// and checks after each kill for leaked shared memory.
func soakKills(ctx context.Context, how kills, out io.Writer) error {
	before, err := procs.Look()
	if err != nil {
		return err
	}
	alive := &victims{}
	r, end, err := start(ctx, "kills", runner.WithEvents(alive.observe))
	if err != nil {
		return err
	}
	started := time.Now()
	killed, items, err := streamUnderKills(ctx, r, alive, before, how)
	took := time.Since(started)
	if err = errors.Join(err, end()); err != nil {
		return err
	}
	fmt.Fprintf(out, "%d items in %v under %d kills (%d deaths): each received once and in order\n",
		items, took.Round(time.Millisecond), killed, alive.deaths)
	if err := procs.AwaitBefore(before); err != nil {
		return err
	}
	fmt.Fprintln(out, "left behind: no descriptor, no segment, no process; nothing in /dev/shm after any kill")
	return nil
}

// streamUnderKills sends numbers until all kills are made, and checks that they are received
// once and in order.
func streamUnderKills(ctx context.Context, r *runner.Runner, alive *victims, before procs.Residue, how kills) (killed, items int, err error) {
	s, err := r.Stream(ctx)
	if err != nil {
		return 0, 0, err
	}
	defer func() { _ = s.Close() }()
	stop := make(chan struct{})
	sent := make(chan int, 1)
	go func() {
		defer s.CloseSend()
		for i := 0; ; i++ {
			select {
			case <-stop:
				sent <- i
				return
			default:
			}
			if s.Send(i) != nil { // Recv returns the cause
				sent <- i
				return
			}
		}
	}()
	killing := make(chan error, 1)
	go func() {
		defer close(stop)
		var err error
		killed, err = how.killAll(ctx, alive, before)
		killing <- err
	}()
	for ; ; items++ {
		item, err := s.Recv()
		if errors.Is(err, io.EOF) {
			err = <-killing
			if n := <-sent; err == nil && n != items {
				err = fmt.Errorf("received %d of %d items", items, n)
			}
			return killed, items, err
		}
		if err != nil {
			return killed, items, err
		}
		if item.Value != int64(items) {
			return killed, items, fmt.Errorf("received item %d instead of item %d", item.Value, items)
		}
	}
}

// killAll kills a worker at each interval until the time is up.
func (how kills) killAll(ctx context.Context, alive *victims, before procs.Residue) (killed int, err error) {
	random := rand.New(rand.NewPCG(how.seed, 0))
	ticker := time.NewTicker(how.interval)
	defer ticker.Stop()
	timer := time.NewTimer(how.length)
	defer timer.Stop()
	half := time.Now().Add(how.length / 2)
	var early, late int // the most segments at a time in either half
	for {
		select {
		case <-ticker.C:
		case <-timer.C:
			if late > early+early/2+segmentSlack {
				err = fmt.Errorf("there were up to %d segments in the first half and %d in the second", early, late)
			}
			return killed, err
		case <-ctx.Done():
			return killed, ctx.Err()
		}
		if pid := alive.kill(random); pid == 0 || !awaitGone(ctx, pid) {
			continue
		}
		killed++
		now, err := procs.Look()
		if err != nil {
			return killed, err
		}
		if len(now.Named) > len(before.Named) {
			return killed, fmt.Errorf("after kill %d /dev/shm holds %v", killed, now.Named)
		}
		if time.Now().Before(half) {
			early = max(early, now.Segments)
		} else {
			late = max(late, now.Segments)
		}
	}
}

// segmentSlack is by how many segments the halves may differ.
const segmentSlack = 16

// awaitGone waits until a killed process has ended, so that its resources are freed. It
// returns false if the context ends first.
func awaitGone(ctx context.Context, pid int) bool {
	for syscall.Kill(pid, 0) == nil {
		select {
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
			return false
		}
	}
	return true
}
