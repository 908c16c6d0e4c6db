package manifest

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"
	"time"
)

const maxAttempts = 1_000_000

// kinds are the kinds of errors that retry.on may name.
var kinds = []string{
	"execution", "io", "manifest", "marshaling", "other",
	"python_vm", "serialization", "transport", "wasm",
}

// retry returns a decodeFunc for a retry policy: none, a fixed delay, or exponential
// delays.
func (d *decoder) retry(dst **Retry) decodeFunc {
	return func(e element) {
		r := DefaultRetry()
		*dst = &r
		if d.isWord(e, "none") {
			*dst = &Retry{Mode: RetryNone}
			return
		}
		var fixed time.Duration
		given := d.object(e, "none, or a map such as {max_attempts: 3, base: 100ms}", fields{
			"max_attempts": d.integer(&r.MaxAttempts),
			"base":         d.duration(&r.Base, orZero),
			"max":          d.duration(&r.Max, orNone),
			"multiplier":   d.float(&r.Multiplier),
			"fixed":        d.duration(&fixed, orZero),
			"jitter":       d.float(&r.Jitter),
			"budget":       d.duration(&r.Budget, orNone),
			"on":           d.texts(&r.On),
			"never":        d.texts(&r.Never),
		})
		if on, ok := given["on"]; ok && len(r.On) == 0 {
			d.problem(on.path, "must name at least one error kind; write retry: none for no retries")
		}
		if _, ok := given["fixed"]; ok {
			for _, name := range []string{"base", "max", "multiplier"} {
				if other, ok := given[name]; ok {
					d.problem(other.path, "cannot be combined with fixed: it is for exponential delays")
				}
			}
			r.Mode, r.Base, r.Max, r.Multiplier = RetryFixed, fixed, 0, 1
		} else if _, ok := given["max"]; !ok {
			r.Max = defaultMax(r.Max, r.Base)
		}
	}
}

// defaultMax returns the longest delay of a policy that sets none. For a base longer
// than the default one it grows in proportion, so that the delays still grow.
func defaultMax(usual, base time.Duration) time.Duration {
	return max(usual, base, min(base, math.MaxInt64/4)*4)
}

// breaker returns a decodeFunc for a circuit breaker: none, or a map of its settings.
func (d *decoder) breaker(dst **Breaker) decodeFunc {
	return func(e element) {
		b := DefaultBreaker()
		*dst = &b
		if d.isWord(e, "none") {
			b.Disabled = true
			return
		}
		d.object(e, "none, or a map such as {failures: 5, cool_down: 30s}", fields{
			"failures":  d.integer(&b.Failures),
			"cool_down": d.duration(&b.CoolDown, positive),
			"probes":    d.integer(&b.Probes),
			"ignore":    d.texts(&b.Ignore),
		})
	}
}

func checkRetry(r *report, path string, retry *Retry) {
	switch retry.Mode {
	case RetryNone:
		return
	case RetryFixed, RetryExponential:
	default:
		r.problem(path, "unknown mode %q; the modes are none, fixed and exponential", retry.Mode)
	}
	if retry.MaxAttempts < 0 || retry.MaxAttempts > maxAttempts {
		r.problem(path+".max_attempts", "must be between 0 and %d", maxAttempts)
	}
	checkNotNegative(r, path+".base", retry.Base)
	checkNotNegative(r, path+".max", retry.Max)
	checkNotNegative(r, path+".budget", retry.Budget)
	if retry.Max > 0 && retry.Base > retry.Max {
		r.problem(path+".base", "%v is more than max, which is %v", retry.Base, retry.Max)
	}
	if !(retry.Multiplier >= 1 && retry.Multiplier <= math.MaxFloat64) {
		r.problem(path+".multiplier", "must be 1 or more, not %v", retry.Multiplier)
	}
	if !(retry.Jitter >= 0 && retry.Jitter <= 1) {
		r.problem(path+".jitter", "must be a fraction between 0 and 1, not %v", retry.Jitter)
	}
	checkExceptions(r, path+".never", retry.Never)
	for i, kind := range retry.On {
		if !slices.Contains(kinds, kind) {
			r.unknownName(fmt.Sprintf("%s.on[%d]", path, i), kind, kinds,
				"unknown error kind %q", "; the kinds are "+strings.Join(kinds, ", "))
		}
	}
}

func checkBreaker(r *report, path string, b *Breaker) {
	if b.Failures < 1 {
		r.problem(path+".failures", "must be at least 1")
	}
	if b.CoolDown <= 0 {
		r.problem(path+".cool_down", "must be more than 0")
	}
	if b.Probes < 1 {
		r.problem(path+".probes", "must be at least 1")
	}
	checkExceptions(r, path+".ignore", b.Ignore)
}

func checkExceptions(r *report, path string, names []string) {
	for i, name := range names {
		if err := CheckException(name); err != nil {
			r.problem(fmt.Sprintf("%s[%d]", path, i), "%v", err)
		}
	}
}

// className is the form of a Python class's name, with or without its module.
var className = regexp.MustCompile(`^[A-Za-z_\x{80}-\x{ffff}][A-Za-z0-9_\x{80}-\x{ffff}]*(\.[A-Za-z_\x{80}-\x{ffff}][A-Za-z0-9_\x{80}-\x{ffff}]*)*$`)

// CheckException returns an error if a text cannot stand in [Retry].Never and
// [Breaker].Ignore: it is not the name of a class, or that of an exception that ends the
// interpreter, so that no call raises it.
func CheckException(name string) error {
	switch {
	case len(name) > 1024 || !className.MatchString(name):
		return fmt.Errorf("%.80q is not the name of a Python exception, such as ValueError or json.JSONDecodeError", name)
	case name == "MemoryError" || name == "SystemExit":
		return fmt.Errorf("%s ends the interpreter, so it is an error of kind python_vm and not an exception of the call", name)
	}
	return nil
}
