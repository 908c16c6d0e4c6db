package main

import (
	"context"
	"encoding/json"
	"flag"
	"io"
	"io/fs"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/manifest"
)

// Chaos in short: half of the pipelines, ten times as many faults as by hand.
func TestNoCallIsLostInAShortChaos(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("looks into /proc")
	}
	var out strings.Builder
	err := run(t.Context(), []string{"--time", "10s", "--rate", "0.04", "--strike", "150ms", "--json",
		"--pipelines", "ahead,sync,async,once_together,shared,stream"}, &out)
	require.NoError(t, err, out.String())
	var r report
	require.NoError(t, json.Unmarshal([]byte(out.String()), &r))
	assert.Equal(t, r.Calls, r.Answered)
	assert.Positive(t, r.Deaths)
	assert.NotEmpty(t, r.Struck)
	assert.Empty(t, r.Left)
	assert.Len(t, r.Pipelines, 6)
}

func TestTheSeedDecidesWhatGoesWrong(t *testing.T) {
	lanes := newLanes()
	told := func(seed uint64) string {
		var all strings.Builder
		planner := planner{seed: seed, rate: 0.3, lanes: lanes}
		for _, l := range lanes {
			for k := range uint64(100) {
				p := planner.plan(l, k)
				all.WriteString(p.String() + p.nap.String())
			}
		}
		aims := newAims(seed, lanes)
		for range 100 {
			of, which, b := aims.next()
			all.WriteString(of.name + b.name + string(rune(which)))
		}
		return all.String()
	}
	assert.Equal(t, told(1), told(1))
	assert.NotEqual(t, told(1), told(2))
	for _, f := range faults {
		assert.Contains(t, told(1), "fault: "+f.name)
	}
}

func TestWhatACallMayComeToDependsOnItsFault(t *testing.T) {
	plain, careful, broken := &lane{}, &lane{once: true}, &lane{breaker: true}
	raises, deep := &fault{own: execution}, &fault{own: marshaling, last: marshaling}
	for _, c := range []struct {
		p    plan
		want outcome
	}{
		{plan{lane: plain}, right},
		{plan{lane: plain, fault: raises}, execution},
		{plan{lane: plain, fault: raises, once: true}, right},
		{plan{lane: plain, fault: deep, once: true}, right | marshaling},
		{plan{lane: careful, fault: raises, once: true}, right | execution},
		{plan{lane: plain, fault: raises, stop: 1}, right | execution},
		{plan{lane: broken}, right | refused},
		{plan{lane: plain, cancel: 1}, right | cancelled},
		{plan{lane: plain, cancel: 1, fault: raises}, execution | cancelled},
	} {
		assert.Equal(t, c.want, c.p.allowed(), "%v", c.p)
	}
}

func TestTheArgumentsAreChecked(t *testing.T) {
	for args, says := range map[string]string{
		"":                                "how much",
		"--time 1m --calls 5":             "how much",
		"--time -1s":                      "how much",
		"--calls 5 --rate 2":              "between 0 and 1",
		"--calls 5 --strike 0s":           "must be positive",
		"--calls 5 all":                   `what is "all"?`,
		"--calls 5 --pipelines sync,rain": `no pipeline "rain"; there are: sync, ahead`,
		"--speed 5":                       "not defined",
	} {
		require.ErrorContains(t, run(t.Context(), strings.Fields(args), &strings.Builder{}), says)
	}
	var out strings.Builder
	require.ErrorIs(t, run(t.Context(), []string{"--help"}, &out), flag.ErrHelp)
	assert.Contains(t, out.String(), "go run ./scripts/chaos --seed 1 --time 10m")
}

func TestWhatIsUnderWayForTooLongIsTold(t *testing.T) {
	w := newWatch(time.Nanosecond)
	done := w.begin("a call")
	told := make(chan []string, 1)
	w.follow(t.Context(), func(what []string) { told <- what })
	assert.Contains(t, (<-told)[0], "a call, for ")
	done()
	assert.Empty(t, w.overdue())

	c, err := newChaos(config{stuck: time.Minute, calls: 1}, io.Discard)
	require.NoError(t, err)
	r, err := runner.New(&manifest.Pipeline{Version: "v1", Nodes: []manifest.Node{manifest.NewNode("sum", "sum_in_go")}},
		runner.WithNode("sum_in_go", sumInGo))
	require.NoError(t, err)
	defer r.Close(t.Context())
	var out strings.Builder
	c.tellStuck([]string{"a call"}, []*runner.Runner{r}, &out)
	assert.Contains(t, out.String(), "violation: no answer within 1m0s:\n  a call\nsync:\n")
	assert.Contains(t, out.String(), "TestWhatIsUnderWayForTooLongIsTold")
}

func TestAPipelineThatCannotStartIsTheMachinesFault(t *testing.T) {
	c, err := newChaos(config{calls: 1, lanes: []string{"sync"}}, io.Discard)
	require.NoError(t, err)
	require.ErrorIs(t, c.visit(t.Context(), t.TempDir()), fs.ErrNotExist)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = c.run(ctx)
	require.ErrorIs(t, err, context.Canceled)
}
