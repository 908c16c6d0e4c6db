package runner_test

import (
	"context"
	"fmt"
	"log"

	"github.com/gophersnake/gophersnake/runner"
)

// Items are sent and received in order, while the node works on others. The node
// splits each text into words, which are received one by one.
func ExampleRunner_Stream() {
	pipeline, err := runner.Load("testdata/words.yaml")
	if err != nil {
		log.Fatal(err)
	}
	r, err := runner.New(pipeline)
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close(context.Background())

	s, err := r.Stream(context.Background())
	if err != nil {
		fmt.Println(err)
		return
	}
	defer s.Close()
	go func() {
		for _, line := range []string{"the snake", "and the gopher"} {
			if s.Send(line) != nil {
				return // Recv returns the reason
			}
		}
		s.CloseSend()
	}()
	for item, err := range s.All() {
		fmt.Println(item.Value, err)
	}
	// Output:
	// the <nil>
	// snake <nil>
	// and <nil>
	// the <nil>
	// gopher <nil>
}

// A sequence is sent through the pipeline as fast as the loop takes the values.
func ExampleRunner_Through() {
	pipeline, err := runner.Load("testdata/sum.yaml")
	if err != nil {
		log.Fatal(err)
	}
	r, err := runner.New(pipeline)
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close(context.Background())

	numbers := func(yield func(any, error) bool) {
		for n := 0; n < 3 && yield(n, nil); n++ {
		}
	}
	for item, err := range r.Through(context.Background(), numbers) {
		fmt.Println(item.Value, err)
	}
	// Output:
	// 22 <nil>
	// 23 <nil>
	// 24 <nil>
}
