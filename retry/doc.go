// Package retry runs an operation again after a temporary failure, and refuses an
// operation that keeps failing. It is independent of the operation: it has no
// notion of processes, networks or kinds of error.
//
// # Policies
//
// A [Policy] says how often an operation is retried and how long to wait before
// each retry. It is a plain value; the zero value does not retry.
//
//	retry.None()                   // one attempt
//	retry.Fixed(2, time.Second)    // two retries, one second apart
//	retry.Default()                // three retries, after 100, 200 and 400 ms
//	retry.Exponential(3, 100*time.Millisecond, 2, 400*time.Millisecond) // the same
//
// Delays are exact unless [Policy].Jitter spreads them. [Policy].Budget limits the
// total time: no retry starts after the budget is spent.
//
// # Do
//
// [Do] runs an operation under a policy. It retries only an error that declares
// itself retryable with the method
//
//	Retryable() bool
//
// which [errors.As] may find anywhere in the error's chain. The option [If]
// replaces that rule by a function. An error with the method
//
//	RetryAfter() (time.Duration, bool)
//
// sets the delay before the next retry, in place of the policy's delay. That delay is
// bounded by [Policy].MaxRetryAfter, which is one minute by default, by the budget,
// and by the context.
//
// Do returns one of these. Each error has the last attempt's error as its cause.
//
//   - nil: an attempt succeeded.
//   - the attempt's error itself: it is not retryable, or the policy has no retries.
//   - [*Exhausted]: the error was retryable, but the retries or the budget ran out.
//   - [*Interrupted]: the context ended before, between or during attempts.
//
// # Breakers
//
// A [Breaker] protects a resource that can fail for longer than retries last. Five
// failed operations in a row open it. While it is open, it refuses operations with
// an [*OpenError], which wraps [ErrOpen], without running them. After a cool-down
// it is half-open and admits a probe: if the probe succeeds, the breaker closes; if
// it fails, the breaker opens again.
//
//	permit, err := breaker.Allow()
//	if err != nil {
//		return err
//	}
//	defer permit.Release() // no outcome: the caller canceled, or a panic
//	if err := operation(); err != nil {
//		permit.Failure()
//		return err
//	}
//	permit.Success()
//	return nil
//
// A caller that would rather wait than fail calls [Breaker.Await] after a refusal, and
// then asks again.
//
// A permit remembers the state in which it was given. If the state has changed
// since, the operation's outcome is too old and is ignored: a late success does
// not close a breaker that opened in the meantime. [Breaker.RecordSuccess] has no
// such memory; it closes the breaker from any state.
//
// Put the retries inside the breaker, as above with a call of Do as the operation:
// then an operation counts once, however many attempts it took. If the caller gives up
// after an attempt has failed, that failure should count, too: [Interrupted].Failed has
// it. Otherwise callers that give up early would keep the breaker of a resource closed
// that serves none of them.
//
// # Time in tests
//
// Do waits with package time, so a test that runs it in a bubble of
// testing/synctest can assert exact delays without sleeping. A breaker takes its
// clock from [BreakerConfig].
package retry
