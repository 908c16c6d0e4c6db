package main

import (
	"context"
	"fmt"
	"math"
	"runtime"
	"slices"
	"time"
)

// running is a peer that has been set up.
type running struct {
	contender
	peer
}

// series is what one peer took for one payload, round by round.
type series struct {
	peer    contender
	payload payload
	rounds  [][]time.Duration
}

// measurePayload lets the peers take turns with one payload: A B C D, A B C D,
// and so on, so that what else the machine does meets all of them alike.
func measurePayload(ctx context.Context, peers []running, load payload, rounds, calls int) ([]series, error) {
	all := make([]series, len(peers))
	for i, p := range peers {
		all[i] = series{peer: p.contender, payload: load}
	}
	calls = max(calls/load.fewer, 1)
	warmup := max(5, calls/5)
	for range rounds {
		for i, p := range peers {
			runtime.GC() // nobody pays for the garbage of the one before
			took, err := p.measure(ctx, load, warmup, calls)
			if err != nil {
				return nil, fmt.Errorf("peer %s, payload %s: %w", p.name, load.name, err)
			}
			all[i].rounds = append(all[i].rounds, took)
		}
	}
	return all, nil
}

// percentile returns the value that q of all calls do not exceed, by nearest rank.
func (s series) percentile(q float64) time.Duration {
	return percentile(slices.Concat(s.rounds...), q)
}

// rate returns the calls made in a second, one after the other.
func (s series) rate() float64 {
	var total time.Duration
	calls := 0
	for _, round := range s.rounds {
		calls += len(round)
		for _, took := range round {
			total += took
		}
	}
	return float64(calls) / total.Seconds()
}

// ratio returns how many times as long as other this peer takes: the median of
// the ratios of the rounds' medians, which were measured side by side.
func (s series) ratio(other series) float64 {
	ratios := make([]float64, len(s.rounds))
	for i := range s.rounds {
		ratios[i] = float64(percentile(s.rounds[i], 0.5)) / float64(percentile(other.rounds[i], 0.5))
	}
	return percentile(ratios, 0.5)
}

func percentile[T int64 | float64 | time.Duration](values []T, q float64) T {
	sorted := slices.Sorted(slices.Values(values))
	rank := int(math.Ceil(q * float64(len(sorted))))
	return sorted[max(rank, 1)-1]
}
