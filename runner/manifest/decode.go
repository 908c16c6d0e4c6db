package manifest

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

const (
	// maxDepth is how deep a document may be nested. Params are sent to Python
	// unchanged, and the wire carries no deeper values.
	maxDepth = 64
	// maxExpanded is how many values the aliases of a document may expand to, so
	// that a small text cannot become a huge pipeline.
	maxExpanded = 100_000
)

// decoder turns a document into a Pipeline. It checks values one by one;
// Pipeline.check checks what they mean together.
type decoder struct {
	*report
	base     folder
	expanded int // values that aliases expanded to
	foreign  foreign
	notes    []Problem
}

// element is a value in the document with its path.
type element struct {
	node  *yaml.Node
	path  string
	depth int
	// aliased says that the path leads through an alias.
	aliased bool
}

func (e element) position() Position { return Position{e.node.Line, e.node.Column} }

// key returns the element of a key in e, a mapping.
func (e element) key(name string, node *yaml.Node) element {
	switch {
	case !plainKey.MatchString(name):
		e.path = fmt.Sprintf("%s[%q]", e.path, name)
	case e.path == "":
		e.path = name
	default:
		e.path += "." + name
	}
	e.node = node
	e.depth++
	return e
}

// plainKey matches a key that needs no quotes in a path.
var plainKey = regexp.MustCompile(`^[\pL_$][\pL\d_$-]*$`)

// item returns the element of an item of e, a list.
func (e element) item(i int, node *yaml.Node) element {
	e.path = fmt.Sprintf("%s[%d]", e.path, i)
	e.node = node
	e.depth++
	return e
}

// decodeFunc decodes an element into the variable for which it was made.
type decodeFunc func(e element)

// fields are the fields that a mapping may have.
type fields map[string]decodeFunc

// reject reports a problem with an element, even if there is one at its path already.
func (d *decoder) reject(e element, format string, args ...any) {
	d.rejectAt(e.position(), e.path, "", format, args...)
}

func (d *decoder) rejectAt(pos Position, path, suggestion, format string, args ...any) {
	d.add(Problem{
		File: d.file, Line: pos.Line, Column: pos.Column,
		Path: path, Message: fmt.Sprintf(format, args...), Suggestion: suggestion,
	})
}

// resolve returns the element that an alias stands for, and any other unchanged. It
// returns false, after reporting it, if the document is nested or expanded too much.
func (d *decoder) resolve(e element) (element, bool) {
	if e.node.Kind == yaml.AliasNode {
		e.node, e.aliased = e.node.Alias, true
	}
	if e.aliased {
		if d.expanded++; d.expanded == maxExpanded {
			d.reject(e, "the aliases of this document expand to more than %d values", maxExpanded)
		}
		if d.expanded >= maxExpanded {
			return e, false
		}
	}
	if e.depth > maxDepth {
		d.reject(e, "nested more than %d levels deep", maxDepth)
		return e, false
	}
	return e, true
}

// object decodes the fields of a mapping, and returns the elements of those that are
// present. expected describes a correct value, for the message about a wrong one. Messages do
// not suggest the foreign fields.
func (d *decoder) object(e element, expected string, known fields, foreign ...fields) map[string]element {
	entries, ok := d.entries(e, expected)
	if !ok {
		return nil
	}
	present := make(map[string]element, len(entries))
	for _, entry := range entries {
		d.positions[entry.value.path] = entry.value.position()
		decode, ok := known[entry.name]
		for _, more := range foreign {
			if !ok {
				decode, ok = more[entry.name]
			}
		}
		if !ok {
			d.unknownField(e, entry, known)
			continue
		}
		present[entry.name] = entry.value
		decode(entry.value)
	}
	return present
}

// unknownField reports an unknown field. If it suggests a known one, that one is not
// reported as missing.
func (d *decoder) unknownField(e element, unknown entry, known fields) {
	names := slices.Sorted(maps.Keys(known))
	meant := nearest(unknown.name, names)
	if meant != "" {
		d.reported[e.key(meant, nil).path] = true
		d.rejectAt(unknown.position, unknown.value.path, meant, "unknown field %q", unknown.name)
		return
	}
	d.rejectAt(unknown.position, unknown.value.path, "", "unknown field %q; the fields here are %s",
		unknown.name, strings.Join(names, ", "))
}

// entry is a key of a mapping with its value.
type entry struct {
	name     string
	position Position // of the key
	value    element
}

// entries returns the entries of a mapping in the order of the text, followed by those
// that it merges (<<). It returns false, after reporting it, if the element is not a
// mapping.
func (d *decoder) entries(e element, expected string) ([]entry, bool) {
	e, ok := d.resolve(e)
	if !ok {
		return nil, false
	}
	d.positions[e.path] = e.position()
	if e.node.Kind != yaml.MappingNode {
		d.reject(e, "must be %s, not %s", expected, describe(e.node))
		return nil, false
	}
	var entries []entry
	var merged []element
	seen := make(map[string]Position, len(e.node.Content)/2)
	for i := 0; i+1 < len(e.node.Content); i += 2 {
		key, value := e.node.Content[i], e.node.Content[i+1]
		pos := Position{key.Line, key.Column}
		if key.Kind == yaml.AliasNode {
			key = key.Alias
		}
		if key.ShortTag() == "!!merge" {
			merged = append(merged, element{value, e.path, e.depth + 1, e.aliased})
			continue
		}
		if !d.checkKey(e, key, pos) {
			continue
		}
		found := entry{key.Value, pos, e.key(key.Value, value)}
		if first, ok := seen[found.name]; ok {
			d.rejectAt(pos, found.value.path, "", "duplicate key %q; the first is on line %d", found.name, first.Line)
			continue
		}
		seen[found.name] = pos
		entries = append(entries, found)
	}
	for _, source := range merged {
		for _, found := range d.merge(source) {
			if _, ok := seen[found.name]; !ok {
				seen[found.name] = found.position
				entries = append(entries, found)
			}
		}
	}
	return entries, true
}

// checkKey reports a key that is not a string, and returns false for it.
func (d *decoder) checkKey(e element, key *yaml.Node, pos Position) bool {
	switch {
	case key.Kind != yaml.ScalarNode:
		d.rejectAt(pos, e.path, "", "a key must be a string, not %s", describe(key))
		return false
	case key.ShortTag() != "!!str":
		d.rejectAt(pos, e.path, "", "a key must be a string; write %q", key.Value)
		return false
	}
	return true
}

// merge returns the entries that a merge key takes from a mapping or from a list of
// mappings. Of entries with the same name, the first counts.
func (d *decoder) merge(source element) []entry {
	source, ok := d.resolve(source)
	if !ok {
		return nil
	}
	if source.node.Kind != yaml.SequenceNode {
		entries, _ := d.entries(source, "a map")
		return entries
	}
	var all []entry
	for _, node := range source.node.Content {
		entries, _ := d.entries(element{node, source.path, source.depth + 1, source.aliased}, "a map")
		all = append(all, entries...)
	}
	return all
}

// list returns a decodeFunc for a list, which calls decode for each item. A list that
// is left blank is empty.
func (d *decoder) list(decode func(i int, e element)) decodeFunc {
	return func(e element) {
		e, ok := d.resolve(e)
		switch {
		case !ok || e.node.ShortTag() == "!!null":
		case e.node.Kind != yaml.SequenceNode:
			d.reject(e, "must be a list, not %s", describe(e.node))
		default:
			for i, node := range e.node.Content {
				item := e.item(i, node)
				d.positions[item.path] = item.position()
				decode(i, item)
			}
		}
	}
}

// describe returns a short description of a value, for a message about a wrong one.
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

// shorten returns at most 60 characters of a text.
func shorten(text string) string {
	const most = 60
	if r := []rune(text); len(r) > most {
		return string(r[:most]) + "…"
	}
	return text
}
