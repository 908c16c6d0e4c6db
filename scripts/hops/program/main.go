// Command program is what command hops traces: it makes calls to a Python node by
// Runner.Run, or sends items through a Runner.Stream, and writes what was recorded.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/scripts/hops/recorder"
)

const (
	warmUp = 100
	traced = 51
	pause  = 500 * time.Microsecond // in which what follows the call before comes to rest
)

func main() {
	log.SetFlags(0)
	if err := run(os.Args[1], os.Args[2], os.Args[3]); err != nil {
		log.Fatalf("program: %+v", err)
	}
}

// run traces calls ("call") or stream items ("stream") of the pipeline in folder.
// The worker writes its own events once it is called with the path for them.
func run(kind, folder, python string) error {
	ctx := context.Background()
	pipeline, err := runner.Load(filepath.Join(folder, "pipeline.yaml"))
	if err != nil {
		return err
	}
	r, err := runner.New(pipeline, runner.WithPython(python))
	if err != nil {
		return err
	}
	defer r.Close(ctx)
	if err := r.Start(ctx); err != nil {
		return err
	}
	step := func(value any) (any, error) { return r.Run(ctx, value) }
	if kind == "stream" {
		s, err := r.Stream(ctx)
		if err != nil {
			return err
		}
		defer s.Close()
		step = streamStep(s)
	}
	value := any(map[string]any{"text": "hello", "count": 3})
	for i := range warmUp + traced {
		time.Sleep(pause)
		if i >= warmUp {
			recorder.Mark("begin " + strconv.Itoa(i))
		}
		result, err := step(value)
		if i >= warmUp {
			recorder.Mark("end " + strconv.Itoa(i))
		}
		if err != nil {
			return err
		}
		if i == 0 && fmt.Sprint(result) != fmt.Sprint(value) {
			return fmt.Errorf("the node returned %v, not its input", result)
		}
	}
	if _, err := step(map[string]any{"save": filepath.Join(folder, "python.json")}); err != nil {
		return err
	}
	return recorder.Save(filepath.Join(folder, "go.json"))
}

// streamStep returns a function that sends an item and waits for what comes out. The
// consumer waits in Recv before the item is sent, as it does in a stream that is not
// full.
func streamStep(s *runner.Stream) func(any) (any, error) {
	received := make(chan any)
	failed := make(chan error, 1)
	go func() {
		for {
			item, err := s.Recv()
			if err != nil {
				failed <- err
				return
			}
			received <- item.Value
		}
	}()
	return func(value any) (any, error) {
		if err := s.Send(value); err != nil {
			return nil, err
		}
		select {
		case result := <-received:
			return result, nil
		case err := <-failed:
			return nil, err
		}
	}
}
