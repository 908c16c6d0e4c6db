package manifest

import (
	"fmt"
	"maps"
	"regexp"
	"slices"

	"go.yaml.in/yaml/v3"
)

const (
	// maxDepth is how deep a document may be nested. Params go to Python as they
	// are, and the wire carries no deeper values.
	maxDepth = 64
	// maxExpanded is how many parts of a document aliases may stand for, so that
	// a small text cannot become an endless pipeline.
	maxExpanded = 100_000
)

// decoder turns a document into a Pipeline. It reports what is wrong with single
// values; what they mean together is looked at by Pipeline.check.
type decoder struct {
	*report
	base     string
	expanded int
}

// place is a value in the document, and where it is.
type place struct {
	node  *yaml.Node
	path  string
	depth int
	// aliased says that an alias leads here.
	aliased bool
}

func (at place) position() Position { return Position{at.node.Line, at.node.Column} }

// key returns the value of one of the mapping's keys.
func (at place) key(name string, node *yaml.Node) place {
	switch {
	case !plainKey.MatchString(name):
		at.path = fmt.Sprintf("%s[%q]", at.path, name)
	case at.path == "":
		at.path = name
	default:
		at.path += "." + name
	}
	at.node = node
	at.depth++
	return at
}

// plainKey is a key that needs no quotes in a path.
var plainKey = regexp.MustCompile(`^[\pL_$][\pL\d_$-]*$`)

// item returns one of the list's items.
func (at place) item(i int, node *yaml.Node) place {
	at.path = fmt.Sprintf("%s[%d]", at.path, i)
	at.node = node
	at.depth++
	return at
}

// reader reads one value into the place in a Pipeline that it was made for.
type reader func(at place)

// fields are the fields that a mapping may have.
type fields map[string]reader

// fail tells of a problem with a value.
func (d *decoder) fail(at place, format string, args ...any) {
	d.problem(at.position(), at.path, "", format, args...)
}

func (d *decoder) problem(pos Position, path, suggestion, format string, args ...any) {
	d.add(Problem{
		File: d.file, Line: pos.Line, Column: pos.Column,
		Path: path, Message: fmt.Sprintf(format, args...), Suggestion: suggestion,
	})
}

// follow returns the value that an alias stands for, and any other as it is,
// unless there is too much of it.
func (d *decoder) follow(at place) (place, bool) {
	if at.node.Kind == yaml.AliasNode {
		at.node, at.aliased = at.node.Alias, true
	}
	if at.aliased {
		if d.expanded++; d.expanded == maxExpanded {
			d.fail(at, "the aliases of this document stand for more than %d values", maxExpanded)
		}
		if d.expanded >= maxExpanded {
			return at, false
		}
	}
	if at.depth > maxDepth {
		d.fail(at, "nested more than %d deep", maxDepth)
		return at, false
	}
	return at, true
}

// object reads the fields of a mapping, and returns those that it has. What says
// what may stand here, for where something else does.
func (d *decoder) object(at place, what string, known fields) map[string]place {
	entries, ok := d.entries(at, what)
	if !ok {
		return nil
	}
	present := make(map[string]place, len(entries))
	for _, e := range entries {
		d.positions[e.value.path] = e.value.position()
		read, ok := known[e.name]
		if !ok {
			d.unknown(at, e, known)
			continue
		}
		present[e.name] = e.value
		read(e.value)
	}
	return present
}

// unknown tells of an unknown field. The field that it is likely to mean is not
// missed besides.
func (d *decoder) unknown(at place, e entry, known fields) {
	names := slices.DeleteFunc(slices.Sorted(maps.Keys(known)), func(name string) bool {
		return slices.Contains(v1Only, name)
	})
	meant := nearest(e.name, names)
	if meant != "" {
		d.settled[at.key(meant, nil).path] = true
		d.problem(e.position, e.value.path, meant, "unknown field %q", e.name)
		return
	}
	d.problem(e.position, e.value.path, "", "unknown field %q; the fields here are %s", e.name, enumerate(names))
}

// entry is a key of a mapping with its value.
type entry struct {
	name     string
	position Position // of the key
	value    place
}

// entries returns what a mapping holds, in the order of the text, with what it
// merges (<<) at the end. It is false where the value is no mapping.
func (d *decoder) entries(at place, what string) ([]entry, bool) {
	at, ok := d.follow(at)
	if !ok {
		return nil, false
	}
	d.positions[at.path] = at.position()
	if at.node.Kind != yaml.MappingNode {
		d.fail(at, "must be %s, not %s", what, describe(at.node))
		return nil, false
	}
	var entries []entry
	var merged []place
	seen := make(map[string]Position, len(at.node.Content)/2)
	for i := 0; i+1 < len(at.node.Content); i += 2 {
		key, value := at.node.Content[i], at.node.Content[i+1]
		if key.Kind == yaml.AliasNode {
			key = key.Alias
		}
		pos := Position{at.node.Content[i].Line, at.node.Content[i].Column}
		switch tag := key.ShortTag(); {
		case tag == "!!merge":
			merged = append(merged, place{value, at.path, at.depth + 1, at.aliased})
			continue
		case key.Kind != yaml.ScalarNode:
			d.problem(pos, at.path, "", "a key must be a string, not %s", describe(key))
			continue
		case tag != "!!str":
			d.problem(pos, at.path, "", "a key must be a string; write %q", key.Value)
			continue
		}
		e := entry{key.Value, pos, at.key(key.Value, value)}
		if first, ok := seen[e.name]; ok {
			d.problem(pos, e.value.path, "", "duplicate key %q; the first is in line %d", e.name, first.Line)
			continue
		}
		seen[e.name] = pos
		entries = append(entries, e)
	}
	for _, source := range merged {
		for _, e := range d.merge(source) {
			if _, ok := seen[e.name]; !ok {
				seen[e.name] = e.position
				entries = append(entries, e)
			}
		}
	}
	return entries, true
}

// merge returns the entries of a mapping, or of a list of them, that another one
// takes in. Earlier ones count more.
func (d *decoder) merge(source place) []entry {
	source, ok := d.follow(source)
	if !ok {
		return nil
	}
	if source.node.Kind != yaml.SequenceNode {
		entries, _ := d.entries(source, "a map")
		return entries
	}
	var all []entry
	for _, node := range source.node.Content {
		entries, _ := d.entries(place{node, source.path, source.depth + 1, source.aliased}, "a map")
		all = append(all, entries...)
	}
	return all
}

// list returns a reader of a list's items. A list that is left blank is empty.
func (d *decoder) list(read func(i int, at place)) reader {
	return func(at place) {
		at, ok := d.follow(at)
		switch {
		case !ok || at.node.ShortTag() == "!!null":
		case at.node.Kind != yaml.SequenceNode:
			d.fail(at, "must be a list, not %s", describe(at.node))
		default:
			for i, node := range at.node.Content {
				item := at.item(i, node)
				d.positions[item.path] = item.position()
				read(i, item)
			}
		}
	}
}

// describe names what stands in the place of something else.
func describe(n *yaml.Node) string {
	switch n.Kind {
	case yaml.AliasNode:
		return describe(n.Alias)
	case yaml.MappingNode:
		return "a map"
	case yaml.SequenceNode:
		return "a list"
	}
	switch n.ShortTag() {
	case "!!null":
		return "empty"
	case "!!str":
		return fmt.Sprintf("%q", shorten(n.Value))
	}
	return shorten(n.Value)
}

// shorten keeps a long text from filling the screen.
func shorten(text string) string {
	const most = 60
	if r := []rune(text); len(r) > most {
		return string(r[:most]) + "…"
	}
	return text
}
