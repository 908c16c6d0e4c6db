package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
)

// event is a record of the program or of its worker: the entry or the exit of a function, a
// mark, or a send by the worker.
type event struct {
	At       int64
	Thread   uint64
	Exit     bool
	Function int    // Go: the index of the function
	Mark     string // Go: "begin 7", "end 7"
	File     string // Python: the file of the function; a send has none
	Line     int    // Python: the first line of the function

	isPython, isSend bool
}

// readEvents reads the records of both processes, in the order of time. It looks up Python's
// functions in functions, and leaves out those that are not part of the project.
func readEvents(work string, functions []function) ([]event, error) {
	var events, python []event
	if err := readJSON(filepath.Join(work, "go.json"), &events); err != nil {
		return nil, err
	}
	if err := readJSON(filepath.Join(work, "python.json"), &python); err != nil {
		return nil, err
	}
	type position struct {
		file string
		line int
	}
	known := map[position]int{}
	for i, f := range functions {
		if f.language() == "python" {
			known[position{f.File, f.Line}] = i
		}
	}
	for _, e := range python {
		e.isPython, e.isSend = true, e.File == ""
		if !e.isSend {
			name := nodeFile
			if i := strings.LastIndex(e.File, "/gophersnake/"); i >= 0 {
				name = "pyworker" + e.File[i:]
			}
			var found bool
			if e.Function, found = known[position{name, e.Line}]; !found {
				continue
			}
		}
		events = append(events, e)
	}
	sort.SliceStable(events, func(i, j int) bool { return events[i].At < events[j].At })
	return events, nil
}

func readJSON(name string, into any) error {
	data, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, into); err != nil {
		return fmt.Errorf("read %s: %w", filepath.Base(name), err)
	}
	return nil
}

// thread identifies a goroutine or a thread of the worker.
type thread struct {
	isPython bool
	id       uint64
}

// traced returns the visits of each traced call. The worker's visits stand together, at the
// time of the first one, when the call's frame arrived. They end with the worker's last send.
func traced(events []event) [][]visit {
	var all [][]visit
	stacks := map[thread][]int{}
	var golang, python []visit
	at, sent := 0, 0 // the worker's visits: their index in golang, and their number at the last send
	seen := map[int]bool{}
	isOn := false
	for _, e := range events {
		switch {
		case strings.HasPrefix(e.Mark, "begin"):
			isOn, golang, python, seen, sent = true, nil, nil, map[int]bool{}, 0
		case strings.HasPrefix(e.Mark, "end"):
			isOn = false
			visits := append([]visit{}, golang[:at]...)
			visits = append(visits, python[:sent]...)
			all = append(all, append(visits, golang[at:]...))
		case e.isSend:
			sent = len(python)
		default:
			t := thread{e.isPython, e.Thread}
			visits := step(stacks, t, e, seen)
			if !isOn {
				continue
			}
			for _, v := range visits {
				seen[v.function] = true
			}
			if !e.isPython {
				golang = append(golang, visits...)
				continue
			}
			if len(python) == 0 {
				at = len(golang)
			}
			python = append(python, visits...)
		}
	}
	return all
}

// step applies an entry or an exit to the stack of its thread. It returns the visits that
// follow from it: the function that was entered, and functions that were entered before the
// call began, were not seen since then, and have control now.
func step(stacks map[thread][]int, t thread, e event, seen map[int]bool) []visit {
	stack := stacks[t]
	top := func() int {
		if len(stack) == 0 {
			return outside
		}
		return stack[len(stack)-1]
	}
	var visits []visit
	if !e.Exit {
		if caller := top(); caller != outside && !seen[caller] { // it was woken
			visits = append(visits, visit{function: caller, from: outside, depth: len(stack) - 1})
		}
		stacks[t] = append(stack, e.Function)
		return append(visits, visit{function: e.Function, from: top(), depth: len(stack)})
	}
	if !seen[e.Function] {
		visits = append(visits, visit{function: e.Function, from: outside, depth: len(stack) - 1})
	}
	for i := len(stack) - 1; i >= 0; i-- {
		if stack[i] == e.Function {
			stack = stack[:i]
			break
		}
	}
	stacks[t] = stack
	if caller := top(); caller != outside && !seen[caller] {
		visits = append(visits, visit{function: caller, from: e.Function, isReturn: true, depth: len(stack) - 1})
	}
	return visits
}
