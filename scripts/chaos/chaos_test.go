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

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/manifest"
)

// A short run: half of the pipelines, and ten times as many faults as by default.
func TestNoCallIsLostInAShortChaos(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("needs /proc")
	}
	var out strings.Builder
	err := run(t.Context(), []string{"--time", "10s", "--rate", "0.04", "--inject-every", "150ms", "--json",
		"--pipelines", "ahead,sync,async,once_together,shared,stream"}, &out)
	require.NoError(t, err, out.String())
	var r report
	require.NoError(t, json.Unmarshal([]byte(out.String()), &r))
	assert.Equal(t, r.Calls, r.Answered)
	assert.Positive(t, r.Deaths)
	assert.NotEmpty(t, r.Injected)
	assert.Empty(t, r.Leaks)
	assert.Len(t, r.Pipelines, 6)
}

func TestTheSeedDeterminesFaultsAndInjections(t *testing.T) {
	targets := newTargets()
	planned := func(seed uint64) string {
		var all strings.Builder
		planner := planner{seed: seed, rate: 0.3, targets: targets}
		for _, t := range targets {
			for k := range uint64(100) {
				p := planner.plan(t, k)
				all.WriteString(p.String() + p.nap.String())
			}
		}
		schedule := newSchedule(seed, targets)
		for range 100 {
			t, choice, in := schedule.next()
			all.WriteString(t.name + in.name + string(rune(choice)))
		}
		return all.String()
	}
	assert.Equal(t, planned(1), planned(1))
	assert.NotEqual(t, planned(1), planned(2))
	for _, f := range faults {
		assert.Contains(t, planned(1), "fault: "+f.name)
	}
}

func TestTheAllowedOutcomesDependOnTheFault(t *testing.T) {
	plain, careful, broken := &target{}, &target{nonIdempotent: true}, &target{breaker: true}
	raises, deep := &fault{own: execution}, &fault{own: marshaling, notRetried: marshaling}
	for _, c := range []struct {
		p    plan
		want outcome
	}{
		{plan{target: plain}, right},
		{plan{target: plain, fault: raises}, execution},
		{plan{target: plain, fault: raises, firstOnly: true}, right},
		{plan{target: plain, fault: deep, firstOnly: true}, right | marshaling},
		{plan{target: careful, fault: raises, firstOnly: true}, right | execution},
		{plan{target: plain, fault: raises, stopAfter: 1}, right | execution},
		{plan{target: broken}, right | refused},
		{plan{target: plain, cancelAfter: 1}, right | canceled},
		{plan{target: plain, cancelAfter: 1, fault: raises}, execution | canceled},
	} {
		assert.Equal(t, c.want, c.p.allowed(), "%v", c.p)
	}
}

func TestTheArgumentsAreChecked(t *testing.T) {
	for args, says := range map[string]string{
		"":                                "give either",
		"--time 1m --calls 5":             "give either",
		"--time -1s":                      "give either",
		"--calls 5 --rate 2":              "between 0 and 1",
		"--calls 5 --inject-every 0s":     "must be positive",
		"--calls 5 all":                   `unexpected argument "all"`,
		"--calls 5 --pipelines sync,rain": `no pipeline "rain"; there are: sync, ahead`,
		"--speed 5":                       "not defined",
	} {
		require.ErrorContains(t, run(t.Context(), strings.Fields(args), &strings.Builder{}), says)
	}
	var out strings.Builder
	require.ErrorIs(t, run(t.Context(), []string{"--help"}, &out), flag.ErrHelp)
	assert.Contains(t, out.String(), "go run ./scripts/chaos --seed 1 --time 10m")
}

func TestOverdueOperationsAreReported(t *testing.T) {
	w := newWatchdog(time.Nanosecond)
	done := w.track("a call")
	reported := make(chan []string, 1)
	w.run(t.Context(), func(overdue []string) { reported <- overdue })
	assert.Contains(t, (<-reported)[0], "a call, for ")
	done()
	assert.Empty(t, w.overdue())

	c, err := newChaos(config{stuck: time.Minute, calls: 1}, io.Discard)
	require.NoError(t, err)
	r, err := runner.New(&manifest.Pipeline{Version: "v1", Nodes: []manifest.Node{manifest.NewNode("sum", "sum_in_go")}},
		runner.WithNode("sum_in_go", sumInGo))
	require.NoError(t, err)
	defer func() { assert.NoError(t, r.Close(t.Context())) }()
	var out strings.Builder
	c.reportStuck([]string{"a call"}, []*runner.Runner{r}, &out)
	assert.Contains(t, out.String(), "violation: no answer within 1m0s:\n  a call\nsync:\n")
	assert.Contains(t, out.String(), "TestOverdueOperationsAreReported")
}

func TestAPipelineThatCannotStartIsAnErrorOfTheRun(t *testing.T) {
	c, err := newChaos(config{calls: 1, pipelines: []string{"sync"}}, io.Discard)
	require.NoError(t, err)
	require.ErrorIs(t, c.openOnce(t.Context(), t.TempDir()), fs.ErrNotExist)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = c.run(ctx)
	require.ErrorIs(t, err, context.Canceled)
}

// All attacks are known to the nodes, and each of the neighbors' answers is checked.
func TestTheHostileTargetChecksItsNeighbors(t *testing.T) {
	targets := newHostileTargets()
	require.Len(t, targets, 1)
	assert.Len(t, targets[0].faults, len(attacks))
	for _, a := range attacks {
		found := false
		for _, file := range []string{"protocol", "memory", "system", "text"} {
			source, err := embedded.ReadFile("python/hostile/" + file + ".py")
			require.NoError(t, err)
			found = found || strings.Contains(string(source), "def "+a.name+"(given: Any)")
		}
		assert.True(t, found, "no node makes the attack %s", a.name)
	}
	p := plan{target: targets[0], number: 7}
	answers := func() map[string]any {
		all := map[string]any{attacker: map[string]any{"seen": []any{}}}
		for _, name := range neighbors {
			_, data := p.pattern(name)
			all[name] = map[string]any{"data": tensorOf(data), "seen": []any{}}
		}
		return all
	}
	require.NoError(t, p.checkNeighbors(answers()))
	for says, change := range map[string]func(map[string]any){
		"the data of right was changed":       func(all map[string]any) { all["right"].(map[string]any)["data"].(*ipc.Tensor).Data[dataSize-1]++ },
		"the data of left was changed":        func(all map[string]any) { all["left"].(map[string]any)["data"] = nil },
		"left returned <nil>":                 func(all map[string]any) { all["left"] = nil },
		"left sees the data of [right]":       func(all map[string]any) { all["left"].(map[string]any)["seen"] = []any{"right"} },
		"the attacker sees the data of [left": func(all map[string]any) { all[attacker].(map[string]any)["seen"] = []any{"left"} },
	} {
		all := answers()
		change(all)
		require.ErrorContains(t, p.checkNeighbors(all), says)
	}
	assert.Equal(t, anything, p.allowed()|anything)
}
