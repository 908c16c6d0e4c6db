package convert_test

import (
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner/internal/convert"
)

type color int

const (
	red color = iota
	green
)

func (c color) MarshalText() ([]byte, error) {
	if c != red && c != green {
		return nil, fmt.Errorf("no color")
	}
	return []byte([]string{"red", "green"}[c]), nil
}

func (c *color) UnmarshalText(text []byte) error {
	switch string(text) {
	case "red":
		*c = red
	case "green":
		*c = green
	default:
		return fmt.Errorf("no color")
	}
	return nil
}

type currency string

type base struct {
	ID int64 `json:"id"`
}

// Origin is an embedded struct that may be absent.
type Origin struct {
	Country string `json:"country"`
}

type item struct {
	base
	*Origin
	Name     string    `json:"name"`
	Price    float64   `json:"price"`
	Currency currency  `json:"currency,omitempty"`
	Color    color     `json:"color"`
	Note     *string   `json:"note"`
	At       time.Time `json:"at"`
	Packed   int       `msgpack:"packed"`
	Untagged string
	Ignored  int `json:"-"`
}

type order struct {
	Items   []item             `json:"items"`
	Byname  map[string]item    `json:"by_name"`
	Vector  []float32          `json:"vector"`
	Matrix  [][]float32        `json:"matrix"`
	Pair    [2]int             `json:"pair"`
	Raw     []byte             `json:"raw"`
	Scores  map[string]float64 `json:"scores"`
	Any     any                `json:"any"`
	Tensor  *ipc.Tensor        `json:"tensor"`
	Parent  *order             `json:"parent"`
	JSON    ipc.JSON           `json:"json"`
	Elapsed time.Duration      `json:"elapsed"`
}

func tensor[T ipc.Element](t testing.TB, data []T, shape ...int) *ipc.Tensor {
	t.Helper()
	made, err := ipc.NewTensor(data, shape...)
	require.NoError(t, err)
	return made
}

// sent returns v as a node that returns its input makes it arrive.
func sent(t testing.TB, v any) any {
	t.Helper()
	payload, err := ipc.Encode("input", v)
	require.NoError(t, err)
	got, err := payload.Decode("result", ipc.DefaultLimits())
	require.NoError(t, err)
	return got
}

func TestAStructThatIsSentAndReceivedIsTheSame(t *testing.T) {
	note := "fragile"
	one := item{base: base{ID: math.MaxInt64}, Origin: &Origin{Country: "NO"}, Name: "a", Price: 1.5, Currency: "EUR", Color: green,
		Note: &note, At: time.Date(2026, 3, 1, 12, 0, 0, 5, time.UTC), Packed: 3, Untagged: "x"}
	in := order{
		Items: []item{one, {}}, Byname: map[string]item{"one": one}, Vector: []float32{1, 2}, Matrix: [][]float32{{1}, {2, 3}},
		Pair: [2]int{1, 2}, Raw: []byte{0, 255}, Scores: map[string]float64{"x": math.Inf(1)}, Any: "text",
		Tensor: tensor(t, []int16{1, 2}, 2), Parent: &order{Items: []item{}, Byname: map[string]item{}, Vector: []float32{},
			Matrix: [][]float32{}, Raw: []byte{}, Scores: map[string]float64{}, JSON: ipc.JSON("null")}, JSON: ipc.JSON(`{"b":1,"a":2}`),
		Elapsed: time.Second,
	}
	in.Items[1].At = in.Items[0].At
	var out order
	require.NoError(t, convert.Decode("result", sent(t, in), &out))
	assert.Contains(t, sent(t, one), "packed", "the name in the msgpack tag")
	assert.Equal(t, in.Items[1].Name, out.Items[1].Name)
	in.Items[1].Origin, out.Items[1].Origin = nil, nil
	assert.Equal(t, in, out)
}

func TestEachValueIsConvertedToTheTypesThatHoldIt(t *testing.T) {
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	large, _ := new(big.Int).SetString("18446744073709551616", 10)
	image := &ipc.Image{Pixels: []byte{1}, Format: "gray8", Width: 1, Height: 1}
	audio := &ipc.Audio{Samples: []float32{0}, Rate: 8000, Channels: 1}
	yes, text := true, "x"
	rows := []struct {
		in, want any // the type of want is the target's
	}{
		{true, true},
		{int64(-5), int64(-5)}, {int64(-5), -5}, {int64(127), int8(127)}, {int64(255), uint8(255)}, {int64(7), uint64(7)},
		{uint64(math.MaxUint64), uint64(math.MaxUint64)}, {int64(1), color(1)}, {int64(3), 3 * time.Nanosecond},
		{1.5, 1.5}, {1.5, float32(1.5)}, {int64(2), 2.0}, {int64(2), float32(2)}, {math.Inf(-1), float32(math.Inf(-1))},
		{int64(5), *big.NewInt(5)}, {int64(5), json.Number("5")}, {0.1, json.Number("0.1")}, {uint64(1 << 63), json.Number("9223372036854775808")},
		{"x", "x"}, {"x", currency("x")}, {"green", green}, {"green", &[]color{green}[0]}, {"2026-03-01T12:00:00Z", at}, {at, at}, {at, &at},
		{"x", &text}, {nil, (*string)(nil)}, {nil, []int(nil)}, {nil, map[string]int(nil)}, {nil, any(nil)}, {true, &yes},
		{[]byte("ab"), []byte("ab")}, {[]byte("ab"), [2]byte{0x61, 0x62}},
		{[]any{int64(1), int64(2)}, []int{1, 2}}, {[]any{int64(1), 2.5}, []float32{1, 2.5}}, {[]any{int64(1)}, [1]uint16{1}}, {[]any{int64(9)}, []byte{9}},
		{[]any{[]any{1.5}, []any{}}, [][]float64{{1.5}, {}}}, {[]any{"a", nil}, []*string{func() *string { s := "a"; return &s }(), nil}},
		{map[string]any{"a": int64(1)}, map[string]int{"a": 1}}, {map[string]any{"a": int64(1)}, map[currency]int{"a": 1}},
		{ipc.Object{{Key: "a", Value: int64(1)}}, map[string]int{"a": 1}}, {ipc.Object{{Key: "id", Value: int64(1)}}, base{ID: 1}},
		{map[string]any{"b": nil, "a": true}, ipc.Object{{Key: "a", Value: true}, {Key: "b", Value: nil}}},
		{map[string]any{"ID": int64(4), "extra": "ignored"}, base{ID: 4}},
		{tensor(t, []float32{1, 2}, 2), []float32{1, 2}}, {tensor(t, []float64{1, 2.5}, 2), []float32{1, 2.5}}, {tensor(t, []int8{1, -2}, 2), []int64{1, -2}},
		{tensor(t, []uint8{1, 2}, 2), []byte{1, 2}}, {tensor(t, []int64{1, 2}, 2), []float64{1, 2}}, {tensor(t, []bool{true, false}, 2), []bool{true, false}},
		{tensor(t, []complex64{1i}, 1), []complex128{1i}}, {tensor(t, []complex128{1i}, 1), []complex128{1i}},
		{tensor(t, []float32{1, 2, 3, 4, 5, 6}, 3, 2), [][]float32{{1, 2}, {3, 4}, {5, 6}}}, {tensor(t, []float64{1, 2}, 1, 2), [1][2]float32{{1, 2}}},
		{tensor(t, []uint16{1, 2, 3, 4}, 2, 1, 2), [][][]uint16{{{1, 2}}, {{3, 4}}}}, {tensor(t, []float32{}, 2, 0), [][]float32{{}, {}}},
		{tensor(t, []float32{}, 0, 1<<40), [][]float32{}},
		{tensor(t, []float32{2.5}), 2.5}, {tensor(t, []bool{true}), true}, {tensor(t, []int32{7}), uint8(7)},
		{&ipc.Tensor{DType: ipc.Float16, Shape: []int{2}, Data: []byte{0x00, 0x3c, 0x00, 0xc0}}, []float32{1, -2}},
		{&ipc.Tensor{DType: ipc.BFloat16, Shape: []int{2}, Data: []byte{0x80, 0x3f, 0x00, 0xc0}}, []float64{1, -2}},
		{image, image}, {image, *image}, {audio, audio}, {audio, *audio},
		{ipc.JSON(`{"id": 9007199254740993}`), base{ID: 9007199254740993}}, {ipc.JSON(`[1, 2.5]`), []float64{1, 2.5}}, {ipc.JSON(`null`), (*int)(nil)},
		{ipc.JSON(`[1, "a", null]`), []any{int64(1), "a", nil}}, {ipc.JSON(`18446744073709551616`), *large}, {ipc.JSON(`[1]`), json.RawMessage(`[1]`)},
		{ipc.JSON(`[1]`), ipc.JSON(`[1]`)},
	}
	for i, row := range rows {
		t.Run(fmt.Sprintf("%d %T to %T", i, row.in, row.want), func(t *testing.T) {
			got, err := decodeAs(row.in, row.want)
			require.NoError(t, err)
			assert.Equal(t, row.want, got)
		})
	}
}

func TestAValueThatDoesNotFitIsRefusedWithItsPathAndBothTypes(t *testing.T) {
	rows := []struct {
		in, target any
		text       string
	}{
		{map[string]any{"items": []any{map[string]any{}, map[string]any{"price": "five"}}}, order{}, `result.items[1].price: expected a number, got "five"`},
		{map[string]any{"by_name": map[string]any{"a.b": map[string]any{"id": 1.0}}}, order{}, `result.by_name["a.b"].id: expected an integer, got 1.0`},
		{map[string]any{"items": []any{map[string]any{"color": "blue"}}}, order{}, `result.items[0].color: expected a convert_test.color, got "blue": no color`},
		{map[string]any{"Country": int64(1)}, item{}, `result.Country: expected a string, got 1`},
		{int64(300), uint8(0), `result: expected an integer from 0 to 255, got 300`},
		{int64(-1), uint(0), `result: expected an integer from 0 to 18446744073709551615, got -1`},
		{int64(128), int8(0), `result: expected an integer from -128 to 127, got 128`},
		{uint64(1 << 63), int64(0), `result: expected an integer from -9223372036854775808 to 9223372036854775807, got 9223372036854775808`},
		{3.0, 0, `result: expected an integer, got 3.0`},
		{int64(1<<53 + 1), 0.0, `result: expected a number that a float64 holds exactly, got 9007199254740993`},
		{1e300, float32(0), `result: expected a number in the range of float32, got 1e+300`},
		{ipc.JSON(`18446744073709551616`), int64(0), `got an integer of 65 bits`},
		{ipc.JSON(`[`), 0, `result: not a JSON document: unexpected EOF`},
		{math.NaN(), json.Number(""), `result: expected a finite number, got NaN`},
		{"x", true, `result: expected a bool, got "x"`},
		{true, "", `result: expected a string, got true`},
		{[]byte("abc"), "", `result: expected a string, got 3 bytes`},
		{"abc", []byte{}, `result: expected bytes, got "abc"`},
		{"a\x1b[31m\n" + string(make([]byte, 1000)), 0, `got "a\x1b[31m\n\x00`},
		{nil, 0, `result: expected an integer, got nil`},
		{nil, base{}, `result: expected a map, got nil`},
		{[]any{}, base{}, `result: expected a map, got a list of 0 items`},
		{map[string]any{}, []int{}, `result: expected a list, got a map of 0 keys`},
		{[]any{int64(1)}, [2]int{}, `result: expected 2 items, got 1`},
		{[]byte{1}, [2]byte{}, `result: expected 2 bytes, got 1`},
		{[]any{int64(1), "x"}, []float32{}, `result[1]: expected a number, got "x"`},
		{map[string]any{}, map[int]string{}, `result: a map whose keys are int; keys must be strings`},
		{time.Time{}, "", `result: expected a string, got the time 0001-01-01T00:00:00Z`},
		{int64(0), time.Time{}, `result: expected a time, got 0`},
		{"yesterday", time.Time{}, `result: expected a time.Time, got "yesterday"`},
		{tensor(t, []float32{1, 2}, 2), [][]float32{}, `result: expected a [][]float32, got a tensor of float32 with the shape [2]`},
		{tensor(t, []float32{1, 2}, 2), []any{}, `result: expected a []interface {}, got a tensor of float32`},
		{tensor(t, []float32{1, 2.5, 3, 4}, 2, 2), [][]int{}, `result[0][0]: expected an integer, got 1.0`},
		{tensor(t, []int64{1, 2, 3, 300}, 2, 2), [][]uint8{}, `result[1][1]: expected an integer from 0 to 255, got 300`},
		{tensor(t, []float64{1, 1e300}, 2), []float32{}, `result[1]: expected a number in the range of float32, got 1e+300`},
		{tensor(t, []int64{1}, 1), []bool{}, `result[0]: expected a bool, got 1`},
		{tensor(t, []float32{}, 1<<40, 0), [][]float32{}, `result: expected at most 65536 empty lists, got a tensor`},
		{tensor(t, []float32{1}, 1), [3]float32{}, `result: expected 3 items, got 1`},
		{&ipc.Tensor{DType: "int4", Shape: []int{1}, Data: []byte{1}}, []int{}, `result: the tensor holds int4`},
		{[]any{}, ipc.Tensor{}, `result: expected a tensor, got a list of 0 items`},
		{(*ipc.Tensor)(nil), ipc.Tensor{}, `result: expected a tensor, got a Go value of type *ipc.Tensor`},
		{"x", ipc.Image{}, `result: expected an image, got "x"`},
		{"x", ipc.Object{}, `result: expected a map, got "x"`},
		{"x", ipc.JSON{}, `result: expected a JSON document, got "x"`},
		{"x", *big.NewInt(0), `result: expected an integer, got "x"`},
		{int64(1), make(chan int), `result: a Go value of type chan int cannot hold 1`},
		{int64(1), struct{ error }{}, `result: expected a map, got 1`},
		{map[string]any{"e": int64(1)}, struct {
			E fmt.Stringer `json:"e"`
		}{}, `result.e: expected a fmt.Stringer, got 1`},
	}
	for _, row := range rows {
		t.Run(row.text, func(t *testing.T) {
			_, err := decodeAs(row.in, row.target)
			require.ErrorContains(t, err, row.text)
			assert.Less(t, len(err.Error()), 300)
			assert.NotContains(t, err.Error(), "\x1b")
		})
	}
}

func TestKeysWithoutAFieldAreIgnoredAndFieldsWithoutAKeyStay(t *testing.T) {
	out := item{Name: "default", Price: 2, Origin: &Origin{Country: "NO"}}
	require.NoError(t, convert.Decode("result", map[string]any{"price": 3.0, "more": []any{}}, &out))
	assert.Equal(t, item{Name: "default", Price: 3, Origin: &Origin{Country: "NO"}}, out)

	note := "before"
	out = item{Note: &note}
	require.NoError(t, convert.Decode("result", map[string]any{"note": "after"}, &out))
	assert.Equal(t, "after", note, "a pointer that is set keeps its variable")
}

func TestTheExactKeyPrecedesOneOfAnotherCase(t *testing.T) {
	var out base
	require.NoError(t, convert.Decode("result", map[string]any{"ID": int64(1), "id": int64(2), "Id": int64(3)}, &out))
	assert.EqualValues(t, 2, out.ID)
	require.NoError(t, convert.Decode("result", map[string]any{"Id": int64(3), "ID": int64(1)}, &out))
	assert.EqualValues(t, 1, out.ID)
}

func TestATensorOfTheSameTypeIsNotCopied(t *testing.T) {
	made := tensor(t, []float32{1, 2, 3, 4}, 2, 2)
	var rows [][]float32
	require.NoError(t, convert.Decode("result", made, &rows))
	rows[1][0] = 9
	all, err := ipc.Elements[float32](made)
	require.NoError(t, err)
	assert.Equal(t, []float32{1, 2, 9, 4}, all)
	_ = append(rows[0], 7)
	assert.Equal(t, []float32{1, 2, 9, 4}, all, "appending to a row does not write to the next one")
}

func TestAValueThatContainsItselfIsRefused(t *testing.T) {
	type tree struct{ Children []tree }
	cycle := map[string]any{}
	cycle["Children"] = []any{cycle}
	var out tree
	assert.ErrorContains(t, convert.Decode("result", cycle, &out), "or a cycle")
	type endless *endless
	var never endless
	assert.ErrorContains(t, convert.Decode("result", int64(1), &never), "or a cycle")
}

func TestOnlyAPointerCanBeDecodedInto(t *testing.T) {
	for _, out := range []any{nil, item{}, (*item)(nil), 3} {
		assert.ErrorContains(t, convert.Decode("result", int64(1), out), "a pointer that is not nil")
	}
}
