package retry

import (
	"errors"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const ms = time.Millisecond

func delays(p Policy) []time.Duration {
	var all []time.Duration
	for retry := 1; retry <= p.Retries; retry++ {
		all = append(all, p.Delay(retry))
	}
	return all
}

func TestDefaultPolicy(t *testing.T) {
	p := Default()
	require.NoError(t, p.Validate())
	assert.Equal(t, []time.Duration{100 * ms, 200 * ms, 400 * ms}, delays(p))
	assert.Equal(t, 4, p.Attempts())
	assert.Zero(t, p.Jitter, "the default is exact")
	assert.Zero(t, p.Budget)
}

func TestDefaultPolicyWaitsAtMost400Milliseconds(t *testing.T) {
	p := Default()
	p.Retries = 8
	require.NoError(t, p.Validate())
	assert.Equal(t, []time.Duration{
		100 * ms, 200 * ms, 400 * ms, 400 * ms, 400 * ms, 400 * ms, 400 * ms, 400 * ms,
	}, delays(p))
}

func TestFixedPolicy(t *testing.T) {
	p := Fixed(3, 250*ms)
	require.NoError(t, p.Validate())
	assert.Equal(t, []time.Duration{250 * ms, 250 * ms, 250 * ms}, delays(p))
}

func TestZeroPolicyRetriesNothing(t *testing.T) {
	assert.Equal(t, Policy{}, None())
	require.NoError(t, None().Validate())
	assert.Equal(t, 1, None().Attempts())
	assert.Zero(t, None().Delay(1))
}

func TestDelayStaysWithinItsLimits(t *testing.T) {
	capped := Exponential(6, 100*ms, 3, time.Second)
	assert.Equal(t, []time.Duration{100 * ms, 300 * ms, 900 * ms, time.Second, time.Second, time.Second}, delays(capped))

	unbounded := Exponential(5000, time.Hour, 1e9, 0)
	assert.Equal(t, time.Duration(math.MaxInt64), unbounded.Delay(5000), "the power exceeds every float")
	assert.Zero(t, Exponential(5000, 0, 1e300, 0).Delay(5000), "0 times infinity")

	assert.Zero(t, capped.Delay(0), "there is no retry 0")
	assert.Zero(t, capped.Delay(7), "nor one after the last")
}

func TestJitterSpreadsEvenlyAroundTheDelay(t *testing.T) {
	p := Policy{Retries: 1, Base: time.Second, Jitter: 0.25}
	low, high := false, false
	for range 2000 {
		d := p.jittered(1)
		require.GreaterOrEqual(t, d, 750*ms)
		require.LessOrEqual(t, d, 1250*ms)
		low = low || d < 900*ms
		high = high || d > 1100*ms
	}
	assert.True(t, low && high, "delays fall on both sides")

	p.Max = time.Second
	for range 100 {
		require.LessOrEqual(t, p.jittered(1), time.Second, "Max limits the jitter too")
	}
}

func TestValidateNamesEachInvalidField(t *testing.T) {
	for name, test := range map[string]struct {
		policy Policy
		want   string
	}{
		"retries":         {Policy{Retries: -1}, "Retries is -1; it must be 0 or more"},
		"base":            {Policy{Base: -time.Second}, "Base is -1s; it must not be negative"},
		"multiplier":      {Policy{Multiplier: 0.5}, "Multiplier is 0.5; it must be a finite number of 1 or more (0 means 1)"},
		"negative":        {Policy{Multiplier: -2}, "Multiplier is -2; it must be a finite number of 1 or more (0 means 1)"},
		"NaN":             {Policy{Multiplier: math.NaN()}, "Multiplier is NaN; it must be a finite number of 1 or more (0 means 1)"},
		"infinite":        {Policy{Multiplier: math.Inf(1)}, "Multiplier is +Inf; it must be a finite number of 1 or more (0 means 1)"},
		"max":             {Policy{Max: -1}, "Max is -1ns; it must not be negative (0 means no limit)"},
		"base over max":   {Policy{Base: time.Minute, Max: time.Second}, "Base is 1m0s; it must not exceed Max, 1s"},
		"jitter":          {Policy{Jitter: 1.5}, "Jitter is 1.5; it must be a fraction between 0 and 1"},
		"jitter NaN":      {Policy{Jitter: math.NaN()}, "Jitter is NaN; it must be a fraction between 0 and 1"},
		"budget":          {Policy{Budget: -1}, "Budget is -1ns; it must not be negative (0 means no limit)"},
		"max retry after": {Policy{MaxRetryAfter: -1}, "MaxRetryAfter is -1ns; it must not be negative (0 means the default)"},
	} {
		t.Run(name, func(t *testing.T) {
			assert.EqualError(t, test.policy.Validate(), test.want)
		})
	}

	err := Policy{Retries: -1, Jitter: 2}.Validate()
	field, ok := errors.AsType[*FieldError](err)
	require.True(t, ok)
	assert.Equal(t, "Retries", field.Field)
	assert.ErrorContains(t, err, "Jitter is 2", "every invalid field is reported, not only the first")
}

func TestPolicyString(t *testing.T) {
	for want, policy := range map[string]Policy{
		"no retries": None(),
		"3 retries, after 100ms, then ×2 up to 400ms": Default(),
		"2 retries, each after 1s":                    Fixed(2, time.Second),
		"1 retry, after 1s":                           Fixed(1, time.Second),
		"9 retries, after 1s, then ×1.5, jitter ±10%, within 1m0s": {
			Retries: 9, Base: time.Second, Multiplier: 1.5, Jitter: 0.1, Budget: time.Minute},
	} {
		assert.Equal(t, want, policy.String())
	}
}
