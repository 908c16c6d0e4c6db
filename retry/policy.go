package retry

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"time"
)

// Policy says how often a failed operation is retried, and how long to wait before
// each retry. Policies are plain values: copy them, compare them, or change a
// field of one. The zero value does not retry.
type Policy struct {
	// Retries is the number of retries after the first attempt, so there are at
	// most Retries+1 attempts.
	Retries int
	// Base is the delay before the first retry.
	Base time.Duration
	// Multiplier is the factor from each delay to the next. 0 and 1 keep the delay
	// constant.
	Multiplier float64
	// Max is the upper limit of each delay, jitter included; 0 means no limit. It
	// does not limit a delay that the error asks for.
	Max time.Duration
	// MaxRetryAfter is the upper limit of a delay that the error asks for; 0 means
	// [DefaultMaxRetryAfter]. A longer delay is shortened to it.
	MaxRetryAfter time.Duration
	// Jitter spreads each delay evenly over ± this fraction of it, between 0 and
	// 1, so that clients that failed together do not retry together. 0 keeps the
	// delays exact.
	Jitter float64
	// Budget is the time from the start of the first attempt within which the last
	// retry must start; 0 means no limit. It does not cut an attempt short; give
	// the context a deadline for that.
	Budget time.Duration
}

// DefaultMaxRetryAfter is the longest delay that an error can ask for, unless the
// policy says otherwise.
const DefaultMaxRetryAfter = time.Minute

// None returns the policy that never retries.
func None() Policy { return Policy{} }

// Fixed returns a policy with the same delay before each retry.
func Fixed(retries int, delay time.Duration) Policy {
	return Policy{Retries: retries, Base: delay, Multiplier: 1}
}

// Exponential returns a policy with base as the first delay. Each further delay is
// the one before times multiplier, up to max; a max of 0 means no limit.
func Exponential(retries int, base time.Duration, multiplier float64, max time.Duration) Policy {
	return Policy{Retries: retries, Base: base, Multiplier: multiplier, Max: max}
}

// Default returns the default policy: three retries, after 100, 200 and 400 ms.
// 400 ms is its longest delay: a copy with more retries waits 400 ms before each
// further one, and a copy with a longer Base needs a longer Max too.
func Default() Policy {
	return Exponential(3, 100*time.Millisecond, 2, 400*time.Millisecond)
}

// Attempts returns the number of attempts that the policy allows, including the
// first.
func (p Policy) Attempts() int { return max(p.Retries, 0) + 1 }

// Delay returns the delay before the given retry, counted from 1, without jitter.
// For a retry beyond the policy's number the delay is 0.
func (p Policy) Delay(retry int) time.Duration {
	if retry < 1 || retry > p.Retries || p.Base <= 0 {
		return 0
	}
	delay := float64(p.Base)
	if p.grows() {
		delay *= math.Pow(p.Multiplier, float64(retry-1))
	}
	return p.limited(delay)
}

// jittered returns the delay before the given retry, with jitter.
func (p Policy) jittered(retry int) time.Duration {
	delay := p.Delay(retry)
	if p.Jitter == 0 {
		return delay
	}
	return p.limited(float64(delay) * (1 + p.Jitter*(2*rand.Float64()-1)))
}

func (p Policy) grows() bool { return p.Multiplier != 0 && p.Multiplier != 1 }

// limited returns delay as a duration of at most Max. A power soon exceeds the longest
// duration, so that is a limit as well.
func (p Policy) limited(delay float64) time.Duration {
	if p.Max > 0 && delay >= float64(p.Max) {
		return p.Max
	}
	if delay >= math.MaxInt64 {
		return math.MaxInt64
	}
	return time.Duration(delay)
}

// Validate checks the fields. It returns nil, or one [*FieldError] for each
// invalid field, joined.
func (p Policy) Validate() error {
	// No table of rules: Do validates on every call, and a valid policy must not
	// allocate.
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
		bad("Multiplier", "must be a finite number of 1 or more (0 means 1)", p.Multiplier)
	}
	if p.Max < 0 {
		bad("Max", "must not be negative (0 means no limit)", p.Max)
	}
	if p.Max > 0 && p.Base > p.Max {
		bad("Base", fmt.Sprintf("must not exceed Max, %v", p.Max), p.Base)
	}
	if p.MaxRetryAfter < 0 {
		bad("MaxRetryAfter", "must not be negative (0 means the default)", p.MaxRetryAfter)
	}
	if !(p.Jitter >= 0 && p.Jitter <= 1) {
		bad("Jitter", "must be a fraction between 0 and 1", p.Jitter)
	}
	if p.Budget < 0 {
		bad("Budget", "must not be negative (0 means no limit)", p.Budget)
	}
	return errors.Join(faults...)
}

// String describes the policy, for instance "3 retries, after 100ms, then ×2 up to
// 400ms".
func (p Policy) String() string {
	if p.Retries <= 0 {
		return "no retries"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s, ", plural(p.Retries, "retry", "retries"))
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

// plural writes a number with its noun.
func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
