package schema

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

const (
	any_    = `{}`
	integer = `{"type":"integer"}`
	float   = `{"type":"number"}`
	str     = `{"type":"string"}`
	null    = `{"type":"null"}`
	moment  = `{"type":"string","format":"date-time"}`
	uuid    = `{"type":"string","format":"uuid"}`
	audio   = `{"x-gophersnake":"audio"}`
	object1 = `{"type":"object"}`
	array1  = `{"type":"array"}`
)

func anyOf(all ...string) string { return `{"anyOf":[` + strings.Join(all, ",") + `]}` }
func listOf(item string) string  { return `{"type":"array","items":` + item + `}` }
func mapOf(value string) string  { return `{"type":"object","additionalProperties":` + value + `}` }
func tupleOf(all ...string) string {
	return `{"type":"array","prefixItems":[` + strings.Join(all, ",") + `],"items":false,"minItems":` + string(rune('0'+len(all))) + `}`
}

// class is a record with a key "a" of a schema; the key is required if it is written so.
func class(key, schema string) string {
	name, optional := strings.CutSuffix(key, "?")
	required := `,"required":["` + name + `"]`
	if optional {
		required = ""
	}
	return `{"$ref":"#/$defs/R","$defs":{"R":{"title":"R","type":"object","properties":{"` + name + `":` + schema + `}` + required + `}}}`
}

func tensor(dtype, shape string) string {
	return `{"x-gophersnake":"tensor","x-dtype":"` + dtype + `","x-shape":` + shape + `}`
}

func array(dtype string) string {
	return anyOf(`{"x-gophersnake":"tensor","x-dtype":"`+dtype+`"}`, array1)
}

func TestCompare(t *testing.T) {
	// recursive schemas: a tree of integers, and one of numbers
	tree := func(value string) string {
		return `{"$ref":"#/$defs/T","$defs":{"T":{"type":"object","properties":{"v":` + value + `,"c":{"type":"array","items":{"$ref":"#/$defs/T"}}},"required":["v","c"]}}}`
	}
	for name, c := range map[string]struct {
		output, input string
		want          Verdict
		says          string // "PATH: OUTPUT / INPUT"
	}{
		"the same":                       {str, str, Fits, ""},
		"text to an integer":             {str, integer, Never, ": text / an integer"},
		"anything to an integer":         {any_, integer, Open, ": any value / an integer"},
		"nothing said":                   {"", integer, Open, ": any value / an integer"},
		"an integer to anything":         {integer, any_, Fits, ""},
		"an integer to a number":         {integer, float, Fits, ""},
		"a number to an integer":         {float, integer, Open, ": a number / an integer"},
		"a title restricts nothing":      {`{"title":"x"}`, `{"title":"y","description":"z"}`, Fits, ""},
		"a union that fits":              {anyOf(integer, float), float, Fits, ""},
		"a union that may fit":           {anyOf(str, integer), integer, Open, ": text or an integer / an integer"},
		"a union that never fits":        {anyOf(str, null), integer, Never, ": text or null / an integer"},
		"to a union":                     {integer, anyOf(str, integer), Fits, ""},
		"to a union that has it not":     {float, anyOf(str, null), Never, ": a number / text or null"},
		"a type of several":              {`{"type":["string","null"]}`, str, Open, ": text or null / text"},
		"a literal to text":              {`{"enum":["a","b"]}`, str, Fits, ""},
		"a literal to more literals":     {`{"enum":["a","b"]}`, `{"enum":["a","b","c"]}`, Fits, ""},
		"a literal to others":            {`{"enum":["a"]}`, `{"enum":["b"]}`, Never, `: one of ["a"] / one of ["b"]`},
		"a literal to some":              {`{"enum":["a","b"]}`, `{"enum":["a"]}`, Open, `: one of ["a","b"] / one of ["a"]`},
		"literals to a union":            {`{"enum":["a",1]}`, anyOf(str, integer), Fits, ""},
		"a constant to an integer":       {`{"const":1.5}`, integer, Open, `: one of [1.5] / an integer`},
		"text to a literal":              {str, `{"enum":["a"]}`, Open, `: text / one of ["a"]`},
		"an integer to literals of text": {integer, `{"enum":["a"]}`, Never, `: an integer / one of ["a"]`},

		"a list":               {listOf(str), listOf(integer), Never, "[]: text / an integer"},
		"a bare list":          {array1, listOf(integer), Open, "[]: any value / an integer"},
		"to a bare list":       {listOf(str), array1, Fits, ""},
		"a tuple to a list":    {tupleOf(integer, float), listOf(float), Fits, ""},
		"a list to a tuple":    {listOf(float), tupleOf(float, float), Open, ": a list / a list"},
		"a shorter tuple":      {tupleOf(float), tupleOf(float, float), Never, ": a list of 1 / a list of 2"},
		"a tuple with another": {tupleOf(float, str), tupleOf(float, integer), Never, "[1]: text / an integer"},
		"a list to a map":      {array1, object1, Never, ": a list / a map"},

		"a map of others":             {mapOf(str), mapOf(integer), Never, "[]: text / an integer"},
		"a map to a class":            {mapOf(integer), class("a", integer), Open, ": a map / a map (R) with the key \"a\""},
		"a map of others to a class":  {mapOf(str), class("a", integer), Never, ".a: text / an integer"},
		"a bare map to a class":       {object1, class("a", integer), Open, ": a map / a map (R) with the key \"a\""},
		"a class to a bare map":       {class("a", integer), object1, Fits, ""},
		"a class to a map":            {class("a", integer), mapOf(float), Fits, ""},
		"a class to a map of others":  {class("a", integer), mapOf(str), Never, ".a: an integer / text"},
		"a class to one like it":      {class("a", integer), class("a", float), Fits, ""},
		"a class with other types":    {class("a", str), class("a", integer), Never, ".a: text / an integer"},
		"a class without the key":     {class("b", integer), class("a", integer), Never, `: a map (R) without it / a map (R) with the key "a"`},
		"a class without an optional": {class("b", integer), class("a?", integer), Fits, ""},
		"a key that may be missing":   {class("a?", integer), class("a", integer), Open, `: a map (R) / a map (R) with the key "a"`},
		"a key that is refused":       {class("a", integer), `{"type":"object","additionalProperties":false}`, Never, `: a map (R) with the key "a" / a map`},
		"an optional key of others":   {mapOf(str), class("a?", integer), Open, ".a: text / an integer"},
		"an optional item of others":  {`{"type":"array","prefixItems":[` + str + `],"items":false}`, `{"type":"array","prefixItems":[` + integer + `],"items":false}`, Open, "[0]: text / an integer"},
		"a list of classes":           {listOf(`{"type":"object","properties":{"p":` + str + `},"required":["p"]}`), listOf(`{"type":"object","properties":{"p":` + integer + `}}`), Never, "[].p: text / an integer"},
		"keys with a pattern":         {object1, `{"type":"object","propertyNames":{"pattern":"^\\d+$"}}`, Open, ": a map / a map"},

		"a recursive type":               {tree(integer), tree(float), Fits, ""},
		"a recursive type of others":     {tree(str), tree(float), Never, ".v: text / a number"},
		"text to a date":                 {str, moment, Open, ": text / text (date-time)"},
		"a date and time to text":        {moment, str, Never, ": text (date-time) / text"},
		"a UUID to text":                 {uuid, str, Fits, ""},
		"a UUID to a path":               {uuid, `{"type":"string","format":"path"}`, Fits, ""},
		"a UUID to a date":               {uuid, `{"type":"string","format":"date"}`, Never, ": text (uuid) / text (date)"},
		"text to a pattern":              {str, `{"type":"string","pattern":"^a"}`, Open, ": text / text"},
		"lengths that fit":               {`{"type":"string","minLength":3}`, `{"type":"string","minLength":2}`, Fits, ""},
		"lengths that never do":          {`{"type":"string","minLength":3}`, `{"type":"string","maxLength":2}`, Never, ": text / text"},
		"bounds that fit":                {`{"type":"integer","minimum":3,"maximum":5}`, `{"type":"number","minimum":0}`, Fits, ""},
		"bounds that may fit":            {integer, `{"type":"integer","minimum":0}`, Open, ": an integer / an integer"},
		"bounds that never do":           {`{"type":"integer","maximum":-1}`, `{"type":"integer","minimum":0}`, Never, ": an integer / an integer"},
		"multiples":                      {integer, `{"type":"integer","multipleOf":2}`, Open, ": an integer / an integer"},
		"audio":                          {audio, audio, Fits, ""},
		"audio to text":                  {audio, str, Never, ": Audio / text"},
		"text to audio":                  {str, audio, Never, ": text / Audio"},
		"audio to an array":              {audio, array("float32"), Never, ": Audio / an array of float32 or a list"},
		"a document takes plain values":  {listOf(str), `{"x-gophersnake":"json"}`, Fits, ""},
		"a document is no map":           {`{"x-gophersnake":"json"}`, object1, Never, ": a JSON document / a map"},
		"an array of the dtype":          {tensor("float32", `["n",3]`), array("float32"), Fits, ""},
		"an array of integers to floats": {tensor("int64", `["n"]`), array("float32"), Fits, ""},
		"an array of floats to integers": {tensor("float32", `["n"]`), array("int64"), Never, ": an array of float32 and shape [n] / an array of int64 or a list"},
		"an array of larger integers":    {tensor("int64", `["n"]`), array("uint8"), Open, ": an array of int64 and shape [n] / an array of uint8 or a list"},
		"a list to an array":             {listOf(float), array("float32"), Fits, ""},
		"an array to a list":             {tensor("float32", `["n"]`), listOf(float), Never, ": an array of float32 and shape [n] / a list"},
		"an array of another shape":      {tensor("int8", `["n",3]`), tensor("int8", `["n",4]`), Never, ": an array of int8 and shape [n 3] / an array of int8 and shape [n 4]"},
		"an array of fewer dimensions":   {tensor("int8", `[3]`), tensor("int8", `["n",3]`), Never, ": an array of int8 and shape [3] / an array of int8 and shape [n 3]"},
		"an array that may be square":    {tensor("int8", `["n","m"]`), tensor("int8", `["n","n"]`), Open, ": an array of int8 and shape [n m] / an array of int8 and shape [n n]"},
		"an assertion that is unknown":   {str, `{"type":"string","not":{"const":"a"}}`, Open, ": text / text"},
		"a reference to nothing":         {str, `{"$ref":"#/$defs/none"}`, Fits, ""},
		"a reference to itself":          {`{"$ref":"#/$defs/a","$defs":{"a":{"$ref":"#/$defs/a"}}}`, integer, Open, ": any value / an integer"},
		"no schema":                      {`[]`, integer, Open, ":  / "},
	} {
		t.Run(name, func(t *testing.T) {
			found := Compare([]byte(c.output), []byte(c.input))
			assert.Equal(t, c.want, found.Verdict)
			if c.want == Fits {
				assert.Zero(t, found)
			} else {
				assert.Equal(t, c.says, found.Path+": "+found.Output+" / "+found.Input)
			}
		})
	}
}

// A node says what its schema is, and may be hostile.
func TestAHostileSchemaCostsLittle(t *testing.T) {
	union := `{"$ref":"#/$defs/a"}`
	nested := func(leaf string) string {
		s := leaf
		for range 20 {
			s = `{"anyOf":[` + s + `,` + union + `,{"$ref":"#/$defs/b"}]}`
		}
		return `{"anyOf":[` + union + `],"$defs":{"a":{"anyOf":[{"$ref":"#/$defs/b"},{"$ref":"#/$defs/a"},` + s + `]},"b":` + s + `}}`
	}
	done := make(chan Finding)
	go func() { done <- Compare([]byte(nested(str)), []byte(nested(integer))) }()
	select {
	case found := <-done:
		assert.NotEqual(t, Fits, found.Verdict)
		assert.Less(t, len(found.Output), 100_000)
	case <-time.After(time.Minute):
		t.Fatal("the comparison does not end")
	}
}
