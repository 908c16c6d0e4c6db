package schema

import (
	"math"
	"slices"
)

// comparison compares two schemas.
type comparison struct {
	out, in object // the documents, for references
	// assumed are the pairs of definitions that are being compared: a pair that contains
	// itself fits if the rest of it does.
	assumed map[[2]string]bool
	steps   int
	depth   int
	// decoding is set if the input is a Go type; see [CompareDecoding].
	decoding bool
}

// The schemas are those of a node that may be hostile, so the recursion of a comparison and
// its number of steps are bounded.
const (
	maxDepth = 200
	maxSteps = 100_000
)

// compare compares parts of the two schemas.
func (c *comparison) compare(out, in object) Finding {
	at := Finding{outPart: out, inPart: in}
	out, outName := resolve(c.out, out)
	in, inName := resolve(c.in, in)
	if outName != "" && inName != "" {
		pair := [2]string{outName, inName}
		if c.assumed[pair] {
			return Finding{}
		}
		c.assumed[pair] = true
		defer delete(c.assumed, pair)
	}
	c.depth++
	defer func() { c.depth-- }()
	c.steps++
	switch {
	case c.depth > maxDepth || c.steps > maxSteps:
		at.Verdict = Open
		return at
	case isAny(in):
		return Finding{}
	case isAny(out):
		at.Verdict = Open
		return at
	}
	if all := members(out); len(all) > 0 {
		return c.everyMember(all, in, at)
	}
	if listed, ok := values(out); ok {
		return c.everyValue(listed, in, at)
	}
	if all := members(in); len(all) > 0 {
		return c.anyMember(out, all, at)
	}
	found := c.single(out, in, at)
	if found.Verdict == Fits && hasUnknown(in) {
		at.Verdict = Open
		return at
	}
	return found
}

// everyMember compares each member of a union that is returned.
func (c *comparison) everyMember(all []object, in object, at Finding) Finding {
	fits, never := 0, 0
	var inside []Finding
	for _, member := range all {
		found := c.compare(member, in)
		switch found.Verdict {
		case Fits:
			fits++
		case Never:
			never++
			if found.Path != "" {
				inside = append(inside, found)
			}
		}
	}
	if c.decoding && never > 0 && len(inside) == never {
		return inside[0]
	}
	return c.between(at, len(all), fits, never)
}

// everyValue checks each of the values that may be returned.
func (c *comparison) everyValue(listed []any, in object, at Finding) Finding {
	fits, never := 0, 0
	for _, value := range listed {
		switch c.accepts(in, value) {
		case Fits:
			fits++
		case Never:
			never++
		}
	}
	return c.between(at, len(listed), fits, never)
}

// between returns the verdict on a number of cases, of which so many fit and never fit.
func (c *comparison) between(at Finding, all, fits, never int) Finding {
	switch {
	case fits == all:
		return Finding{}
	case never == all, c.decoding && never > 0:
		at.Verdict = Never
	default:
		at.Verdict = Open
	}
	return at
}

// anyMember compares what is returned with each member of a union that is taken. If it fits
// none, and only one of them is of the same kind, the finding is about that one.
func (c *comparison) anyMember(out object, all []object, at Finding) Finding {
	var inside []Finding
	at.Verdict = Never
	for _, member := range all {
		found := c.compare(out, member)
		if found.Verdict == Fits {
			return found
		}
		at.Verdict = min(at.Verdict, found.Verdict)
		if found.Path != "" {
			inside = append(inside, found)
		}
	}
	if len(inside) == 1 && inside[0].Verdict == at.Verdict {
		return inside[0]
	}
	return at
}

// accepts checks a plain value against a schema.
func (c *comparison) accepts(in object, value any) Verdict {
	c.depth++
	defer func() { c.depth-- }()
	c.steps++
	if c.depth > maxDepth || c.steps > maxSteps {
		return Open
	}
	in, _ = resolve(c.in, in)
	if isAny(in) {
		return Fits
	}
	if all := members(in); len(all) > 0 {
		best := Never
		for _, member := range all {
			best = min(best, c.accepts(member, value))
		}
		return best
	}
	if listed, ok := values(in); ok {
		if slices.Contains(listed, value) { // values of enums are scalars
			return Fits
		}
		return Never
	}
	return c.single(schemaOf(value), in, Finding{}).Verdict
}

// schemaOf returns the schema of a scalar.
func schemaOf(value any) object {
	switch v := value.(type) {
	case nil:
		return object{"type": "null"}
	case bool:
		return object{"type": "boolean"}
	case float64:
		kind := "number"
		if v == math.Trunc(v) {
			kind = "integer"
		}
		return object{"type": kind, "minimum": v, "maximum": v}
	case string:
		size := float64(len([]rune(v)))
		return object{"type": "string", "minLength": size, "maxLength": size}
	}
	return object{}
}

// single compares schemas that are neither unions nor lists of values, the input's apart.
func (c *comparison) single(out, in object, at Finding) Finding {
	if listed, ok := values(in); ok {
		at.Verdict = Open
		if !slices.ContainsFunc(listed, func(v any) bool { return sameType(out, schemaOf(v)) }) {
			at.Verdict = Never
		}
		return at
	}
	outKind, inKind := text(out, kindKeyword), text(in, kindKeyword)
	if outKind != "" || inKind != "" {
		if c.decoding {
			return compareDecodedKinds(out, in, outKind, inKind, at)
		}
		return compareKinds(out, in, outKind, inKind, at)
	}
	outType, inType := text(out, "type"), text(in, "type")
	switch {
	case outType == "" || inType == "":
		at.Verdict = Open
		return at
	case outType == "number" && inType == "integer":
		at.Verdict = Open
		if c.decoding {
			at.Verdict = Never
		}
		return at
	case !sameType(out, in):
		at.Verdict = Never
		return at
	}
	switch inType {
	case "string":
		return compareTexts(out, in, at)
	case "integer", "number":
		return compareNumbers(out, in, at)
	case "array":
		return c.compareArrays(out, in, at)
	case "object":
		return c.compareMaps(out, in, at)
	}
	return Finding{}
}

// sameType reports whether values of one type can be of the other.
func sameType(out, in object) bool {
	a, b := text(out, "type"), text(in, "type")
	numeric := func(t string) bool { return t == "integer" || t == "number" }
	return a == b || numeric(a) && numeric(b)
}

// compareKinds compares schemas of which at least one is of what JSON does not have.
func compareKinds(out, in object, outKind, inKind string, at Finding) Finding {
	switch {
	case inKind == "json" && outKind == "":
		return Finding{}
	case outKind != inKind:
		at.Verdict = Never
	case !convertible(text(out, "x-dtype"), text(in, "x-dtype")):
		at.Verdict = Never
	default:
		at.Verdict = max(compareShapes(out["x-shape"], in["x-shape"]), compareDtypes(text(out, "x-dtype"), text(in, "x-dtype")))
	}
	if at.Verdict == Fits {
		return Finding{}
	}
	return at
}

// compareDecodedKinds is compareKinds for an input that is a Go type.
func compareDecodedKinds(out, in object, outKind, inKind string, at Finding) Finding {
	shape, known := out["x-shape"].([]any)
	isScalar := slices.Contains([]string{"boolean", "integer", "number"}, text(in, "type"))
	switch {
	case outKind == "json" && inKind != outKind: // what is in it is decoded
		at.Verdict = Open
	case outKind == "tensor" && isScalar && (!known || len(shape) == 0):
		at.Verdict = Open
	case outKind != inKind, !decodable(text(out, "x-dtype"), text(in, "x-dtype")):
		at.Verdict = Never
	default:
		at.Verdict = compareShapes(out["x-shape"], in["x-shape"])
	}
	return at.orFits()
}

// decodable reports whether elements of a dtype are decoded into those of another.
func decodable(out, in string) bool {
	if out == "" || in == "" || out == in {
		return true
	}
	from, to := rank(out), rank(in)
	return from == to || from == 1 && to == 2
}

// rank orders the dtypes: a node gets an array converted to the same or a higher rank.
func rank(dtype string) int {
	switch {
	case dtype == "bool":
		return 0
	case dtype != "" && (dtype[0] == 'i' || dtype[0] == 'u'):
		return 1
	case dtype != "" && dtype[0] == 'c':
		return 3
	}
	return 2
}

func convertible(out, in string) bool {
	return out == "" || in == "" || out == in || rank(out) <= rank(in) && out != "bfloat16" && in != "bfloat16"
}

// compareDtypes leaves open whether integers are within the range of other integers.
func compareDtypes(out, in string) Verdict {
	if in != "" && (out == "" || out != in && rank(out) == 1 && rank(in) == 1) {
		return Open
	}
	return Fits
}

func compareShapes(out, in any) Verdict {
	wants, ok := in.([]any)
	if !ok {
		return Fits
	}
	has, ok := out.([]any)
	if !ok || slices.Contains(has, any("...")) || slices.Contains(wants, any("...")) {
		return Open
	}
	if len(has) != len(wants) {
		return Never
	}
	verdict := Fits
	for i, want := range wants {
		w, fixed := want.(float64)
		h, known := has[i].(float64)
		switch {
		case fixed && known && w != h:
			return Never
		case fixed && !known, !fixed && want != "*" && slices.Contains(wants[:i], want):
			verdict = Open
		}
	}
	return verdict
}

// compareTexts compares schemas of text. A date and time does not travel as text.
func compareTexts(out, in object, at Finding) Finding {
	outFormat, inFormat := text(out, "format"), text(in, "format")
	if inFormat == "path" {
		inFormat = ""
	}
	switch {
	case outFormat == "date-time" && inFormat == "":
		at.Verdict = Never
	case inFormat != "" && outFormat != "" && outFormat != "path" && inFormat != outFormat:
		at.Verdict = Never
	case inFormat != outFormat && inFormat != "", text(in, "pattern") != "" && text(in, "pattern") != text(out, "pattern"):
		at.Verdict = Open
	default:
		at.Verdict = compareLimits(out, in, "minLength", "maxLength")
	}
	return at.orFits()
}

func compareNumbers(out, in object, at Finding) Finding {
	at.Verdict = max(
		compareLimits(out, in, "minimum", "maximum"),
		compareLimits(out, in, "exclusiveMinimum", "exclusiveMaximum"),
	)
	if in["multipleOf"] != nil && in["multipleOf"] != out["multipleOf"] {
		at.Verdict = max(at.Verdict, Open)
	}
	return at.orFits()
}

// orFits returns the finding without its texts if everything fits.
func (f Finding) orFits() Finding {
	if f.Verdict == Fits {
		return Finding{}
	}
	return f
}

// compareLimits compares the ranges that two keywords set.
func compareLimits(out, in object, least, most string) Verdict {
	inf := math.Inf(1)
	return compareRanges(
		number(out, least, -inf), number(out, most, inf),
		number(in, least, -inf), number(in, most, inf),
	)
}

func compareRanges(outLeast, outMost, inLeast, inMost float64) Verdict {
	switch {
	case outMost < inLeast || outLeast > inMost:
		return Never
	case outLeast >= inLeast && outMost <= inMost:
		return Fits
	}
	return Open
}

// worse returns the finding with the worse verdict, the first of equal ones, with a step
// before the path of the second.
func worse(found, next Finding, step string) Finding {
	if next.Verdict <= found.Verdict {
		return found
	}
	next.Path = step + next.Path
	if step != "" {
		next.Steps = append([]string{step}, next.Steps...)
	}
	return next
}
