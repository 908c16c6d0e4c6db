package manifest

import (
	"go.yaml.in/yaml/v3"
)

// values returns a reader of a map of free values. One that is left blank is nil.
func (d *decoder) values(dst *map[string]any) reader {
	return func(at place) {
		v := d.value(at)
		m, ok := v.(map[string]any)
		if v != nil && !ok {
			d.at(at.path, "must be a map, not %s", describe(at.node))
		}
		*dst = m
	}
}

// value returns a free value as JSON has it, so that a manifest means the same in
// both forms. Dates, which JSON does not have, are strings as they are written.
func (d *decoder) value(at place) any {
	at, ok := d.follow(at)
	if !ok {
		return nil
	}
	switch at.node.Kind {
	case yaml.MappingNode:
		entries, _ := d.entries(at, "a map")
		m := make(map[string]any, len(entries))
		for _, e := range entries {
			m[e.name] = d.value(e.value)
		}
		return m
	case yaml.SequenceNode:
		list := make([]any, len(at.node.Content))
		for i, node := range at.node.Content {
			list[i] = d.value(at.item(i, node))
		}
		return list
	}
	switch tag := at.node.ShortTag(); tag {
	case "!!null":
		return nil
	case "!!str", "!!timestamp":
		return at.node.Value
	case "!!bool":
		var b bool
		if err := at.node.Decode(&b); err != nil {
			d.fail(at, "%s is neither true nor false", describe(at.node))
		}
		return b
	case "!!int", "!!float":
		v, err := number(at.node)
		if err != nil {
			d.fail(at, "%v", err)
		}
		return v
	default:
		d.fail(at, "the YAML type %s has no JSON form; write a string, a number, true, false, a list or a map", tag)
		return nil
	}
}
