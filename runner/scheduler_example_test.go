package runner_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/gophersnake/gophersnake/retry"
	"github.com/gophersnake/gophersnake/runner"
)

func ExampleScheduler_Execute() {
	policy := runner.DefaultNodePolicy()
	policy.Policy = retry.Fixed(2, time.Millisecond)
	scheduler, err := runner.NewScheduler(policy, func(event runner.Event) { fmt.Println(event) })
	if err != nil {
		fmt.Println(err)
		return
	}

	attempts := 0
	err = scheduler.Execute(context.Background(), "fetch", func(context.Context) error {
		if attempts++; attempts < 3 {
			return runner.NewError(runner.KindTransport, "connection reset")
		}
		return nil
	})
	fmt.Println(attempts, err)
	// Output:
	// node "fetch": attempt 1 failed, the next follows in 1ms: transport error in node "fetch": connection reset
	// node "fetch": attempt 2 failed, the next follows in 1ms: transport error in node "fetch": connection reset; attempt 2 of 3
	// 3 <nil>
}

func ExampleError_context() {
	err := error(runner.Wrap(fs.ErrNotExist, runner.KindIO, "read the model").
		WithNode("vad").
		WithOperation("setup").
		WithMetadata("model", "silero").
		WithHint("download the model first"))

	fmt.Println(err)
	fmt.Println(errors.Is(err, runner.KindIO), errors.Is(err, fs.ErrNotExist), runner.IsRetryable(err))
	fmt.Println()
	fmt.Printf("%+v\n", err)
	// Output:
	// io error in node "vad" during setup: read the model: file does not exist
	// true true true
	//
	// io error in node "vad" during setup: read the model: file does not exist
	// model: silero
	// hint: download the model first
}

func ExampleKind() {
	err := fmt.Errorf("fetch the model: %w", runner.KindTransport)
	fmt.Println(runner.KindOf(err), runner.IsRetryable(err))
	// Output: transport true
}

func ExampleAsError() {
	err := runner.AsError(errors.New("no such voice")).WithNode("tts").WithOperation("call")
	fmt.Println(err)
	fmt.Println(err.Kind, err.Retryable())
	// Output:
	// error in node "tts" during call: no such voice
	// other false
}
