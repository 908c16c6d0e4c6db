package manifest

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// maxProblems is how many problems are kept; a file of another kind altogether
// would have thousands.
const maxProblems = 100

// Problem is one thing that is wrong with a manifest.
type Problem struct {
	// File is the manifest, or the requirements file that it names. It is empty
	// where the pipeline was made in Go.
	File string
	// Line and Column are counted from 1, and 0 where they are not known.
	Line, Column int
	// Path leads to the place inside the document, for instance
	// "nodes[2].timeout"; it is empty for the document itself.
	Path string
	// Message says what is wrong, and what to write instead.
	Message string
	// Suggestion is the known name nearest to an unknown one, if any is near.
	Suggestion string
}

// String returns the problem in one line.
func (p Problem) String() string {
	var b strings.Builder
	switch {
	case p.Line > 0:
		fmt.Fprintf(&b, "%s:%d:%d: ", p.File, p.Line, p.Column)
	case p.File != "":
		fmt.Fprintf(&b, "%s: ", p.File)
	}
	if p.Path != "" {
		fmt.Fprintf(&b, "%s: ", p.Path)
	}
	b.WriteString(p.Message)
	if p.Suggestion != "" {
		fmt.Fprintf(&b, "; did you mean %q?", p.Suggestion)
	}
	return b.String()
}

// Errors is all that is wrong with a manifest, in the order of its text. There
// is at least one problem.
type Errors struct {
	Problems []Problem
	// Omitted is how many further problems there are.
	Omitted int
	// Syntax says that the document could not be read as YAML or JSON at all, so
	// that nothing is known of its content.
	Syntax bool
}

// Error returns the problems, one a line.
func (e *Errors) Error() string {
	lines := make([]string, 0, len(e.Problems)+1)
	for _, p := range e.Problems {
		lines = append(lines, p.String())
	}
	if e.Omitted > 0 {
		lines = append(lines, fmt.Sprintf("and %d more", e.Omitted))
	}
	return strings.Join(lines, "\n")
}

// report gathers the problems of one manifest.
type report struct {
	file string
	// positions says where the parts of the document are, by path.
	positions map[string]Position
	// settled holds the paths that a problem has been told of. What follows from
	// it is not told again.
	settled  map[string]bool
	problems []Problem
	omitted  int
}

func newReport(file string) *report {
	return &report{file: file, positions: make(map[string]Position), settled: make(map[string]bool)}
}

// full says that further problems are only counted, so that nothing need be spent
// on their wording.
func (r *report) full() bool { return len(r.problems) == maxProblems }

// add tells of a problem.
func (r *report) add(p Problem) {
	r.settled[p.Path] = true
	if r.full() {
		r.omitted++
		return
	}
	r.problems = append(r.problems, p)
}

// at tells of a problem at a path, unless it follows from one already told.
func (r *report) at(path, format string, args ...any) {
	r.suggest(path, "", format, args...)
}

// suggest is at with the name that may be meant.
func (r *report) suggest(path, suggestion, format string, args ...any) {
	for outer := path; outer != ""; outer = parent(outer) {
		if r.settled[outer] {
			return
		}
	}
	pos := r.locate(path)
	r.add(Problem{
		File: r.file, Line: pos.Line, Column: pos.Column,
		Path: path, Message: fmt.Sprintf(format, args...), Suggestion: suggestion,
	})
}

// locate returns the position of a path, or of the nearest part around it.
func (r *report) locate(path string) Position {
	for {
		if pos, ok := r.positions[path]; ok || path == "" {
			return pos
		}
		path = parent(path)
	}
}

// err returns the problems in the order of the text, or nil.
func (r *report) err() error {
	if len(r.problems) == 0 {
		return nil
	}
	slices.SortStableFunc(r.problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return &Errors{Problems: r.problems, Omitted: r.omitted}
}

// parent returns the path of what a path's last step is in: that of nodes[2].id
// is nodes[2], whose own is nodes.
func parent(path string) string {
	return path[:max(strings.LastIndexAny(path, ".["), 0)]
}
