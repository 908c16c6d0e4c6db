package main

import (
	"fmt"
	"go/parser"
	"go/token"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// house is a project of three files: big functions in a.go, b.go and c.py, small ones
// in a.go and b.go.
var house = []function{
	{File: "a.go", Name: "A", Lines: 30},
	{File: "b.go", Name: "B", Lines: 30},
	{File: "c.py", Name: "C", Lines: 30},
	{File: "a.go", Name: "A2", Lines: 30},
	{File: "b.go", Name: "small", Lines: longestTrivial},
	{File: nodeFile, Name: "echo", Lines: 1},
}

func visits(pairs ...[2]int) []visit {
	var all []visit
	for _, p := range pairs {
		all = append(all, visit{function: p[0], from: p[1]})
	}
	return all
}

func names(p path) string {
	var all []string
	for _, s := range p.Stops {
		name := s.Function
		if s.Jump {
			name = "<-" + name
		}
		all = append(all, name)
	}
	return strings.Join(all, " ")
}

func TestFollowCountsStopsAndJumps(t *testing.T) {
	for name, c := range map[string]struct {
		visits []visit
		want   string
		files  int
	}{
		"each file once":                      {visits([2]int{0, outside}, [2]int{1, 0}, [2]int{2, 1}), "A B C", 3},
		"a function counts once":              {visits([2]int{0, outside}, [2]int{1, 0}, [2]int{1, 0}), "A B", 2},
		"a callback is a jump back":           {visits([2]int{0, outside}, [2]int{1, 0}, [2]int{3, 1}), "A B <-A2", 2},
		"the own file is no stop":             {visits([2]int{0, outside}, [2]int{1, 0}, [2]int{3, 0}), "A B", 2},
		"a later entry from elsewhere counts": {visits([2]int{0, outside}, [2]int{3, 0}, [2]int{1, 0}, [2]int{3, 1}), "A B <-A2", 2},
		"the file just seen is no jump":       {visits([2]int{0, outside}, [2]int{3, outside}), "A A2", 1},
		"a small function that calls nothing": {visits([2]int{0, outside}, [2]int{4, 0}), "A", 1},
		"a small function that calls":         {visits([2]int{0, outside}, [2]int{4, 0}, [2]int{2, 4}), "A small C", 3},
		"the node function":                   {visits([2]int{0, outside}, [2]int{5, 0}), "A echo", 2},
		"a return to what waited": {
			[]visit{{function: 1, from: outside}, {function: 4, from: 2, isReturn: true}}, "B small", 1,
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := follow(c.visits, house, longestTrivial)
			require.Equal(t, c.want, names(p))
			require.Equal(t, c.files, p.Files)
			require.Equal(t, strings.Count(c.want, "<-"), p.Jumps)
		})
	}
}

func TestMostCommonIsTheWayOfMost(t *testing.T) {
	one, other := follow(visits([2]int{0, outside}), house, longestTrivial), follow(visits([2]int{1, outside}), house, longestTrivial)
	best, alike := mostCommon([]path{one, other, other})
	require.Equal(t, "B", names(best))
	require.Equal(t, 2, alike)
}

// The worker waits in C, called by B's Python twin, when the call begins: both are
// visited when the frame arrives. What it enters after its last send is not the call's.
func TestTracedPutsTheWorkerBetweenWriteAndRead(t *testing.T) {
	enter := func(function int) event { return event{Thread: 1, Function: function} }
	exit := func(function int) event { return event{Thread: 1, Function: function, Exit: true} }
	python := func(e event) event { e.isPython = true; return e }
	all := traced([]event{
		python(enter(5)), python(enter(2)),
		{Function: -1, Mark: "begin 0"},
		enter(0), enter(1),
		python(exit(2)), exit(1), python(enter(4)), enter(3), // the processes run side by side
		{isPython: true, isSend: true},
		python(exit(4)), python(enter(2)),
		exit(3), exit(0),
		{Function: -1, Mark: "end 0"},
		enter(1),
	})
	require.Equal(t, [][]visit{{
		{function: 0, from: outside},
		{function: 1, from: 0, depth: 1},
		{function: 2, from: outside, depth: 1},
		{function: 5, from: 2, isReturn: true},
		{function: 4, from: 5, depth: 1},
		{function: 3, from: 0, depth: 1},
	}}, all)
}

const source = `package p // a package

import "fmt"

type T[K any] struct{}

func (t *T[K]) Show() { fmt.Println(func() int { return 1 }()) }

func two() (n int) {
	return 2
}

var three = func() {}
`

func TestInstrumentKeepsLinesAndNamesAllFunctions(t *testing.T) {
	text, functions, err := instrument("p.go", []byte(source), 7)
	require.NoError(t, err)
	_, err = parser.ParseFile(token.NewFileSet(), "p.go", text, 0)
	require.NoError(t, err)
	require.Equal(t, strings.Count(source, "\n"), strings.Count(string(text), "\n"))
	var got []string
	for i, f := range functions {
		got = append(got, fmt.Sprint(f.Name, " ", f.Line, " ", f.Lines))
		require.Contains(t, string(text), fmt.Sprintf("defer hopsrecorder.Enter(%d)();", 7+i))
	}
	require.Equal(t, []string{"(*T).Show 7 1", "(*T).Show.func1 7 1", "two 9 3", "init.func1 13 1"}, got)
}

func TestMeasureTakesTheNearestRankOfDeclaredFunctions(t *testing.T) {
	var functions []function
	for n := range 20 {
		functions = append(functions, function{File: "a.go", Name: fmt.Sprint("f", n), Lines: n + 1})
	}
	functions = append(functions, function{Lines: 99, isLiteral: true})
	require.Equal(t, lengths{Functions: 20, Longest: 20, P90: 18, Name: "a.go f19"}, measure(functions))
	require.Equal(t, lengths{}, measure(nil))
}

func TestTracedVisitsAFunctionThatWasWoken(t *testing.T) {
	all := traced([]event{
		{Thread: 1, Function: 0}, // waits
		{Function: -1, Mark: "begin 0"},
		{Thread: 1, Function: 1},
		{Function: -1, Mark: "end 0"},
	})
	require.Equal(t, [][]visit{{{function: 0, from: outside}, {function: 1, from: 0, depth: 1}}}, all)
}
