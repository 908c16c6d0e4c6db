package main

import (
	"math"
	"slices"
	"time"
)

// series is what something took, round by round.
type series [][]time.Duration

// percentile returns the value that q of all calls do not exceed, by nearest rank.
func (s series) percentile(q float64) time.Duration {
	return percentile(slices.Concat(s...), q)
}

// rate returns the calls made in a second, one after the other.
func (s series) rate() float64 {
	var total time.Duration
	calls := 0
	for _, round := range s {
		calls += len(round)
		for _, took := range round {
			total += took
		}
	}
	return float64(calls) / total.Seconds()
}

// ratio returns how many times as long as other this takes: the median of the
// ratios of the rounds' medians, which were measured side by side.
func (s series) ratio(other series) float64 {
	ratios := make([]float64, len(s))
	for i := range s {
		ratios[i] = float64(percentile(s[i], 0.5)) / float64(percentile(other[i], 0.5))
	}
	return percentile(ratios, 0.5)
}

func percentile[T int64 | float64 | time.Duration](values []T, q float64) T {
	sorted := slices.Sorted(slices.Values(values))
	rank := int(math.Ceil(q * float64(len(sorted))))
	return sorted[max(rank, 1)-1]
}

func microseconds(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// less returns by how much the median of each round exceeds that of other.
func (s series) less(other series) series {
	difference := make(series, len(s))
	for i := range s {
		difference[i] = []time.Duration{percentile(s[i], 0.5) - percentile(other[i], 0.5)}
	}
	return difference
}
