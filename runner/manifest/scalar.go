package manifest

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// scalar returns a single value. What says what it must be.
func (d *decoder) scalar(at place, what string) (place, bool) {
	at, ok := d.follow(at)
	if ok && at.node.Kind != yaml.ScalarNode {
		d.fail(at, "must be %s, not %s", what, describe(at.node))
		return at, false
	}
	return at, ok
}

// text returns a reader of a string that is not empty.
func (d *decoder) text(dst *string) reader {
	return func(at place) {
		if d.anyText(dst)(at); *dst == "" {
			d.at(at.path, "must not be empty")
		}
	}
}

// anyText returns a reader of a string.
func (d *decoder) anyText(dst *string) reader {
	return func(at place) {
		at, ok := d.scalar(at, "a string")
		switch {
		case !ok:
		case at.node.ShortTag() == "!!str":
			*dst = at.node.Value
		case at.node.ShortTag() == "!!null":
			d.fail(at, "is empty; give it a value or leave it out")
		default:
			d.fail(at, "must be a string; write %q", at.node.Value)
		}
	}
}

// flag returns a reader of a truth value.
func (d *decoder) flag(dst *bool) reader {
	return func(at place) {
		at, ok := d.scalar(at, "true or false")
		if ok && (at.node.ShortTag() != "!!bool" || at.node.Decode(dst) != nil) {
			d.fail(at, "must be true or false, not %s", describe(at.node))
		}
	}
}

// integer returns a reader of a whole number.
func (d *decoder) integer(dst *int) reader {
	return func(at place) {
		at, ok := d.scalar(at, "a whole number")
		if !ok {
			return
		}
		n, ok := asWhole(at.node)
		if !ok || n < math.MinInt32 || n > math.MaxInt32 {
			d.fail(at, "must be a whole number, not %s", describe(at.node))
			return
		}
		*dst = int(n)
	}
}

// asWhole returns a whole number. As in JSON, 2.0 is one.
func asWhole(n *yaml.Node) (int64, bool) {
	switch v, _ := number(n); v := v.(type) {
	case int64:
		return v, true
	case float64:
		return int64(v), v == math.Trunc(v) && math.Abs(v) < 1<<53
	}
	return 0, false
}

// float returns a reader of a number.
func (d *decoder) float(dst *float64) reader {
	return func(at place) {
		at, ok := d.scalar(at, "a number")
		if !ok {
			return
		}
		if *dst, ok = asFloat(at.node); !ok {
			d.fail(at, "must be a number, not %s", describe(at.node))
		}
	}
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

// durationRule says which durations besides the positive ones a field takes.
type durationRule uint8

const (
	positive durationRule = iota
	orZero
	orNone // "none" is 0
)

// duration returns a reader of a duration: text such as 30s or 1m30s, or a number
// of seconds.
func (d *decoder) duration(dst *time.Duration, rule durationRule) reader {
	what := "a duration such as 500ms, 30s or 5m (a plain number is seconds)"
	if rule == orNone {
		what += ", or none"
	}
	return func(at place) {
		at, ok := d.scalar(at, what)
		if !ok {
			return
		}
		if rule == orNone && at.node.Value == "none" {
			*dst = 0
			return
		}
		v, ok := parseDuration(at.node)
		switch {
		case !ok:
			d.fail(at, "must be %s, not %s", what, describe(at.node))
		case v < 0 && rule == orZero:
			d.fail(at, "must not be negative")
		case v < 0, v == 0 && rule == positive:
			d.fail(at, "must be more than 0, not %s", at.node.Value)
		case v == 0 && rule == orNone:
			d.fail(at, "must be more than 0; write none for no bound")
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

// size returns a reader of a number of bytes: 512MiB, 1.5GB, or a plain number.
func (d *decoder) size(dst *int64) reader {
	const what = "a size such as 512MiB or 1.5GB (a plain number is bytes)"
	return func(at place) {
		at, ok := d.scalar(at, what)
		if !ok {
			return
		}
		n, ok := parseSize(at.node)
		if !ok {
			d.fail(at, "must be %s, not %s", what, describe(at.node))
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

// wholeNumber is a number without a fraction or exponent.
var wholeNumber = regexp.MustCompile(`^[-+]?[0-9_]+$`)

// number returns the int64, uint64 or float64 that is written, or nil where the
// value is no number.
func number(n *yaml.Node) (any, error) {
	tag := n.ShortTag()
	if tag != "!!int" && tag != "!!float" {
		return nil, nil
	}
	var v any
	err := n.Decode(&v)
	f, isFloat := v.(float64)
	switch {
	case (err != nil || isFloat) && wholeNumber.MatchString(n.Value):
		return nil, fmt.Errorf("%s is beyond 64 bits; write it as a string", shorten(n.Value))
	case err != nil:
		return nil, fmt.Errorf("%s is not a number that can be read", shorten(n.Value))
	case isFloat && (math.IsNaN(f) || math.IsInf(f, 0)):
		return nil, fmt.Errorf("%s is no number in JSON, which params keep to", shorten(n.Value))
	case isFloat:
		return f, nil
	}
	if i, ok := v.(int); ok {
		return int64(i), nil
	}
	return v, nil // int64 or uint64
}

// enumerate writes a list as words.
func enumerate(names []string) string { return strings.Join(names, ", ") }
