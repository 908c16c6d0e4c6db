package schema

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
)

// sequence is the schema of a list, with all defaults.
type sequence struct {
	prefix      []object
	rest        object // of the items after the prefix
	closed      bool   // there are none
	least, most float64
}

func sequenceOf(s object) sequence {
	q := sequence{prefix: list(s, "prefixItems"), rest: part(s, "items")}
	q.least, q.most = number(s, "minItems", 0), number(s, "maxItems", math.Inf(1))
	if s["items"] == false {
		q.closed = true
		q.most = min(q.most, float64(len(q.prefix)))
	}
	return q
}

// at returns the schema of one item, and whether there can be such an item.
func (q sequence) at(i int) (object, bool) {
	if i < len(q.prefix) {
		return q.prefix[i], true
	}
	return q.rest, !q.closed
}

func (c *comparison) compareArrays(out, in object, at Finding) Finding {
	has, wants := sequenceOf(out), sequenceOf(in)
	at.Verdict = compareRanges(has.least, has.most, wants.least, wants.most)
	if at.Verdict == Never {
		at.Output, at.Input = lengthWords(has), lengthWords(wants)
		return at
	}
	found := at.orFits()
	places := max(len(has.prefix), len(wants.prefix))
	for i := range places + 1 {
		h, possible := has.at(i)
		w, allowed := wants.at(i)
		if !possible || !allowed {
			continue // the lengths have been compared
		}
		step := fmt.Sprintf("[%d]", i)
		if i == places {
			step = "[]"
		}
		next := c.compare(h, w)
		if !c.decoding && i < places && float64(i) >= max(has.least, wants.least) {
			next = next.ifThere()
		}
		found = worse(found, next, step)
	}
	return found
}

func lengthWords(q sequence) string {
	if q.least == q.most {
		return fmt.Sprintf(" of %v", q.most)
	}
	return fmt.Sprintf(" of %v to %v", q.least, q.most)
}

// record is the schema of a map, with all defaults.
type record struct {
	properties object
	required   []string
	others     object // the schema of further keys
	closed     bool   // there are none
}

func recordOf(s object) record {
	r := record{properties: part(s, "properties"), others: part(s, "additionalProperties")}
	for _, each := range anyList(s["required"]) {
		if key, ok := each.(string); ok {
			r.required = append(r.required, key)
		}
	}
	r.closed = s["additionalProperties"] == false
	return r
}

func anyList(v any) []any {
	all, _ := v.([]any)
	return all
}

// compareMaps compares schemas of maps. A map that is returned and has properties has no
// others: it is written from a class.
func (c *comparison) compareMaps(out, in object, at Finding) Finding {
	has, wants := recordOf(out), recordOf(in)
	written := len(has.properties) > 0
	if c.decoding {
		wants.properties = folded(wants.properties, has.properties)
		if written && len(wants.properties) > 0 && !haveCommonKey(has.properties, wants.properties) {
			at.Verdict = Never
			at.Input += " without any of its keys"
			return at
		}
	}
	found := at
	found.Verdict = compareLimits(out, in, "minProperties", "maxProperties")
	if in["propertyNames"] != nil && !written {
		found.Verdict = max(found.Verdict, Open)
	}
	found = found.orFits()
	for _, key := range wants.required {
		if _, ok := has.properties[key]; ok {
			if !slices.Contains(has.required, key) {
				found = worse(found, missing(key, Open, at), "")
			}
			continue
		}
		verdict := Open
		if written && isAny(has.others) {
			verdict = Never
		}
		found = worse(found, missing(key, verdict, at), "")
	}
	for _, key := range slices.Sorted(maps.Keys(wants.properties)) {
		want, given := part(wants.properties, key), has.others
		if _, ok := has.properties[key]; ok {
			given = part(has.properties, key)
		} else if written && isAny(has.others) {
			continue
		}
		next := c.compare(given, want)
		if !c.decoding && !slices.Contains(has.required, key) && !slices.Contains(wants.required, key) {
			next = next.ifThere()
		}
		found = worse(found, next, "."+key)
	}
	return c.compareOthers(has, wants, written, found, at)
}

// folded returns properties by the keys of others that differ only in upper and lower case,
// as the fields of a Go struct are found.
func folded(properties, others object) object {
	found := make(object, len(properties))
	for _, name := range slices.Sorted(maps.Keys(properties)) {
		key := name
		if _, same := others[name]; !same {
			for _, other := range slices.Sorted(maps.Keys(others)) {
				if _, exact := properties[other]; !exact && strings.EqualFold(other, name) {
					key = other
					break
				}
			}
		}
		found[key] = properties[name]
	}
	return found
}

func haveCommonKey(a, b object) bool {
	for key := range a {
		if _, ok := b[key]; ok {
			return true
		}
	}
	return false
}

// compareOthers compares the keys that the input does not name.
func (c *comparison) compareOthers(has, wants record, written bool, found, at Finding) Finding {
	for _, key := range slices.Sorted(maps.Keys(has.properties)) {
		if _, ok := wants.properties[key]; ok {
			continue
		}
		switch {
		case !wants.closed:
			next := c.compare(part(has.properties, key), wants.others)
			if !c.decoding && !slices.Contains(has.required, key) {
				next = next.ifThere()
			}
			found = worse(found, next, "."+key)
		case slices.Contains(has.required, key):
			at.Verdict = Never
			at.Output += fmt.Sprintf(" with the key %q", key)
			found = worse(found, at, "")
		default:
			at.Verdict = Open
			found = worse(found, at, "")
		}
	}
	if !written && !has.closed && !wants.closed {
		found = worse(found, c.compare(has.others, wants.others), "[]")
	}
	return found
}

// ifThere returns the finding about a part that may be missing: values without it fit. A Go
// type must decode the part nevertheless; see [CompareDecoding].
func (f Finding) ifThere() Finding {
	f.Verdict = min(f.Verdict, Open)
	return f
}

// missing returns the finding that a key which the input requires is missing.
func missing(key string, verdict Verdict, at Finding) Finding {
	at.Verdict = verdict
	at.Input += fmt.Sprintf(" with the key %q", key)
	if verdict == Never {
		at.Output += " without it"
	}
	return at
}

// List returns the schema of lists whose items have a schema.
func List(item []byte) []byte {
	return composed([][]byte{item}, func(parts []any) object { return object{"type": "array", "items": parts[0]} })
}

// Record returns the schema of maps that have all of the given keys, each with a schema.
func Record(members map[string][]byte) []byte {
	keys := slices.Sorted(maps.Keys(members))
	texts := make([][]byte, len(keys))
	for i, key := range keys {
		texts[i] = members[key]
	}
	return composed(texts, func(parts []any) object {
		properties := make(object, len(keys))
		for i, key := range keys {
			properties[key] = parts[i]
		}
		return object{"type": "object", "properties": properties, "required": keys}
	})
}

// composed returns a schema that contains others. The definitions of each get names of their
// own. A text that is no schema stands for any value.
func composed(texts [][]byte, around func(parts []any) object) []byte {
	defs := object{}
	parts := make([]any, len(texts))
	for i, each := range texts {
		s := parse(each)
		if s == nil {
			s = object{}
		}
		prefix := fmt.Sprintf("%d.", i)
		for name, definition := range part(s, "$defs") {
			defs[prefix+name] = prefixed(definition, prefix)
		}
		delete(s, "$defs")
		parts[i] = prefixed(s, prefix)
	}
	whole := around(parts)
	if len(defs) > 0 {
		whole["$defs"] = defs
	}
	made, err := json.Marshal(whole)
	if err != nil { // not possible: it consists of what json.Unmarshal returned
		return nil
	}
	return made
}

// prefixed returns a part of a schema whose references have a prefix.
func prefixed(v any, prefix string) any {
	switch v := v.(type) {
	case object:
		made := make(object, len(v))
		for key, each := range v {
			made[key] = prefixed(each, prefix)
			if ref, ok := each.(string); ok && key == "$ref" {
				made[key] = "#/$defs/" + prefix + strings.TrimPrefix(ref, "#/$defs/")
			}
		}
		return made
	case []any:
		made := make([]any, len(v))
		for i, each := range v {
			made[i] = prefixed(each, prefix)
		}
		return made
	}
	return v
}
