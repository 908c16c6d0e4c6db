package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/retry"
	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/scripts/internal/procs"
	"github.com/gophersnake/gophersnake/scripts/internal/violations"
)

func TestTheLedgerTakesOneAnswerForEachCall(t *testing.T) {
	of := &target{name: "sync"}
	p := plan{target: of}
	l := newLedger(1)
	first, second := l.issue(of), l.issue(of)
	l.settle(p, first, right, right, "")
	l.close()
	require.Len(t, l.violations.Texts(), 1)
	assert.Equal(t, "1 of 2 calls got no answer", l.violations.Texts()[0])
	l.settle(p, second, vm, right|collateral, "")
	l.close()
	assert.Len(t, l.violations.Texts(), 1)
	assert.Equal(t, map[string]int{p.target.name: 1}, l.bystanders)
	l.settle(p, first, right, right, "")
	assert.Contains(t, l.violations.Texts()[1], "a second answer")
	l.settle(p, l.issue(of), execution, right|vm, "the story")
	assert.Contains(t, l.violations.Texts()[2], "the outcome is execution; allowed: right or python_vm\nthe story")
	for range violations.MostReported {
		l.violations.Add("again")
	}
	assert.Len(t, l.violations.Texts(), violations.MostReported)
	assert.Equal(t, violations.MostReported+3, l.violations.Count())
}

func TestTheLedgerFindsCallsThatWereExecutedTwice(t *testing.T) {
	targets := []*target{{name: "sync"}, {index: 1, name: "once", nonIdempotent: true}}
	l := newLedger(2)
	for range 3 { // the calls 1, 3 and 5
		l.settle(plan{target: targets[1]}, l.issue(targets[1]), right, right, "")
	}
	path := filepath.Join(t.TempDir(), "executed")
	assert.Zero(t, l.checkExecuted(path, nil), "there is none")
	require.NoError(t, os.WriteFile(path, []byte("1\n3\n1\n1\nx\n"), 0o600))
	assert.Equal(t, 5, l.checkExecuted(path, targets))
	assert.Equal(t, []string{
		"call 1 was executed twice",
		`the file of executed calls holds "x"`,
		"call 5 was answered, but not executed",
	}, l.violations.Texts())
	l.checkExecuted(t.TempDir(), nil)
	assert.Contains(t, l.violations.Texts()[3], "is a directory")
}

func TestErrorsAreClassified(t *testing.T) {
	p := plan{number: 7, target: &target{}}
	for _, c := range []struct {
		err  error
		want outcome
	}{
		{nil, right},
		{runner.NewError(runner.KindExecution, "call 7 is refused"), execution},
		{runner.NewError(runner.KindExecution, "call 8 is refused"), other},
		{runner.NewError(runner.KindPythonVM, ""), vm},
		{runner.NewError(runner.KindTransport, ""), transport},
		{runner.NewError(runner.KindMarshaling, ""), marshaling},
		{runner.NewError(runner.KindIO, ""), other},
		{runner.Wrap(retry.ErrOpen, runner.KindOther, ""), refused},
		{runner.Wrap(os.ErrDeadlineExceeded, runner.KindOther, ""), other},
		{errors.New("what?"), other},
	} {
		got, _ := classify(p, c.err)
		assert.Equal(t, c.want, got, "%v", c.err)
	}
}

func TestWrongAnswersAreFound(t *testing.T) {
	p := plan{number: 12, target: &target{}, size: 20, items: 3}
	message := map[string]any{"n": int64(12), "sum": p.sum(), "data": []byte{}}
	for says, err := range map[string]error{
		"the answer is <nil>":  p.checkMessage(nil),
		"is that of call 13":   p.checkMessage(map[string]any{"n": int64(13)}),
		"the sum is 1":         p.checkMessage(map[string]any{"n": int64(12), "sum": int64(1)}),
		"the data, of 0 bytes": p.checkMessage(message),
		"instead of 1 parts":   p.checkMany([]any{}),
		"part 0 is 5":          p.checkMany([]any{5}),
		"the answer is string": p.checkArray("no"),
		"and holds <nil>":      p.checkArray(map[string]any{}),
		"instead of map[n:12":  p.checkChain(map[string]any{"n": int64(12), "same": false}),
	} {
		require.ErrorContains(t, err, says)
	}
	short := p
	short.size--
	array := short.arrayMessage().(map[string]any)
	require.ErrorContains(t, p.checkArray(array), "27 elements instead of 28")
	require.ErrorContains(t, short.checkArray(array), "element 0 of 27 is 12")
}

func TestMemoryIsComparedWithThatAfterTheFirstMinute(t *testing.T) {
	m := memory{peak: 120 << 20}
	for i, size := range []int64{90, 91, 92, 105, 104, 106, 111, 115, 140, 103, 102, 101} {
		m.samples = append(m.samples, sample{time.Duration(i) * 20 * time.Second, size << 20})
	}
	f := m.figures()
	assert.Equal(t, memoryFigures{Settled: 104 << 20, Least: 101 << 20, Most: 111 << 20, Peak: 120 << 20, Minutes: []int64{104 << 20, 111 << 20, 101 << 20}}, f)
	require.NoError(t, f.check())
	assert.Equal(t, "104.0 MiB after the first minute, then 101.0 MiB to 111.0 MiB (-2.9 % to +6.7 %), 0.0 MiB of it shared at the end; 120.0 MiB at most with garbage\n"+
		"  minute by minute: 104.0 MiB, 111.0 MiB, 101.0 MiB", f.String())
	f.Most = 116 << 20
	require.ErrorContains(t, f.check(), "was 104.0 MiB after the first minute, then 101.0 MiB to 116.0 MiB")
	f.Most, f.Least = f.Settled, 90<<20
	require.Error(t, f.check())

	small := memoryFigures{Settled: 37 << 20, Least: 32 << 20, Most: 40 << 20, Minutes: []int64{37 << 20, 40 << 20}}
	require.NoError(t, small.check(), "a few MiB are no leak")

	short := memory{samples: m.samples[:5]}
	assert.Contains(t, short.figures().String(), "too short")
	require.NoError(t, short.figures().check())
}

func TestLeaksAreDescribed(t *testing.T) {
	before := resources{goroutines: 3}
	assert.Empty(t, before.since(before))
	now := resources{residue: procs.Residue{Descriptors: 1}, goroutines: 4, processes: []int{5}, files: []string{"socket"}}
	assert.Equal(t, []string{
		"1 descriptors, 0 before", "4 goroutines, 3 before", "processes [5]", "temporary files [socket]",
	}, now.since(before))
}

func TestTheReportListsViolations(t *testing.T) {
	r := &report{Seed: 3, Calls: 2, Answered: 1, Violations: []string{"1 of 2 calls got no answer"}, Count: 1,
		Table: map[string]map[string]int{noFault: {"right": 1}}}
	var out strings.Builder
	require.NoError(t, r.write(&out, false))
	assert.Contains(t, out.String(), "none of its own      1")
	assert.Contains(t, out.String(), "violation: 1 of 2 calls got no answer\nviolations: 1\n")
	assert.Contains(t, out.String(), "injected signals and reloads: none")
}
