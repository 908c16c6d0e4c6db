package manifest

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/gophersnake/gophersnake/ipc"
)

// values returns a decodeFunc for a map of free values. A map that is left blank is
// nil. If order is not nil, the same values are stored there in their order.
func (d *decoder) values(dst *map[string]any, order *ipc.Object) decodeFunc {
	return func(e element) {
		v := d.value(e)
		o, ok := v.(ipc.Object)
		if v != nil && !ok {
			d.problem(e.path, "must be a map, not %s", describe(e.node))
		}
		*dst, _ = withoutOrder(v).(map[string]any)
		if order != nil {
			*order = o
		}
	}
}

// withoutOrder returns a value with a map in place of each object.
func withoutOrder(v any) any {
	switch v := v.(type) {
	case ipc.Object:
		m := make(map[string]any, len(v))
		for _, member := range v {
			m[member.Key] = withoutOrder(member.Value)
		}
		return m
	case []any:
		list := make([]any, len(v))
		for i := range v {
			list[i] = withoutOrder(v[i])
		}
		return list
	}
	return v
}

// OrderedParams returns Params with an [ipc.Object] in place of each map[string]any. Its
// keys have the order of the manifest; those that are not in the manifest follow, sorted.
func (n *Node) OrderedParams() ipc.Object {
	return arrange(n.Params, n.order).(ipc.Object)
}

// arrange returns a value with its maps as objects, whose keys have the order that those
// of another value have.
func arrange(v, like any) any {
	switch v := v.(type) {
	case map[string]any:
		order, _ := like.(ipc.Object)
		out := make(ipc.Object, 0, len(v))
		rest := maps.Clone(v)
		for _, member := range order {
			if item, ok := rest[member.Key]; ok {
				out = append(out, ipc.Member{Key: member.Key, Value: arrange(item, member.Value)})
				delete(rest, member.Key)
			}
		}
		for _, key := range slices.Sorted(maps.Keys(rest)) {
			out = append(out, ipc.Member{Key: key, Value: arrange(rest[key], nil)})
		}
		return out
	case []any:
		order, _ := like.([]any)
		out := make([]any, len(v))
		for i := range v {
			if i < len(order) {
				out[i] = arrange(v[i], order[i])
			} else {
				out[i] = arrange(v[i], nil)
			}
		}
		return out
	}
	return v
}

// value returns a free value in its JSON form, with maps as [ipc.Object], so that a
// manifest means the same in YAML and JSON. JSON has no dates, so a date is the string that was written.
func (d *decoder) value(e element) any {
	e, ok := d.resolve(e)
	if !ok {
		return nil
	}
	switch e.node.Kind {
	case yaml.MappingNode:
		entries, _ := d.entries(e, "a map")
		members := make(ipc.Object, len(entries))
		for i, entry := range entries {
			members[i] = ipc.Member{Key: entry.name, Value: d.value(entry.value)}
		}
		return members
	case yaml.SequenceNode:
		list := make([]any, len(e.node.Content))
		for i, node := range e.node.Content {
			list[i] = d.value(e.item(i, node))
		}
		return list
	}
	for _, err := range []error{otherVersion(e.node), otherBoolean(e.node)} {
		if err != nil {
			d.reject(e, "%v", err)
			return nil
		}
	}
	switch tag := e.node.ShortTag(); tag {
	case "!!null":
		return nil
	case "!!str", "!!timestamp":
		return e.node.Value
	case "!!bool":
		var b bool
		if err := e.node.Decode(&b); err != nil {
			d.reject(e, "%s is neither true nor false", describe(e.node))
		}
		return b
	case "!!int", "!!float":
		v, err := number(e.node)
		if err != nil {
			d.reject(e, "%v", err)
		}
		return v
	default:
		d.reject(e, "the YAML type %s has no JSON form; write a string, a number, true, false, a list or a map", tag)
		return nil
	}
}

// scalar resolves an element that must be a single value. expected describes a correct
// one.
func (d *decoder) scalar(e element, expected string) (element, bool) {
	e, ok := d.resolve(e)
	if ok && e.node.Kind != yaml.ScalarNode {
		d.reject(e, "must be %s, not %s", expected, describe(e.node))
		return e, false
	}
	return e, ok
}

// isWord reports whether an element is the given string.
func (d *decoder) isWord(e element, word string) bool {
	e, ok := d.resolve(e)
	return ok && e.node.ShortTag() == "!!str" && e.node.Value == word
}

// text returns a decodeFunc for a non-empty string.
func (d *decoder) text(dst *string) decodeFunc {
	return func(e element) {
		if d.anyText(dst)(e); *dst == "" {
			d.problem(e.path, "must not be empty")
		}
	}
}

// anyText returns a decodeFunc for a string.
func (d *decoder) anyText(dst *string) decodeFunc {
	return func(e element) {
		e, ok := d.scalar(e, "a string")
		switch {
		case !ok:
		case e.node.ShortTag() == "!!str":
			*dst = e.node.Value
		case e.node.ShortTag() == "!!null":
			d.reject(e, "is empty; give it a value or leave it out")
		default:
			d.reject(e, "must be a string; write %q", e.node.Value)
		}
	}
}

// texts returns a decodeFunc for a list of non-empty strings.
func (d *decoder) texts(dst *[]string) decodeFunc {
	return d.list(func(_ int, e element) {
		var text string
		d.text(&text)(e)
		*dst = append(*dst, text)
	})
}

// boolean returns a decodeFunc for true or false.
func (d *decoder) boolean(dst *bool) decodeFunc {
	return func(e element) {
		e, ok := d.scalar(e, "true or false")
		if ok && (e.node.ShortTag() != "!!bool" || e.node.Decode(dst) != nil) {
			d.reject(e, "must be true or false, not %s", describe(e.node))
		}
	}
}

// integer returns a decodeFunc for a whole number of 32 bits.
func (d *decoder) integer(dst *int) decodeFunc {
	return func(e element) {
		e, ok := d.scalar(e, "a whole number")
		if !ok {
			return
		}
		n, ok := asWhole(e.node)
		if !ok || n < math.MinInt32 || n > math.MaxInt32 {
			d.reject(e, "must be a whole number, not %s", describe(e.node))
			return
		}
		*dst = int(n)
	}
}

// float returns a decodeFunc for a number.
func (d *decoder) float(dst *float64) decodeFunc {
	return func(e element) {
		e, ok := d.scalar(e, "a number")
		if !ok {
			return
		}
		if *dst, ok = asFloat(e.node); !ok {
			d.reject(e, "must be a number, not %s", describe(e.node))
		}
	}
}

// atLeastOne returns a decodeFunc for a whole number that is not 0. Pipeline.check
// rejects negative ones.
func (d *decoder) atLeastOne(dst *int) decodeFunc {
	return notZero(d, dst, d.integer(dst), "must be at least 1")
}

// notZero rejects 0, which would mean no limit: a manifest leaves the field out for
// that.
func notZero[T int | int64](d *decoder, dst *T, decode decodeFunc, message string) decodeFunc {
	return func(e element) {
		if decode(e); *dst == 0 {
			d.problem(e.path, "%s", message)
		}
	}
}

// durationRule says which durations a field accepts in addition to positive ones.
type durationRule uint8

const (
	positive durationRule = iota
	orZero
	orNone // the word none, which is stored as 0
)

// duration returns a decodeFunc for a duration: text such as 30s or 1m30s, or a number
// of seconds.
func (d *decoder) duration(dst *time.Duration, rule durationRule) decodeFunc {
	expected := "a duration such as 500ms, 30s or 5m (a plain number is seconds)"
	if rule == orNone {
		expected += ", or none"
	}
	return func(e element) {
		e, ok := d.scalar(e, expected)
		if !ok {
			return
		}
		if rule == orNone && e.node.Value == "none" {
			*dst = 0
			return
		}
		v, ok := parseDuration(e.node)
		switch {
		case !ok:
			d.reject(e, "must be %s, not %s", expected, describe(e.node))
		case v < 0 && rule == orZero:
			d.reject(e, "must not be negative")
		case v < 0, v == 0 && rule == positive:
			d.reject(e, "must be more than 0, not %s", e.node.Value)
		case v == 0 && rule == orNone:
			d.reject(e, "must be more than 0; write none for no limit")
		default:
			*dst = v
		}
	}
}

func parseDuration(n *yaml.Node) (time.Duration, bool) {
	if n.ShortTag() == "!!str" {
		v, err := time.ParseDuration(n.Value)
		return v, err == nil
	}
	seconds, ok := asFloat(n)
	if !ok || math.Abs(seconds) >= math.MaxInt64/1e9 {
		return 0, false
	}
	return time.Duration(math.Round(seconds * 1e9)), true
}

// size returns a decodeFunc for a number of bytes: 512MiB, 1.5GB, or a plain number.
func (d *decoder) size(dst *int64) decodeFunc {
	const expected = "a size such as 512MiB or 1.5GB (a plain number is bytes)"
	return func(e element) {
		e, ok := d.scalar(e, expected)
		if !ok {
			return
		}
		n, ok := parseSize(e.node)
		if !ok {
			d.reject(e, "must be %s, not %s", expected, describe(e.node))
			return
		}
		*dst = n
	}
}

var sizeText = regexp.MustCompile(`^(\d+(?:\.\d+)?) ?([A-Za-z]+)$`)

var sizeUnits = map[string]float64{
	"B":  1,
	"KB": 1e3, "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12,
	"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40,
}

func parseSize(n *yaml.Node) (int64, bool) {
	if n.ShortTag() != "!!str" {
		return asWhole(n)
	}
	match := sizeText.FindStringSubmatch(n.Value)
	if match == nil {
		return 0, false
	}
	figure, err := strconv.ParseFloat(match[1], 64)
	bytes := figure * sizeUnits[match[2]]
	if err != nil || sizeUnits[match[2]] == 0 || bytes >= math.MaxInt64 {
		return 0, false
	}
	return int64(bytes), true
}

// asWhole returns a whole number. 2.0 is one, as in JSON.
func asWhole(n *yaml.Node) (int64, bool) {
	switch v, _ := number(n); v := v.(type) {
	case int64:
		return v, true
	case float64:
		return int64(v), v == math.Trunc(v) && math.Abs(v) < 1<<53
	}
	return 0, false
}

func asFloat(n *yaml.Node) (float64, bool) {
	switch v, _ := number(n); v := v.(type) {
	case int64:
		return float64(v), true
	case uint64:
		return float64(v), true
	case float64:
		return v, true
	}
	return 0, false
}

// wholeNumber matches a number without a fraction or exponent.
var wholeNumber = regexp.MustCompile(`^[-+]?[0-9]+$`)

// The forms of numbers in the core schema of YAML 1.2, and a whole number with a zero
// before its first digit.
var (
	coreWhole   = regexp.MustCompile(`^(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$`)
	coreFloat   = regexp.MustCompile(`^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$`)
	leadingZero = regexp.MustCompile(`^[-+]?0[0-9]+$`)
)

// otherVersion returns why a plain scalar has another meaning for some readers of YAML: in
// YAML 1.1, which they implement in part, and in 1.2. It is nil for all other values.
// Such a value is refused, because the author may have meant either.
func otherVersion(n *yaml.Node) error {
	const quoted = yaml.SingleQuotedStyle | yaml.DoubleQuotedStyle | yaml.LiteralStyle | yaml.FoldedStyle | yaml.TaggedStyle
	if n.Kind != yaml.ScalarNode || n.Style&quoted != 0 {
		return nil
	}
	isNumber := n.ShortTag() == "!!int" || n.ShortTag() == "!!float"
	switch text := n.Value; {
	case leadingZero.MatchString(text):
		sign := strings.TrimRight(text, "0123456789")
		digits := cmp.Or(strings.TrimLeft(text, "+-0"), "0")
		return fmt.Errorf("%s is decimal in YAML 1.2 and octal in YAML 1.1; write %s or %q, or 0o… for an octal number", shorten(text), shorten(sign+digits), shorten(text))
	case isNumber && strings.Contains(text, "_"):
		return fmt.Errorf("%s is text in YAML 1.2 and a number in YAML 1.1; write %s or %q", shorten(text), shorten(strings.ReplaceAll(text, "_", "")), shorten(text))
	case isNumber && !coreWhole.MatchString(text) && !coreFloat.MatchString(text) && !strings.Contains(strings.ToLower(text), ".inf") && !strings.EqualFold(text, ".nan"):
		return fmt.Errorf("%s is text in YAML 1.2 and a number in YAML 1.1; write a decimal number or %q", shorten(text), shorten(text))
	case !isNumber && coreFloat.MatchString(text):
		return fmt.Errorf("%s does not fit in 64 bits; write it as a string", shorten(text))
	}
	return nil
}

// booleanWords are true and false in YAML 1.1, and text in YAML 1.2.
var booleanWords = map[string]string{"yes": "true", "on": "true", "no": "false", "off": "false"}

// otherBoolean is otherVersion for the words that only YAML 1.1 takes for booleans. They
// matter for free values; a field that must be text takes them as such.
func otherBoolean(n *yaml.Node) error {
	meaning := booleanWords[strings.ToLower(n.Value)]
	plain := n.Kind == yaml.ScalarNode && n.Style == 0
	mixed := n.Value != strings.ToLower(n.Value) && n.Value != strings.ToUpper(n.Value) && n.Value != strings.ToUpper(n.Value[:1])+strings.ToLower(n.Value[1:])
	if meaning == "" || !plain || mixed {
		return nil
	}
	return fmt.Errorf("%s is text in YAML 1.2 and %s in YAML 1.1; write %s or %q", n.Value, meaning, meaning, n.Value)
}

// number returns a number as int64, uint64 or float64, or nil for any other value. The
// error is for a number without a representation in these types.
func number(n *yaml.Node) (any, error) {
	if err := otherVersion(n); err != nil {
		return nil, err
	}
	tag := n.ShortTag()
	if tag != "!!int" && tag != "!!float" {
		return nil, nil
	}
	var v any
	err := n.Decode(&v)
	f, isFloat := v.(float64)
	switch {
	case (err != nil || isFloat) && wholeNumber.MatchString(n.Value):
		return nil, fmt.Errorf("%s does not fit in 64 bits; write it as a string", shorten(n.Value))
	case err != nil:
		return nil, fmt.Errorf("%s cannot be read as a number", shorten(n.Value))
	case isFloat && (math.IsNaN(f) || math.IsInf(f, 0)):
		return nil, fmt.Errorf("%s has no JSON form; write a finite number or a string", shorten(n.Value))
	case isFloat:
		return f, nil
	}
	if i, ok := v.(int); ok {
		return int64(i), nil
	}
	return v, nil // int64 or uint64
}
