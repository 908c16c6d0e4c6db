package convert

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner/internal/schema"
)

// chance makes random Go types and values.
type chance struct{ *rand.Rand }

var scalars = []reflect.Type{
	reflect.TypeFor[bool](), reflect.TypeFor[int](), reflect.TypeFor[int8](), reflect.TypeFor[uint16](), reflect.TypeFor[uint64](),
	reflect.TypeFor[float32](), reflect.TypeFor[float64](), reflect.TypeFor[string](), reflect.TypeFor[[]byte](), reflect.TypeFor[any](),
	reflect.TypeFor[time.Time](), reflect.TypeFor[time.Duration](), reflect.TypeFor[level](), reflect.TypeFor[ipc.JSON](),
}

// typ returns a type nested at most as deep as said.
func (c chance) typ(depth int) reflect.Type {
	if depth == 0 {
		return scalars[c.IntN(len(scalars))]
	}
	switch c.IntN(6) {
	case 0:
		return reflect.SliceOf(c.typ(depth - 1))
	case 1:
		return reflect.ArrayOf(c.IntN(3), c.typ(depth-1))
	case 2:
		return reflect.MapOf(reflect.TypeFor[string](), c.typ(depth-1))
	case 3:
		return reflect.PointerTo(c.typ(depth - 1))
	case 4:
		return c.structOf(func(int) reflect.Type { return c.typ(depth - 1) }, 1+c.IntN(4))
	}
	return c.typ(0)
}

func (c chance) structOf(of func(int) reflect.Type, n int) reflect.Type {
	all := make([]reflect.StructField, n)
	for i := range all {
		all[i] = reflect.StructField{Name: fmt.Sprintf("F%d", i), Type: of(i)}
		switch c.IntN(3) {
		case 0:
			all[i].Tag = reflect.StructTag(fmt.Sprintf(`json:"f%d"`, i))
		case 1:
			all[i].Tag = reflect.StructTag(fmt.Sprintf(`json:"f%d,omitzero"`, i))
		}
	}
	return reflect.StructOf(all)
}

// like returns a type that differs from t in some parts, or in none.
func (c chance) like(t reflect.Type) reflect.Type {
	if c.IntN(8) == 0 {
		return c.typ(c.IntN(3))
	}
	if t.PkgPath() != "" || t == reflect.TypeFor[[]byte]() {
		return t
	}
	switch t.Kind() {
	case reflect.Slice:
		return reflect.SliceOf(c.like(t.Elem()))
	case reflect.Array:
		return reflect.ArrayOf(t.Len(), c.like(t.Elem()))
	case reflect.Map:
		return reflect.MapOf(t.Key(), c.like(t.Elem()))
	case reflect.Pointer:
		return reflect.PointerTo(c.like(t.Elem()))
	case reflect.Struct:
		return c.structOf(func(i int) reflect.Type { return c.like(t.Field(i).Type) }, t.NumField())
	}
	return t
}

// fill sets a variable to a value without nil pointers: those that are sent count as not nil.
func (c chance) fill(v reflect.Value) {
	switch out := v.Addr().Interface().(type) {
	case *time.Time:
		*out = time.Unix(c.Int64N(1<<32), 0).UTC()
		return
	case *ipc.JSON:
		*out = ipc.JSON(`1`)
		return
	}
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(c.IntN(2) == 0)
	case reflect.Int, reflect.Int8, reflect.Int64:
		v.SetInt(c.Int64())
	case reflect.Uint8, reflect.Uint16, reflect.Uint64:
		v.SetUint(c.Uint64())
	case reflect.Float32, reflect.Float64:
		v.SetFloat(c.NormFloat64())
	case reflect.String:
		v.SetString("text")
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		c.fill(v.Index(0))
		c.fill(v.Index(1))
	case reflect.Array:
		for i := range v.Len() {
			c.fill(v.Index(i))
		}
	case reflect.Map:
		item := reflect.New(v.Type().Elem()).Elem()
		c.fill(item)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(reflect.ValueOf("key"), item)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		c.fill(v.Elem())
	case reflect.Struct:
		for i := range v.NumField() {
			c.fill(v.Field(i))
		}
	}
}

// sentValue returns what a node gets for a random value of the type.
func (c chance) sentValue(t *testing.T, of reflect.Type) any {
	t.Helper()
	v := reflect.New(of)
	c.fill(v.Elem())
	payload, err := ipc.Encode("value", v.Elem().Interface())
	require.NoError(t, err)
	got, err := payload.Decode("value", ipc.DefaultLimits())
	require.NoError(t, err)
	return got
}

// The schema of a type describes the values that are sent for it, and the type takes them
// back.
func TestTheSchemaOfATypeDescribesItsValues(t *testing.T) {
	c := chance{rand.New(rand.NewPCG(1, 2))}
	for range 500 {
		of := c.typ(3)
		text, err := Schema("In", of, Sent)
		require.NoError(t, err)
		document, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
		require.NoError(t, err)
		compiler := jsonschema.NewCompiler()
		require.NoError(t, compiler.AddResource("in.json", document))
		compiled, err := compiler.Compile("in.json")
		require.NoError(t, err)
		got := c.sentValue(t, of)
		require.NoError(t, compiled.Validate(inJSON(got)), "%s: %s: %v", of, text, got)

		require.NoError(t, Compare(of, Sent, text, "the node"), of)
		taken, err := Schema("Out", of, Decoded)
		require.NoError(t, err)
		assert.NotEqual(t, schema.Never, schema.CompareDecoding(text, taken).Verdict, "%s %s", of, text)
	}
}

// inJSON returns a value of the wire as JSON would have it.
func inJSON(v any) any {
	switch v := v.(type) {
	case []any:
		all := make([]any, len(v))
		for i := range v {
			all[i] = inJSON(v[i])
		}
		return all
	case map[string]any:
		all := make(map[string]any, len(v))
		for key := range v {
			all[key] = inJSON(v[key])
		}
		return all
	case time.Time:
		return v.Format(time.RFC3339)
	case []byte, ipc.JSON:
		return "any"
	}
	return v
}

// Values of a schema that fits a Go type are decoded into the type, apart from numbers and
// lists whose size does not fit.
func TestWhatATypeIsSaidToTakeIsDecodedIntoIt(t *testing.T) {
	c := chance{rand.New(rand.NewPCG(3, 4))}
	fits, never := 0, 0
	for range 2000 {
		from := c.typ(3)
		to := c.like(from)
		text, err := Schema("In", from, Sent)
		require.NoError(t, err)
		got := c.sentValue(t, from)
		decoded := Decode("result", got, reflect.New(to).Interface())
		if Compare(to, Decoded, text, "the node") != nil {
			never++
			continue
		}
		fits++
		e, failed := errors.AsType[*Error](decoded)
		if failed && !isSize(e) && !hasAny(from) {
			t.Fatalf("%s is said to take %s: %v", to, from, decoded)
		}
	}
	assert.Greater(t, fits, 400)
	assert.Greater(t, never, 40)
}

// isSize reports whether a value is refused for its size, or for the text that it is.
func isSize(e *Error) bool {
	for _, words := range []string{"expected an integer from", "expected a number that", "expected a number in the range", "expected 0 ", "expected 1 ", "expected 2 ", "parsing time"} {
		if strings.Contains(e.Reason, words) {
			return true
		}
	}
	return false
}

// hasAny reports whether values of the type may be anything.
func hasAny(t reflect.Type) bool {
	switch {
	case t == reflect.TypeFor[ipc.JSON](), t.Kind() == reflect.Interface:
		return true
	case t.PkgPath() != "":
		return false
	}
	switch t.Kind() {
	case reflect.Slice, reflect.Array, reflect.Map, reflect.Pointer:
		return hasAny(t.Elem())
	case reflect.Struct:
		for i := range t.NumField() {
			if hasAny(t.Field(i).Type) {
				return true
			}
		}
	}
	return false
}
