// Command program is the program that command hops traces. It makes calls to a Python node
// by Runner.Run, or sends items through a stream, and writes the records.
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
	pause  = 500 * time.Microsecond // lets the goroutines of the previous call become idle
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
	defer func() { _ = r.Close(ctx) }()
	if err := r.Start(ctx); err != nil {
		return err
	}
	prepare, step := func() {}, func(value any) (any, error) { return r.Run(ctx, value) }
	if kind == "stream" {
		s, err := r.Stream(ctx)
		if err != nil {
			return err
		}
		defer func() { _ = s.Close() }()
		prepare, step = streamSteps(s)
	}
	value := any(map[string]any{"text": "hello", "count": 3})
	for i := range warmUp + traced {
		prepare()
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
	prepare()
	if _, err := step(map[string]any{"save": filepath.Join(folder, "python.json")}); err != nil {
		return err
	}
	return recorder.Save(filepath.Join(folder, "go.json"))
}

// streamSteps returns two functions, to be called in turn: one that starts a consumer,
// which waits in Recv, and one that sends an item and returns what the consumer got.
func streamSteps(s *runner.Stream) (consume func(), send func(value any) (any, error)) {
	type received struct {
		item runner.Item
		err  error
	}
	results := make(chan received)
	consume = func() {
		go func() {
			item, err := s.Recv()
			results <- received{item, err}
		}()
	}
	send = func(value any) (any, error) {
		if err := s.Send(value); err != nil {
			return nil, err
		}
		result := <-results
		return result.item.Value, result.err
	}
	return consume, send
}
