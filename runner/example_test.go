package runner_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"strings"

	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/manifest"
)

// Load a pipeline, run it, and close it.
func Example() {
	pipeline, err := runner.Load("testdata/sum.yaml")
	if err != nil {
		log.Fatal(err)
	}
	r, err := runner.New(pipeline)
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close(context.Background())

	result, err := r.Run(context.Background(), 20)
	fmt.Println(result, err)
	// Output: 42 <nil>
}

// A Go function takes the place of a node type.
func ExampleWithNode() {
	pipeline := &manifest.Pipeline{
		Version: manifest.Version,
		Nodes:   []manifest.Node{manifest.NewNode("shout", "Shout")},
	}
	shout := func(_ context.Context, in runner.Input) (any, error) {
		return strings.ToUpper(in.Value.(string)) + "!", nil
	}
	r, err := runner.New(pipeline, runner.WithNode("Shout", shout))
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close(context.Background())

	result, err := r.Run(context.Background(), "hello")
	fmt.Println(result, err)
	// Output: HELLO! <nil>
}

// An error says what happened, and in which line of Python.
func ExampleError() {
	pipeline, err := runner.Load("testdata/fail.yaml")
	if err != nil {
		log.Fatal(err)
	}
	r, err := runner.New(pipeline)
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close(context.Background())

	_, err = r.Run(context.Background(), map[string]any{"with": "plain"})
	fmt.Println(errors.Is(err, runner.KindExecution))
	var e *runner.Error
	if errors.As(err, &e) {
		fmt.Println(e.Node, e.PythonClass, e.Message)
		fmt.Println(e.Traceback[len(e.Traceback)-1].Source)
	}
	// Output:
	// true
	// fail ValueError the answer is not 42
	// raise ValueError("the answer is not 42")
}

// Events tell what goes on while a pipeline runs.
func ExampleWithEvents() {
	pipeline, err := runner.Load("testdata/fail.yaml")
	if err != nil {
		log.Fatal(err)
	}
	r, err := runner.New(pipeline, runner.WithEvents(func(e runner.Event) {
		if e, ok := e.(runner.CallRetried); ok {
			fmt.Printf("attempt %d of node %s failed; the next follows in %v\n", e.Attempt, e.Node, e.Delay)
		}
	}))
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close(context.Background())

	_, err = r.Run(context.Background(), map[string]any{"with": "plain"})
	fmt.Println(runner.KindOf(err))
	// Output:
	// attempt 1 of node fail failed; the next follows in 1ms
	// execution
}
