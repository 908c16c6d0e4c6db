package retry_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gophersnake/gophersnake/retry"
)

// unavailable is an error that declares that another attempt may succeed.
type unavailable struct{ service string }

func (e unavailable) Error() string { return e.service + " is unavailable" }
func (unavailable) Retryable() bool { return true }

func ExampleDo() {
	policy := retry.Exponential(3, time.Millisecond, 2, 0)
	err := retry.Do(context.Background(), policy, func(ctx context.Context, attempt int) error {
		if attempt < 3 {
			return unavailable{"the model server"}
		}
		fmt.Println("done at attempt", attempt)
		return nil
	})
	fmt.Println(err)
	// Output:
	// done at attempt 3
	// <nil>
}

func ExampleDo_exhausted() {
	err := retry.Do(context.Background(), retry.Fixed(1, time.Millisecond),
		func(context.Context, int) error { return unavailable{"the model server"} },
		retry.OnRetry(func(attempt int, delay time.Duration, err error) {
			fmt.Printf("attempt %d: %v; again in %v\n", attempt, err, delay)
		}))

	if exhausted, ok := errors.AsType[*retry.Exhausted](err); ok {
		fmt.Println(exhausted.Attempts, "attempts")
	}
	fmt.Println(err)
	// Output:
	// attempt 1: the model server is unavailable; again in 1ms
	// 2 attempts
	// failed after 2 attempts: the model server is unavailable
}

func ExampleIf() {
	busy := errors.New("busy")
	attempts := 0
	err := retry.Do(context.Background(), retry.Fixed(2, time.Millisecond),
		func(context.Context, int) error { attempts++; return busy },
		retry.If(func(err error) bool { return errors.Is(err, busy) }))
	fmt.Println(attempts, errors.Is(err, busy))
	// Output: 3 true
}

func ExamplePolicy() {
	policy := retry.Default()
	policy.Retries = 5
	policy.Max = time.Second
	fmt.Println(policy)
	for n := 1; n <= policy.Retries; n++ {
		fmt.Print(policy.Delay(n), " ")
	}
	// Output:
	// 5 retries, after 100ms, then ×2 up to 1s
	// 100ms 200ms 400ms 800ms 1s
}

func ExampleBreaker() {
	noon := time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)
	now := noon
	breaker, err := retry.NewBreaker(retry.BreakerConfig{
		Failures: 2,
		Clock:    func() time.Time { return now },
		OnChange: func(from, to retry.State) { fmt.Println("the breaker:", from, "→", to) },
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	run := func(operation func() error) error {
		permit, err := breaker.Allow()
		if err != nil {
			return err
		}
		defer permit.Release()
		if err := operation(); err != nil {
			permit.Failure()
			return err
		}
		permit.Success()
		return nil
	}
	down := func() error { return unavailable{"the model server"} }
	up := func() error { return nil }

	fmt.Println(run(down))
	fmt.Println(run(down))
	fmt.Println(run(up))
	now = noon.Add(30 * time.Second)
	fmt.Println(run(up))
	// Output:
	// the model server is unavailable
	// the breaker: closed → open
	// the model server is unavailable
	// the circuit breaker is open after 2 failed operations in a row; the next probe is allowed in 30s
	// the breaker: open → half-open
	// the breaker: half-open → closed
	// <nil>
}
