package schema

import (
	"fmt"
	"maps"
	"math"
	"slices"
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
		found = worse(found, c.compare(h, w), step)
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
		want := part(wants.properties, key)
		if _, ok := has.properties[key]; ok {
			found = worse(found, c.compare(part(has.properties, key), want), "."+key)
		} else if !written || !isAny(has.others) {
			found = worse(found, c.compare(has.others, want), "."+key)
		}
	}
	return c.compareOthers(has, wants, written, found, at)
}

// compareOthers compares the keys that the input does not name.
func (c *comparison) compareOthers(has, wants record, written bool, found, at Finding) Finding {
	for _, key := range slices.Sorted(maps.Keys(has.properties)) {
		if _, ok := wants.properties[key]; ok {
			continue
		}
		switch {
		case !wants.closed:
			found = worse(found, c.compare(part(has.properties, key), wants.others), "."+key)
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

// missing returns the finding that a key which the input requires is missing.
func missing(key string, verdict Verdict, at Finding) Finding {
	at.Verdict = verdict
	at.Input += fmt.Sprintf(" with the key %q", key)
	if verdict == Never {
		at.Output += " without it"
	}
	return at
}
