// Package retry runs an operation again when it fails for a passing reason, and
// stops running it for a while when it keeps failing. It knows nothing of what
// the operation is: no processes, no network, no kinds of error.
//
// # Policies
//
// A [Policy] says how often an operation is tried again and how long to wait
// before each retry. It is a plain value; the zero value retries nothing.
//
//	retry.None()                                           // one attempt
//	retry.Fixed(2, time.Second)                            // two retries, a second apart
//	retry.Exponential(3, 100*time.Millisecond, 2, 10*time.Second)
//	retry.Default()                                        // the same: 100, 200 and 400 ms
//
// Delays are exact unless [Policy].Jitter spreads them. [Policy].Budget bounds
// the whole: no retry begins once it is spent.
//
// # Do
//
// [Do] runs an operation under a policy. Only an error that says of itself that
// it is worth another attempt is retried, by a method found with [errors.As]
// anywhere in its chain:
//
//	Retryable() bool
//
// The option [If] decides by a function of yours instead. An error with the
// method
//
//	RetryAfter() (time.Duration, bool)
//
// sets the delay before the retry that follows it, in place of the policy's.
//
// What Do returns tells how it ended. Each keeps the last error as its cause.
//
//   - nil: an attempt succeeded.
//   - the error itself: it is not retryable, or the policy has no retries.
//   - [*Exhausted]: retryable to the end, but the retries or the budget ran out.
//   - [*Interrupted]: the context ended, before, between or during attempts.
//
// # Breakers
//
// A [Breaker] guards something that can be down for longer than retries last.
// After five failed operations in a row it opens: operations are refused with
// an [*OpenError], which wraps [ErrOpen], without being run. After a cool-down
// it is half-open and lets a probe through. If the probe succeeds, the breaker
// closes; if it fails, it opens again.
//
//	permit, err := breaker.Allow()
//	if err != nil {
//		return err
//	}
//	defer permit.Release() // no outcome: the caller gave up, or a panic
//	if err := operation(); err != nil {
//		permit.Failure()
//		return err
//	}
//	permit.Success()
//	return nil
//
// A permit remembers the state in which it was given. The outcome of an
// operation that began before the breaker opened is too old to say anything of
// the present, and is ignored.
//
// Put the retries inside and the breaker outside, as above: an operation counts
// once, however many attempts it took.
//
// # Time in tests
//
// Do waits with package time, so a test that runs it in a bubble of
// testing/synctest asserts exact delays and never sleeps. A breaker takes its
// clock from [BreakerConfig].
package retry
