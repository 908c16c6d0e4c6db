package convert

import (
	"encoding/json"
	"math/big"
	"reflect"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/ipc"
)

const (
	itemSchema = `{"type":"array","items":{"$ref":"#/$defs/Item"},"$defs":{"Item":{"title":"Item","type":"object",` +
		`"properties":{"price":{"type":"number"},"tags":{"type":"array","items":{"type":"string"}},"count":{"type":"integer"}},"required":["price"]}}}`
	treeSchema = `{"$ref":"#/$defs/T","$defs":{"T":{"title":"Tree","type":"object","properties":{"value":{"type":"integer"},` +
		`"children":{"type":"array","items":{"$ref":"#/$defs/T"}}},"required":["value","children"]}}}`
	optionalInt = `{"anyOf":[{"type":"integer"},{"type":"null"}]}`
)

type (
	goItem struct {
		Price float64  `json:"price"`
		Tags  []string `json:"tags,omitempty"`
	}
	cents     string
	wrongItem struct {
		Price cents `json:"price"`
	}
	withoutPrice struct {
		Tags []string `json:"tags"`
	}
	folded2 struct{ PRICE float64 }
	goTree  struct {
		Value    int       `json:"value"`
		Children []*goTree `json:"children"`
	}
	wrongTree struct {
		Value    bool        `json:"value"`
		Children []wrongTree `json:"children"`
	}
	embedded struct {
		*goItem
		Count uint8 `json:"count"`
	}
	level uint8
)

// columns is a type that is sent as a table, and decoded from one.
type columns struct{ Names []string }

func (c columns) MarshalTable() (*ipc.Table, error) { return &ipc.Table{}, nil }
func (c *columns) UnmarshalTable(*ipc.Table) error  { return nil }

func (l *level) UnmarshalText(text []byte) error { *l = level(len(text)); return nil }
func (l level) MarshalText() ([]byte, error)     { return []byte("x"), nil }

func TestATypeThatIsSentIsComparedWithTheSchemaOfAnInput(t *testing.T) {
	for name, c := range map[string]struct {
		sent   any
		schema string
		want   string // empty if it fits
	}{
		"anything":              {[]int{}, ``, ""},
		"an interface":          {[]any{}, itemSchema, ""},
		"records":               {[]goItem{}, itemSchema, ""},
		"pointers to records":   {[]*goItem{}, itemSchema, ""},
		"a pointer for a value": {new(5), optionalInt, ""},
		"a pointer to text":     {new("x"), optionalInt, `input: In is *string, but "n" takes an integer or null`},
		"a float for an int":    {1.5, `{"type":"integer"}`, ""},
		"another field":         {[]wrongItem{}, itemSchema, `input[].price: In[].Price is convert.cents, but "n" takes a number`},
		"a missing key":         {[]withoutPrice{}, itemSchema, `input[]: In[] is convert.withoutPrice without it, but "n" takes a map (Item) with the key "price"`},
		"a recursive type":      {goTree{}, treeSchema, ""},
		"another recursive one": {&wrongTree{}, treeSchema, `input.value: In.Value is bool, but "n" takes an integer`},
		"embedded":              {[]embedded{}, itemSchema, ""},
		"a map":                 {map[string]int{}, `{"type":"object","additionalProperties":{"type":"string"}}`, `input[]: In[] is int, but "n" takes text`},
		"a time":                {time.Time{}, `{"type":"string","format":"date-time"}`, ""},
		"a pointer to a time":   {&time.Time{}, `{"type":"string"}`, `input: In is *time.Time, but "n" takes text`},
		"text of its own":       {level(1), `{"type":"string"}`, ""},
		"bytes for text":        {[]byte{}, `{"type":"string"}`, `input: In is []uint8, but "n" takes text`},
		"bytes":                 {[2]byte{}, `{"x-gophersnake":"bytes"}`, ""},
		"numbers for an array":  {[]float32{}, `{"anyOf":[{"x-gophersnake":"tensor","x-dtype":"float32"},{"type":"array"}]}`, ""},
		"a list for a Tensor":   {[]float32{}, `{"x-gophersnake":"tensor"}`, `input: In is []float32, but "n" takes an array`},
		"a tensor":              {&ipc.Tensor{}, `{"x-gophersnake":"tensor","x-dtype":"int8"}`, ""},
		"two for a list of one": {[2]int{}, `{"type":"array","prefixItems":[{"type":"integer"}],"items":false,"minItems":1}`, `input: In is [2]int of 2, but "n" takes a list of 1`},
		"a table":               {&ipc.Table{}, `{"anyOf":[{"x-gophersnake":"table"},{"type":"array","items":{"type":"object"}}]}`, ""},
		"columns":               {columns{}, `{"x-gophersnake":"table","x-columns":[]}`, ""},
		"a table for a list":    {columns{}, itemSchema, `input: In is convert.columns, but "n" takes a list`},
		"a document":            {json.RawMessage{}, `{"x-gophersnake":"json"}`, ""},
		"a large integer":       {big.Int{}, `{"type":"string"}`, `input: In is big.Int, but "n" takes text`},
		"a channel":             {struct{ C []chan int }{}, ``, `In.C[]: a Go value of type chan int has no form on the wire`},
		"keys of integers":      {map[int]int{}, ``, `In: a map whose keys are int; keys must be strings`},
	} {
		t.Run(name, func(t *testing.T) {
			err := Compare(reflect.TypeOf(c.sent), Sent, []byte(c.schema), `"n"`)
			if c.want == "" {
				assert.NoError(t, err)
			} else {
				assert.EqualError(t, err, c.want)
			}
		})
	}
}

// A row holds if Decode refuses the value exactly if the comparison refuses the type.
func TestATypeIsRefusedIfValuesOfTheSchemaAreNotDecodedIntoIt(t *testing.T) {
	tensor, err := ipc.NewTensor([]float64{1, 2, 3, 4}, 2, 2)
	require.NoError(t, err)
	flags, err := ipc.NewTensor([]bool{true}, 1)
	require.NoError(t, err)
	half := &ipc.Tensor{DType: ipc.Float16, Shape: []int{1}, Data: []byte{0, 60}}
	complexes, err := ipc.NewTensor([]complex64{1i}, 1)
	require.NoError(t, err)
	scalar, err := ipc.NewTensor([]float32{1})
	require.NoError(t, err)
	item := map[string]any{"price": 1.5, "tags": []any{"x"}, "count": int64(2)}
	const (
		number, text, moment, bytes = `{"type":"number"}`, `{"type":"string"}`, `{"type":"string","format":"date-time"}`, `{"x-gophersnake":"bytes"}`
		integers                    = `{"type":"array","items":{"type":"integer"}}`
		square                      = `{"x-gophersnake":"tensor","x-dtype":"float64","x-shape":["n","n"]}`
	)
	for _, c := range []struct {
		schema string
		value  any
		out    any // a pointer to the Go type
		want   string
	}{
		{``, 1.5, new(float64), ""},
		{number, 1.5, new(float32), ""},
		{number, 1.5, new(int), `result: Out is int, but "n" returns a number`},
		{number, 1.5, new(json.Number), ""},
		{`{"type":"integer"}`, int64(3), new(float64), ""},
		{`{"type":"integer"}`, int64(3), new(uint8), ""},
		{`{"type":"integer"}`, int64(3), new(big.Int), ""},
		{`{"type":"integer"}`, int64(3), new(time.Duration), ""},
		{`{"type":"integer"}`, int64(3), new(string), `result: Out is string, but "n" returns an integer`},
		{`{"type":"integer","minimum":1000}`, int64(1000), new(int8), `result: Out is int8, but "n" returns an integer`},
		{optionalInt, nil, new(int), `result: Out is int, but "n" returns an integer or null`},
		{optionalInt, nil, new(*int), ""},
		{optionalInt, nil, new(any), ""},
		{`{"anyOf":[{"type":"integer"},{"type":"string"}]}`, "x", new(int), `result: Out is int, but "n" returns an integer or text`},
		{`{"enum":["a","b"]}`, "a", new(cents), ""},
		{`{"enum":["a",1]}`, int64(1), new(string), `result: Out is string, but "n" returns one of ["a",1]`},
		{text, "x", new(level), ""},
		{text, "x", new([]byte), `result: Out is []uint8, but "n" returns text`},
		{moment, time.Now(), new(time.Time), ""},
		{moment, time.Now(), new(string), `result: Out is string, but "n" returns text (date-time)`},
		{`{"type":"string","format":"date"}`, "2024-05-01", new(time.Time), `result: Out is time.Time, but "n" returns text (date)`},
		{bytes, []byte("x"), new([]byte), ""},
		{bytes, []byte("x"), new([1]level), ""},
		{bytes, []byte("x"), new(string), `result: Out is string, but "n" returns bytes`},
		{integers, []any{int64(1)}, new([]byte), ""},
		{integers, []any{int64(1)}, new([]float64), ""},
		{integers, []any{int64(1)}, new([]string), `result[]: Out[] is string, but "n" returns an integer`},
		{integers, []any{int64(1)}, new(map[string]int), `result: Out is map[string]int, but "n" returns a list`},
		{itemSchema, []any{item}, new([]goItem), ""},
		{itemSchema, []any{item}, new([]*embedded), `Out[].Price: its embedded struct is a pointer of the unexported type *convert.goItem`},
		{itemSchema, []any{item}, new([]struct{ goItem }), ""},
		{itemSchema, []any{item}, new([]folded2), ""},
		{itemSchema, []any{item}, new([]map[string]any), ""},
		{itemSchema, []any{item}, new(any), ""},
		{itemSchema, []any{item}, new([]wrongItem), `result[].price: Out[].Price is convert.cents, but "n" returns a number`},
		{itemSchema, []any{item}, new(goItem), `result: Out is convert.goItem, but "n" returns a list`},
		{`{"anyOf":[{"$ref":"#/$defs/R"},{"type":"null"}],"$defs":{"R":{"type":"object","properties":{"price":{"type":"number"}}}}}`, map[string]any{"price": 1.5}, new(*wrongItem), `result.price: Out.Price is convert.cents, but "n" returns a number`},
		{treeSchema, map[string]any{"value": int64(1), "children": []any{}}, new(goTree), ""},
		{treeSchema, map[string]any{"value": int64(1), "children": []any{}}, new(wrongTree), `result.value: Out.Value is bool, but "n" returns an integer`},
		{square, tensor, new([][]float32), ""},
		{square, tensor, new([2][2]float64), ""},
		{square, tensor, new(*ipc.Tensor), ""},
		{square, tensor, new([]float32), `result: Out is []float32, but "n" returns an array of float64 and shape [n n]`},
		{square, tensor, new([][]int), `result: Out is [][]int, but "n" returns an array of float64 and shape [n n]`},
		{square, tensor, new([]any), `result: Out is []any, but "n" returns an array of float64 and shape [n n]`},
		{`{"x-gophersnake":"tensor"}`, tensor, new([][]float32), ""},
		{`{"type":"array","items":{"x-gophersnake":"tensor","x-dtype":"complex64"}}`, []any{complexes}, new([][]complex64), ""},
		{`{"type":"array","items":{"type":"number"}}`, []any{1.5}, new([]complex64), `result: Out is []complex64, but "n" returns a list`},
		{`{"x-gophersnake":"tensor","x-dtype":"bool"}`, flags, new([]int8), `result: Out is []int8, but "n" returns an array of bool`},
		{`{"x-gophersnake":"tensor","x-dtype":"float16"}`, half, new([]float32), ""},
		{`{"x-gophersnake":"tensor","x-dtype":"float32","x-shape":[]}`, scalar, new(float64), ""},
		{`{"x-gophersnake":"audio"}`, &ipc.Audio{}, new(*ipc.Audio), ""},
		{`{"x-gophersnake":"table"}`, &ipc.Table{}, new(*ipc.Table), ""},
		{`{"x-gophersnake":"table"}`, &ipc.Table{}, new(columns), ""},
		{`{"x-gophersnake":"table"}`, &ipc.Table{}, new([]goItem), `result: Out is []convert.goItem, but "n" returns a table`},
		{`{"x-gophersnake":"audio"}`, &ipc.Audio{}, new(*ipc.Image), `result: Out is *ipc.Image, but "n" returns Audio`},
		{`{"x-gophersnake":"json"}`, ipc.JSON(`{"price":1}`), new(goItem), ""},
		{`{"x-gophersnake":"json"}`, ipc.JSON(`{"price":1}`), new(json.RawMessage), ""},
		{`{"type":"object"}`, map[string]any{"a": int64(1)}, new(ipc.Object), ""},
		{`{"type":"array","prefixItems":[{"type":"number"},{"type":"number"}],"items":false,"minItems":2}`, []any{1.0, 2.0}, new([2]float64), ""},
		{`{"type":"array","prefixItems":[{"type":"number"},{"type":"number"}],"items":false,"minItems":2}`, []any{1.0, 2.0}, new([3]float64), `result: Out is [3]float64, but "n" returns a list`},
	} {
		out := reflect.TypeOf(c.out).Elem()
		t.Run(out.String()+" from "+c.schema, func(t *testing.T) {
			compared := Compare(out, Decoded, []byte(c.schema), `"n"`)
			decoded := Decode("result", c.value, c.out)
			if c.want == "" {
				require.NoError(t, compared)
				assert.NoError(t, decoded)
				return
			}
			require.EqualError(t, compared, c.want)
			assert.Error(t, decoded)
		})
	}
	// Typing errors in the keys are found although Decode ignores other keys.
	require.EqualError(t, Compare(reflect.TypeFor[[]struct{ Prize float64 }](), Decoded, []byte(itemSchema), `"n"`),
		`result[]: Out[] is struct { Prize float64 } without any of its keys, but "n" returns a map (Item)`)
}
