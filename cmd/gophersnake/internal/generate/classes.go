package generate

import (
	"fmt"
	"slices"
	"strings"
)

// class is a declared type. It stands for all named types that have the same Go form: a
// class of the Python code that two nodes take and return is one Go type, if its fields are
// the same in both directions.
type class struct {
	name    string
	members []*named
}

// classify sets the classes of all named types that the given types refer to, and returns
// the classes in the order of their first members. They have no names yet.
//
// Types that refer to each other are the same if none of them can be told apart: all that
// look alike start in one class, and a class is divided as long as its members refer to
// different classes.
func classify(types []*typ) []*class {
	all := reachable(types)
	labels := make(map[*named]string, len(all))
	refs := make(map[*named][]*named, len(all))
	for _, n := range all {
		labels[n] = n.label(refs)
	}
	var classes []*class
	for {
		before := len(classes)
		classes = grouped(all, labels)
		if len(classes) == before {
			break
		}
		number := make(map[*class]int, len(classes))
		for i, c := range classes {
			number[c] = i
		}
		for _, n := range all {
			next := []string{fmt.Sprint(number[n.class])}
			for _, ref := range refs[n] {
				next = append(next, fmt.Sprint(number[ref.class]))
			}
			labels[n] = strings.Join(next, " ")
		}
	}
	return classes
}

// grouped makes a class of all named types with the same label.
func grouped(all []*named, labels map[*named]string) []*class {
	var classes []*class
	byLabel := make(map[string]*class)
	for _, n := range all {
		c := byLabel[labels[n]]
		if c == nil {
			c = new(class)
			byLabel[labels[n]] = c
			classes = append(classes, c)
		}
		c.members = append(c.members, n)
		n.class = c
	}
	return classes
}

// reachable returns the named types that the given types refer to, each once, in the order
// in which they are found.
func reachable(types []*typ) []*named {
	var all []*named
	seen := make(map[*named]bool)
	var visit func(t *typ)
	visit = func(t *typ) {
		for ; t.elem != nil; t = t.elem {
		}
		if t.named == nil || seen[t.named] {
			return
		}
		seen[t.named] = true
		all = append(all, t.named)
		for _, f := range t.named.fields {
			visit(f.typ)
		}
	}
	for _, t := range types {
		visit(t)
	}
	return all
}

// label returns what the declaration of a named type consists of, apart from the names of
// the types that it refers to, which are added to refs.
func (n *named) label(refs map[*named][]*named) string {
	parts := []string{n.want, n.base, fmt.Sprintf("%q", n.values)}
	var all []*named
	for _, f := range n.fields {
		parts = append(parts, fmt.Sprintf("%q %s %s", f.key, f.name, f.typ.shape(&all)))
	}
	refs[n] = all
	return strings.Join(parts, "\n")
}

// nameAll gives each class a name of its own. A type of results has the name of the Python
// class; one that is sent, and differs from it, ends in Input.
func nameAll(classes []*class, taken namespace) {
	for _, c := range classes {
		if !c.isSent() {
			c.name = taken.add(c.members[0].want)
		}
	}
	for _, c := range classes {
		if c.isSent() {
			want := c.members[0].want
			if taken[want] && !strings.HasSuffix(want, "Input") {
				want += "Input"
			}
			c.name = taken.add(want)
		}
	}
}

// isSent reports whether values of the class are only sent to nodes.
func (c *class) isSent() bool {
	return !slices.ContainsFunc(c.members, func(n *named) bool { return !n.sent })
}
