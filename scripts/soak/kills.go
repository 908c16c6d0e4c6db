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

// kills is how workers are killed under a stream.
type kills struct {
	length, every time.Duration
	seed          uint64
}

// victims are the workers that live.
type victims struct {
	mu     sync.Mutex
	pids   []int
	deaths int
}

func (v *victims) event(e runner.Event) {
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

// kill kills one of them, and reports which; 0 where there is none.
func (v *victims) kill(chance *rand.Rand) int {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.pids) == 0 {
		return 0
	}
	pid := v.pids[chance.IntN(len(v.pids))]
	v.remove(pid)
	_ = syscall.Kill(pid, syscall.SIGKILL)
	return pid
}

// soakKills streams numbers through three stateless nodes while their workers are
// killed, and looks after each kill whether something stayed behind.
func soakKills(ctx context.Context, how kills, out io.Writer) error {
	before, err := procs.Look()
	if err != nil {
		return err
	}
	alive := &victims{}
	r, end, err := start(ctx, "kills", runner.WithEvents(alive.event))
	if err != nil {
		return err
	}
	begun := time.Now()
	killed, items, err := streamUnderKills(ctx, r, alive, before, how)
	took := time.Since(begun)
	if err = errors.Join(err, end()); err != nil {
		return err
	}
	after, err := procs.Look()
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%d items in %v under %d kills (%d deaths): each came out once and in order\n",
		items, took.Round(time.Millisecond), killed, alive.deaths)
	if err := after.Since(before); err != nil {
		return err
	}
	fmt.Fprintln(out, "left behind: no descriptor, no segment, no process; nothing in /dev/shm after any kill")
	return nil
}

func streamUnderKills(ctx context.Context, r *runner.Runner, alive *victims, before procs.Residue, how kills) (killed, items int, err error) {
	s, err := r.Stream(ctx)
	if err != nil {
		return 0, 0, err
	}
	defer s.Close()
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
			if s.Send(i) != nil { // Recv says why
				sent <- i
				return
			}
		}
	}()
	killing := make(chan error, 1)
	go func() {
		defer close(stop)
		var err error
		killed, err = how.goOn(ctx, alive, before)
		killing <- err
	}()
	for ; ; items++ {
		item, err := s.Recv()
		if err == io.EOF {
			err = <-killing
			if n := <-sent; err == nil && n != items {
				err = fmt.Errorf("%d of %d items came out", items, n)
			}
			return killed, items, err
		}
		if err != nil {
			return killed, items, err
		}
		if item.Value != int64(items) {
			return killed, items, fmt.Errorf("item %d came out where %d belongs", item.Value, items)
		}
	}
}

// goOn kills a worker at each tick until the time is up.
func (how kills) goOn(ctx context.Context, alive *victims, before procs.Residue) (killed int, err error) {
	chance := rand.New(rand.NewPCG(how.seed, 0))
	tick := time.NewTicker(how.every)
	defer tick.Stop()
	up := time.NewTimer(how.length)
	defer up.Stop()
	half := time.Now().Add(how.length / 2)
	var early, late int // the most segments at once, by halves
	for {
		select {
		case <-tick.C:
		case <-up.C:
			if late > early+early/2+segmentSlack {
				err = fmt.Errorf("there were up to %d segments in the first half and %d in the second", early, late)
			}
			return killed, err
		case <-ctx.Done():
			return killed, ctx.Err()
		}
		if pid := alive.kill(chance); pid == 0 || !awaitGone(ctx, pid) {
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

// segmentSlack is by how many segments one half may differ from the other.
const segmentSlack = 16

// awaitGone waits until a process that was killed is no more, and with it all that
// only it had.
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
