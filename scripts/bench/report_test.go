package main

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestRatiosAreTakenRoundByRound(t *testing.T) {
	of := func(rounds ...[]time.Duration) series { return rounds }
	// The machine was ten times slower in the second round, for both alike.
	a := of([]time.Duration{30, 30, 90}, []time.Duration{300, 310, 900}, []time.Duration{40, 30, 30})
	b := of([]time.Duration{10, 11, 10}, []time.Duration{100, 100, 100}, []time.Duration{15, 15, 15})
	assert.InDelta(t, 3.0, a.ratio(b), 1e-9)
	assert.Equal(t, 40*time.Nanosecond, a.percentile(0.5))
	assert.Equal(t, 900*time.Nanosecond, a.percentile(0.99))
	assert.InDelta(t, 9.0/376e-9, b.rate(), 1)
}

func TestCheckNamesWhatIsNotAsExpected(t *testing.T) {
	figures := func(ours, handover float64) *report {
		return &report{
			Sections: []string{callsName, handoverName},
			Rows: []row{
				{Peer: gophersnakeName, Payload: "small", ToPipe: ours, ToGophersnake: 1},
				{Peer: grpcName, Payload: "small", ToGophersnake: 7, ToPipe: 7 * ours},
			},
			Tables: []table{{Section: handoverName, Figures: []figure{{"1 MiB", 1, 1.25}, {"64 MiB", 1, handover}}}},
		}
	}
	require.NoError(t, figures(1.2, 1.3).check())
	require.EqualError(t, figures(1.25, 1.3).check(), "calls: gophersnake is 1.25 times pipe; expected at most 1.2")
	require.EqualError(t, figures(1, 1.41).check(), "handover: 64 MiB is 1.41 times 64 B; expected at most 1.4")
	require.EqualError(t, figures(1, 1.5).check(), "handover: 64 MiB is 1.50 times 64 B; expected at most 1.4\n"+
		"handover: 64 MiB is 1.20 times 1 MiB; expected at most 1.15")
	returned := figures(1, 1)
	returned.Sections = []string{roundtripName}
	returned.Tables = []table{{Section: roundtripName, Figures: []figure{{roundtripReturned, 800, 3}, {roundtripNeeded, 700, 2.5}}}}
	require.NoError(t, returned.check())
	returned.Tables[0].Figures[0].Ratio = 3.5
	require.EqualError(t, returned.check(), "roundtrip: 4 MiB, returned, `Run` is 1.40 times the two copies of `Run` alone; expected at most 1.3")
	r := figures(1, 1)
	r.Rows[1].ToGophersnake = 6.9
	require.EqualError(t, r.check(), "calls: grpc is 6.90 times gophersnake; expected at least 7")
	r.Sections = []string{throughputName}
	require.EqualError(t, r.check(), "throughput: cannot check 64 in flight against 1 in flight: it was not measured")
}

func TestWhatTakesLongerIsTheDifferenceOfTheMedians(t *testing.T) {
	small, large, unit := series{{1, 2, 3}, {20}}, series{{10, 12, 99}, {220}}, series{{5}, {40}}
	assert.Equal(t, series{{10}, {200}}, large.minus(small))
	assert.InDelta(t, 2, large.minus(small).ratio(unit), 1e-9)
}

func TestProfilesBecomeTheTwoSides(t *testing.T) {
	folder := t.TempDir()
	for pid, text := range map[string]string{
		"20": "cmd: python standard_library.py pipe\nevents: Ir\nsummary: 300\n",
		"3":  "cmd: bench drive python pipe 5\nsummary: 100\n",
		"4":  "cmd: python standard_library.py pipe\nsummary: 200\n",
	} {
		require.NoError(t, os.WriteFile(filepath.Join(folder, pid), []byte(text), 0o600))
	}
	profiles, err := readProfiles(folder)
	require.NoError(t, err)
	of, err := splitBySide(pipeName, profiles)
	require.NoError(t, err)
	assert.Equal(t, instructions{caller: 200, worker: 300}, of)
	of, err = splitBySide(gophersnakeName, profiles)
	require.NoError(t, err)
	assert.Equal(t, instructions{caller: 100, worker: 500}, of, "the worker's side has its reaper")
	_, err = splitBySide(gophersnakeName, profiles[1:])
	require.ErrorContains(t, err, "2 processes")
	require.NoError(t, os.WriteFile(filepath.Join(folder, "5"), []byte("cmd: python"), 0o600))
	_, err = readProfiles(folder)
	require.ErrorContains(t, err, "no summary")
}

func TestSaveLeavesNothingHalfWritten(t *testing.T) {
	folder := t.TempDir()
	require.Error(t, (&report{}).save(filepath.Join(folder, "missing", "figures.json")))
	require.NoError(t, os.Mkdir(filepath.Join(folder, "figures.json"), 0o700))
	require.Error(t, (&report{}).save(filepath.Join(folder, "figures.json")))
	entries, err := os.ReadDir(folder)
	require.NoError(t, err)
	assert.Len(t, entries, 1)
}

func TestAPairIsComparedByTheRatiosOfItsRounds(t *testing.T) {
	var compared pairs
	for i := range 20 {
		load := float64(1 + i%5) // of the machine
		compared.add([]figure{{Name: "a", Value: 100 * load}, {Name: "only before", Value: 1}}, []figure{{Name: "new", Value: 1}, {Name: "a", Value: 110 * load}})
	}
	var out strings.Builder
	require.NoError(t, compared.markdown(&out))
	assert.Contains(t, out.String(), "1.100")
	assert.Contains(t, out.String(), "1.100 to 1.100")
	assert.NotContains(t, out.String(), "new")
	assert.NotContains(t, out.String(), "only before")
}

func TestAnIntervalHoldsTheMedianWithNinetyFivePercent(t *testing.T) {
	for n, want := range map[int][2]float64{1: {0, 0}, 5: {0, 4}, 6: {0, 5}, 9: {1, 7}, 20: {5, 14}, 30: {9, 20}} {
		values := make([]float64, n)
		for i := range values {
			values[n-1-i] = float64(i)
		}
		low, high := interval(values)
		assert.Equal(t, want, [2]float64{low, high}, n)
	}
}

func TestTheExponentIsThatOfTheCurve(t *testing.T) {
	lengths := []int{1, 5, 25, 100}
	for _, want := range []float64{0, 0.3, 1, -0.5} {
		costs := make([]float64, len(lengths))
		for i, length := range lengths {
			costs[i] = 40 * math.Pow(float64(length), want)
		}
		assert.InDelta(t, want, exponent(lengths, costs), 1e-9)
	}
}
