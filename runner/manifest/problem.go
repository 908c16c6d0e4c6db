package manifest

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/agnivade/levenshtein"
)

// maxProblems is how many problems are kept. A file that is not a manifest at all
// would have thousands.
const maxProblems = 100

// Problem is one error in a manifest.
type Problem struct {
	// File is the manifest's file as the caller named it; empty if there is none.
	File string
	// Line and Column are counted from 1, columns in characters. They are 0 if the
	// position is unknown.
	Line, Column int
	// Path is the path of the value inside the document, for instance
	// "nodes[2].timeout"; empty means the document itself.
	Path string
	// Message says what is wrong, and what to write instead.
	Message string
	// Suggestion is the known name most similar to an unknown one; empty if none is
	// similar.
	Suggestion string
}

// String returns the problem in one line: file, line, column, path, message and
// suggestion, without those that are unknown.
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

// Errors is the error of an invalid manifest. It holds all problems, not only the
// first.
type Errors struct {
	// Problems are in the order of the text; there is at least one and at most 100.
	Problems []Problem
	// Omitted is the number of further problems.
	Omitted int
	// Syntax says that the document is not valid YAML or JSON, so that its content
	// was not checked.
	Syntax bool
}

// Error returns the problems, one per line.
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

// report collects the problems of one manifest.
type report struct {
	file string
	// positions are the positions of the document's values, by path.
	positions map[string]Position
	// reported are the paths that have a problem already. Problems that follow from
	// it are not reported.
	reported map[string]bool
	problems []Problem
	omitted  int
}

func newReport(file string) *report {
	return &report{file: file, positions: make(map[string]Position), reported: make(map[string]bool)}
}

// full reports whether further problems are only counted, so that the caller can save
// the work for their text.
func (r *report) full() bool { return len(r.problems) == maxProblems }

// add reports a problem.
func (r *report) add(p Problem) {
	r.reported[p.Path] = true
	if r.full() {
		r.omitted++
		return
	}
	r.problems = append(r.problems, p)
}

// problem reports a problem at a path, unless the path or one around it has a problem
// already.
func (r *report) problem(path, format string, args ...any) {
	r.problemSuggesting(path, "", format, args...)
}

// problemSuggesting is problem with the name that may be meant.
func (r *report) problemSuggesting(path, suggestion, format string, args ...any) {
	for outer := path; outer != ""; outer = parent(outer) {
		if r.reported[outer] {
			return
		}
	}
	pos := r.position(path)
	r.add(Problem{
		File: r.file, Line: pos.Line, Column: pos.Column,
		Path: path, Message: fmt.Sprintf(format, args...), Suggestion: suggestion,
	})
}

// unknownName reports a name that is not one of the known ones. message has a %q for
// the name. The problem suggests the most similar known name. If there is none, all,
// a list of the known names, is appended to the message.
func (r *report) unknownName(path, name string, known []string, message, all string) {
	var meant string
	if !r.full() {
		meant = nearest(name, known)
	}
	if meant == "" {
		message += strings.ReplaceAll(all, "%", "%%")
	}
	r.problemSuggesting(path, meant, message, shorten(name))
}

// position returns the position of a path, or of the nearest value around it.
func (r *report) position(path string) Position {
	for {
		if pos, ok := r.positions[path]; ok || path == "" {
			return pos
		}
		path = parent(path)
	}
}

// describePath returns a path, with its line if that is known.
func (r *report) describePath(path string) string {
	if pos := r.positions[path]; pos.Line > 0 {
		return fmt.Sprintf("%s on line %d", path, pos.Line)
	}
	return path
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

// parent returns a path without its last step: nodes[2] for nodes[2].id, and nodes for
// nodes[2].
func parent(path string) string {
	return path[:max(strings.LastIndexAny(path, ".["), 0)]
}

// maxNameLength is the length of the longest name that nearest compares. A longer one
// is not a typing error, and the cost is the product of both lengths.
const maxNameLength = 64

// nearest returns the known name most similar to an unknown one, or "" if none is
// similar. Of equally similar names it returns the first.
func nearest(name string, known []string) string {
	if name == "" || len(name) > maxNameLength {
		return ""
	}
	best, distance := "", maxDistance(name)+1
	for _, k := range known {
		if len(k) > maxNameLength {
			continue
		}
		if d := levenshtein.ComputeDistance(strings.ToLower(name), strings.ToLower(k)); d < distance {
			best, distance = k, d
		}
	}
	if best != "" {
		return best
	}
	for _, k := range known { // type for node_type
		if strings.HasSuffix(k, "_"+name) || strings.HasPrefix(k, name+"_") {
			return k
		}
	}
	return ""
}

// maxDistance returns how many letters of a name may be wrong: a third of them, but at
// least 2, because two letters that change places count as 2.
func maxDistance(name string) int {
	if len(name) < 3 {
		return 1
	}
	return max(2, len(name)/3)
}
