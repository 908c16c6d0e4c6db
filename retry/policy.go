package retry

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"time"
)

// Policy says how often a failed operation is tried again, and how long to wait
// before each retry. Policies are values: copy them, compare them, change a
// field of one. The zero value retries nothing.
type Policy struct {
	// Retries is the number of retries after the first attempt, so there are at
	// most Retries+1 attempts.
	Retries int
	// Base is the delay before the first retry.
	Base time.Duration
	// Multiplier is what each further delay grows by. 0 and 1 keep it constant.
	Multiplier float64
	// Max bounds every single delay of the policy; 0 is no bound.
	Max time.Duration
	// Jitter spreads each delay evenly over ± this fraction of it, so that
	// clients that failed together do not return together. 0 is exact.
	Jitter float64
	// Budget bounds the time from the first attempt to the beginning of the last
	// retry; 0 is no bound. An attempt under way is not cut short by it: that is
	// what a context with a deadline is for.
	Budget time.Duration
}

// None returns the policy that never retries.
func None() Policy { return Policy{} }

// Fixed returns a policy with the same delay before each retry.
func Fixed(retries int, delay time.Duration) Policy {
	return Policy{Retries: retries, Base: delay, Multiplier: 1}
}

// Exponential returns a policy whose delay begins at base and grows by
// multiplier from retry to retry, up to max (0: without bound).
func Exponential(retries int, base time.Duration, multiplier float64, max time.Duration) Policy {
	return Policy{Retries: retries, Base: base, Multiplier: multiplier, Max: max}
}

// Default returns the policy to use where nothing else is known: three retries,
// after 100, 200 and 400 ms.
func Default() Policy {
	return Exponential(3, 100*time.Millisecond, 2, 10*time.Second)
}

// Attempts returns the number of attempts that the policy allows, the first included.
func (p Policy) Attempts() int { return max(p.Retries, 0) + 1 }

// Delay returns the delay before the given retry, counted from 1, without
// jitter. It is 0 for a retry that the policy does not allow.
func (p Policy) Delay(retry int) time.Duration {
	if retry < 1 || retry > p.Retries || p.Base <= 0 {
		return 0
	}
	delay := float64(p.Base)
	if p.grows() {
		delay *= math.Pow(p.Multiplier, float64(retry-1))
	}
	return p.bounded(delay)
}

// spread returns the delay before the given retry with jitter.
func (p Policy) spread(retry int) time.Duration {
	delay := p.Delay(retry)
	if p.Jitter == 0 {
		return delay
	}
	return p.bounded(float64(delay) * (1 + p.Jitter*(2*rand.Float64()-1)))
}

func (p Policy) grows() bool { return p.Multiplier != 0 && p.Multiplier != 1 }

// bounded turns a delay into a duration: within Max, and within what a duration
// can hold, since a power soon leaves it.
func (p Policy) bounded(delay float64) time.Duration {
	if p.Max > 0 && delay >= float64(p.Max) {
		return p.Max
	}
	if delay >= math.MaxInt64 {
		return math.MaxInt64
	}
	return time.Duration(delay)
}

// Validate says what is wrong with the policy's figures: nil, or one
// [*FieldError] for each bad field, joined.
func (p Policy) Validate() error {
	// Each field is looked at in turn without a table, because Do validates on
	// every call and a good policy must cost nothing.
	var faults []error
	bad := func(field, reason string, value any) {
		faults = append(faults, &FieldError{Field: field, Value: fmt.Sprint(value), Reason: reason})
	}
	if p.Retries < 0 {
		bad("Retries", "must be 0 or more", p.Retries)
	}
	if p.Base < 0 {
		bad("Base", "must not be negative", p.Base)
	}
	if p.Multiplier != 0 && !(p.Multiplier >= 1 && p.Multiplier <= math.MaxFloat64) {
		bad("Multiplier", "must be a number of 1 or more (0 stands for 1)", p.Multiplier)
	}
	if p.Max < 0 {
		bad("Max", "must not be negative (0 is no bound)", p.Max)
	}
	if p.Max > 0 && p.Base > p.Max {
		bad("Base", fmt.Sprintf("must not exceed the longest delay, %v", p.Max), p.Base)
	}
	if !(p.Jitter >= 0 && p.Jitter <= 1) {
		bad("Jitter", "must be a fraction between 0 and 1", p.Jitter)
	}
	if p.Budget < 0 {
		bad("Budget", "must not be negative (0 is no bound)", p.Budget)
	}
	return errors.Join(faults...)
}

// String describes the policy in words, for instance "3 retries, after 100ms,
// then ×2 up to 10s".
func (p Policy) String() string {
	if p.Retries <= 0 {
		return "no retries"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s, ", count(p.Retries, "retry", "retries"))
	switch {
	case p.Retries == 1:
		fmt.Fprintf(&b, "after %v", p.Delay(1))
	case !p.grows():
		fmt.Fprintf(&b, "each after %v", p.Delay(1))
	default:
		fmt.Fprintf(&b, "after %v, then ×%g", p.Delay(1), p.Multiplier)
		if p.Max > 0 {
			fmt.Fprintf(&b, " up to %v", p.Max)
		}
	}
	if p.Jitter > 0 {
		fmt.Fprintf(&b, ", jitter ±%g%%", p.Jitter*100)
	}
	if p.Budget > 0 {
		fmt.Fprintf(&b, ", within %v", p.Budget)
	}
	return b.String()
}

// FieldError says that one figure of a [Policy] or of a [BreakerConfig] is bad.
type FieldError struct {
	// Field is the name of the struct's field.
	Field string
	// Value is what it holds, as text.
	Value string
	// Reason says what it must be.
	Reason string
}

func (e *FieldError) Error() string {
	return fmt.Sprintf("%s is %s; it %s", e.Field, e.Value, e.Reason)
}

func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
