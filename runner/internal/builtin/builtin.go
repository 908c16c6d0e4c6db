// Package builtin has the node types that a manifest may name without giving their code:
// those of the RemoteMedia SDK's runtime that need no model. Some are written in Go; the
// others are classes of the Python package gophersnake.builtin. The package also knows the
// types that gophersnake does not have, and why.
//
// All functions are safe for concurrent use.
package builtin

import (
	"fmt"
	"slices"
	"strings"

	"github.com/agnivade/levenshtein"

	"github.com/gophersnake/gophersnake/ipc"
)

// Module is what a manifest writes as a node's python field to choose the built-in type,
// although the pipeline has Python code of its own.
const Module = "gophersnake.builtin"

// Func is one call of a node type in Go. It must not change its input. Its error is an
// [*InputError] if the input is at fault.
type Func func(input any) (any, error)

// Type is one node type. Exactly one of New, Python and Refused is set.
type Type struct {
	Name string
	// Aliases are other names of the type.
	Aliases []string
	// Doc is one sentence for users.
	Doc    string
	Params []Param
	// Input and Output are annotations as in a Python signature.
	Input, Output string
	// Differs says what RemoteMedia's node does otherwise; empty if nothing.
	Differs string

	// New returns the function of a node with the given params, for a type in Go.
	New func(Values) Func
	// Python locates the class of a type in Python, and Requirements are its packages.
	Python       string
	Requirements []string
	// Refused is the reason why gophersnake does not have the type. Instead says what to
	// use in its place.
	Refused, Instead string
}

// Lookup returns the type with a name or an alias.
func Lookup(name string) (*Type, bool) {
	t, ok := byName[name]
	return t, ok
}

// All returns all types, those that are refused included, in the order of their names.
func All() []*Type { return slices.Clone(sorted) }

// Nearest returns the built-in type whose name is most like the given one, empty if none is.
func Nearest(name string) string {
	best, distance := "", (len(name)+2)/3+1 // a third of the letters may be wrong
	for _, t := range sorted {
		for _, known := range append([]string{t.Name}, t.Aliases...) {
			d := levenshtein.ComputeDistance(trimmed(name), trimmed(known))
			if t.Refused == "" && d < distance {
				best, distance = known, d
			}
		}
	}
	return best
}

// trimmed returns what distinguishes a name: Echo and EchoNode are alike.
func trimmed(name string) string { return strings.TrimSuffix(strings.ToLower(name), "node") }

// Description returns what `gophersnake nodes` shows of the type. That of a type in Python has
// no schemas; the class has them.
func (t *Type) Description() ipc.Description {
	d := ipc.Description{
		Name: t.Name, Kind: "go", NodeKind: "value", Doc: t.Doc, Returns: t.Output,
		Inputs: []ipc.Parameter{{Name: "input", Annotation: t.Input, Required: true}},
	}
	if t.Python != "" {
		d.Kind, d.NodeKind, d.Many, d.Stateful = "class", "generator", true, true
	}
	for _, p := range t.Params {
		param := ipc.Parameter{Name: p.Name, Annotation: p.Annotation(), Required: p.Required}
		if !p.Required {
			repr := p.Repr()
			param.Default = &repr
		}
		d.Params = append(d.Params, param)
	}
	return d
}

var sorted, byName = index()

func index() (all []*Type, names map[string]*Type) {
	names = make(map[string]*Type)
	for _, group := range [][]Type{plain, audio, video, inPython, refused()} {
		for i := range group {
			t := &group[i]
			all = append(all, t)
			for _, name := range append([]string{t.Name}, t.Aliases...) {
				if names[name] != nil {
					panic("two built-in node types " + name)
				}
				names[name] = t
			}
		}
	}
	slices.SortFunc(all, func(a, b *Type) int { return strings.Compare(a.Name, b.Name) })
	return all, names
}

// InputError says that a node cannot process its input.
type InputError struct {
	// Path is the part of the input, after "input"; empty for all of it.
	Path   string
	Reason string
}

func (e *InputError) Error() string { return "input" + e.Path + ": " + e.Reason }

func badInput(path, format string, args ...any) error {
	return &InputError{Path: path, Reason: fmt.Sprintf(format, args...)}
}
