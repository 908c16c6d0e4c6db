package builtin

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
)

// Param is one param of a type. The type of Default, a float64, int64, string or bool, is
// that of the param.
type Param struct {
	Name string
	// Alias is another name, such as the spelling in camel case.
	Alias   string
	Default any
	// Required is set if the manifest must set the param; Default then only has its type.
	Required bool
	// Min and Max bound a number; they do not if both are 0.
	Min, Max float64
	// Choices are the values that a text may have; any if empty.
	Choices []string
	// Auto says that the text "auto" stands for a number that the node finds itself.
	Auto bool
}

// Annotation returns the type of the param in Python's notation.
func (p *Param) Annotation() string {
	switch p.Default.(type) {
	case float64:
		return "float"
	case int64:
		return "int"
	case bool:
		return "bool"
	}
	return "str"
}

// Repr returns the default in Python's notation.
func (p *Param) Repr() string {
	switch v := p.Default.(type) {
	case string:
		return "'" + strings.NewReplacer(`\`, `\\`, "\n", `\n`, "'", `\'`).Replace(v) + "'"
	case bool:
		if v {
			return "True"
		}
		return "False"
	case float64:
		if v == math.Trunc(v) {
			return fmt.Sprintf("%.1f", v)
		}
	}
	return fmt.Sprint(p.Default)
}

// ParamError says that the params of a node are wrong.
type ParamError struct{ Message, Hint string }

func (e *ParamError) Error() string { return e.Message }

// Values are the params of a node under their own names.
type Values map[string]any

func (v Values) float(name string) float64 { return v[name].(float64) }
func (v Values) integer(name string) int   { return int(v[name].(int64)) }
func (v Values) text(name string) string   { return v[name].(string) }
func (v Values) boolean(name string) bool  { return v[name].(bool) }

// Arrange checks the params of a manifest. It returns them with their own names for aliases,
// and with the types of the defaults. Params that are not set are left out. The error is a
// [*ParamError].
func (t *Type) Arrange(params map[string]any) (Values, error) {
	values := make(Values, len(t.Params))
	for _, name := range slices.Sorted(maps.Keys(params)) {
		p := t.param(name)
		if p == nil {
			return nil, t.unknownParam(name)
		}
		if _, twice := values[p.Name]; twice {
			return nil, &ParamError{Message: fmt.Sprintf("%s and %s are the same param of %s", p.Name, p.Alias, t.Name)}
		}
		v, err := p.value(params[name])
		if err != nil {
			return nil, err
		}
		values[p.Name] = v
	}
	for _, p := range t.Params {
		if _, ok := values[p.Name]; p.Required && !ok {
			return nil, &ParamError{Message: fmt.Sprintf("%s requires the param %s", t.Name, p.Name)}
		}
	}
	return values, nil
}

// Complete adds the defaults to what Arrange returned.
func (t *Type) Complete(values Values) Values {
	all := maps.Clone(values)
	for _, p := range t.Params {
		if _, ok := all[p.Name]; !ok {
			all[p.Name] = p.Default
		}
	}
	return all
}

func (t *Type) param(name string) *Param {
	for i := range t.Params {
		if p := &t.Params[i]; p.Name == name || p.Alias == name {
			return p
		}
	}
	return nil
}

func (t *Type) unknownParam(name string) error {
	e := &ParamError{Message: fmt.Sprintf("%s has no param %q", t.Name, name), Hint: "it has none"}
	if len(t.Params) > 0 {
		names := make([]string, len(t.Params))
		for i, p := range t.Params {
			names[i] = p.Name
		}
		e.Hint = "its params are " + strings.Join(names, ", ")
	}
	return e
}

// value checks a value and converts it to the type of the param.
func (p *Param) value(v any) (any, error) {
	wrong := func(what string) error {
		return &ParamError{Message: fmt.Sprintf("params.%s: expected %s, got %v", p.Name, what, v)}
	}
	if text, ok := v.(string); ok && p.Auto && text == "auto" {
		return text, nil
	}
	switch p.Default.(type) {
	case string:
		text, ok := v.(string)
		if !ok {
			return nil, wrong("text")
		}
		if len(p.Choices) > 0 && !slices.Contains(p.Choices, text) {
			return nil, wrong("one of " + strings.Join(p.Choices, ", "))
		}
		return text, nil
	case bool:
		if _, ok := v.(bool); !ok {
			return nil, wrong("true or false")
		}
		return v, nil
	}
	number, ok := number(v)
	_, whole := p.Default.(int64)
	switch {
	case !ok || math.IsNaN(number):
		return nil, wrong("a number")
	case (p.Min != 0 || p.Max != 0) && (number < p.Min || number > p.Max):
		return nil, wrong(p.bounds())
	case whole && number != math.Trunc(number):
		return nil, wrong("an integer")
	case whole:
		return int64(number), nil
	}
	return number, nil
}

// bounds says which numbers the param takes.
func (p *Param) bounds() string {
	if p.Min == p.Max {
		return fmt.Sprint(p.Min)
	}
	return fmt.Sprintf("a number from %v to %v", p.Min, p.Max)
}

// number returns any number of Go's that a manifest or a value may have.
func number(v any) (float64, bool) {
	switch v := v.(type) {
	case int:
		return float64(v), true
	case int64:
		return float64(v), true
	case uint64:
		return float64(v), true
	case float32:
		return float64(v), true
	case float64:
		return v, true
	}
	return 0, false
}
