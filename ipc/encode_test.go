package ipc

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/big"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A nil slice of data is no data; written as nil it would take the frame's next buffer.
func TestMediaWithoutDataRoundTrips(t *testing.T) {
	assert.Equal(t, []any{
		&Tensor{DType: Int8, Shape: []int{0}, Data: []byte{}},
		&Audio{Samples: []float32{}, Rate: 1, Channels: 1},
		&Image{Format: "rgb8", Pixels: []byte{}},
	}, roundTrip(t, []any{
		&Tensor{DType: Int8, Shape: []int{0}},
		&Audio{Rate: 1, Channels: 1},
		&Image{Format: "rgb8"},
	}))
}

func TestGoTypesByTheirMeaning(t *testing.T) {
	type hash [4]byte
	type blob []byte
	type name string
	type level struct{ Value **int }
	three := 3
	to := &three
	list := []any{1}
	for what, c := range map[string]struct{ in, want any }{
		"array of bytes":       {hash{1, 2, 3, 4}, []byte{1, 2, 3, 4}},
		"pointer to an array":  {&hash{1, 2, 3, 4}, []byte{1, 2, 3, 4}},
		"named slice of bytes": {blob("ab"), []byte("ab")},
		"nil bytes":            {[]byte(nil), []byte{}},
		"nil named bytes":      {blob(nil), []byte{}},
		"nil slice":            {[]string(nil), []any{}},
		"nil list":             {[]any(nil), []any{}},
		"nil map":              {map[string]int(nil), map[string]any{}},
		"named string":         {[]name{"a"}, []any{"a"}},
		"duration":             {time.Second, int64(1e9)},
		"raw JSON":             {json.RawMessage(`[1]`), JSON(`[1]`)},
		"integer number":       {json.Number("12"), int64(12)},
		"large number":         {json.Number("18446744073709551615"), uint64(math.MaxUint64)},
		"decimal number":       {json.Number("1.5e2"), 150.0},
		"big integer":          {big.NewInt(-7), int64(-7)},
		"address":              {netip.MustParseAddr("127.0.0.1"), "127.0.0.1"},
		"pointer to pointer":   {level{&to}, map[string]any{"Value": int64(3)}},
		"pointer to interface": {&list, []any{int64(1)}},
		"interfaces":           {[]fmt.Stringer{nil, time.Second}, []any{nil, int64(1e9)}},
		"nil address":          {(*netip.Addr)(nil), nil},
		"tensor by value":      {[]Tensor{{DType: Uint8, Shape: []int{}, Data: []byte{1}}}, []any{&Tensor{DType: Uint8, Shape: []int{}, Data: []byte{1}}}},
		"local time":           {time.Date(2026, 1, 1, 1, 0, 0, 0, time.FixedZone("", 3600)), time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)},
	} {
		t.Run(what, func(t *testing.T) { assert.Equal(t, c.want, roundTrip(t, c.in)) })
	}
}

func TestStructsAreNamedAsInJSON(t *testing.T) {
	type base struct {
		ID   int `json:"id"`
		Name string
	}
	type Named struct{ X int }
	type Pointed struct{ Y int }
	type text string
	type whole struct {
		base
		Named    `json:"named"`
		*Pointed // nil
		text     // not exported and no struct: left out
		Name     string
		Empty    []int  `json:",omitempty"`
		Full     []int  `json:"full,omitempty"`
		Zero     Named  `json:"zero,omitzero"`
		Kept     Named  `json:"kept,omitempty"`
		Not      int    `json:"-"`
		Pointer  *int   `json:"p,omitempty"`
		Flag     bool   `json:"flag,omitempty"`
		Text     string `json:"text,omitempty"`
	}
	v := whole{base: base{ID: 7, Name: "inner"}, Name: "outer", Empty: []int{}, Full: []int{1}, text: "x"}
	inJSON, err := json.Marshal(v)
	require.NoError(t, err)
	var want, got any
	require.NoError(t, json.Unmarshal(inJSON, &want))
	again, err := json.Marshal(roundTrip(t, v))
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(again, &got))
	assert.Equal(t, want, got)
	assert.Equal(t, "outer", got.(map[string]any)["Name"])

	v.Pointed = &Pointed{Y: 2}
	assert.Equal(t, int64(2), roundTrip(t, v).(map[string]any)["Y"])
}

type broken struct{}

func (broken) MarshalText() ([]byte, error) { return nil, errors.New("no text") }

func TestEncodeRefusesValuesThatWouldNotArrive(t *testing.T) {
	type loop *loop
	var self loop
	self = &self
	var inside any
	inside = &inside
	for what, c := range map[string]struct {
		value      any
		path, says string
	}{
		"string":         {map[string]any{"s": "a\xff"}, "input.s", "not UTF-8"},
		"named string":   {[]json.Number{"x"}, "input[0]", `the number "x"`},
		"key":            {map[string]any{"a\xff": 1}, "input", "map key that is not UTF-8"},
		"key of a type":  {map[string]int{"a\xff": 1}, "input", "map key that is not UTF-8"},
		"JSON":           {JSON("\"\xff\""), "input", "not UTF-8"},
		"raw JSON":       {json.RawMessage("NaN"), "input", "not a JSON document"},
		"error":          {[]any{errors.New("x")}, "input[0]", "an error (*errors.errorString)"},
		"large integer":  {map[string]any{"n": new(big.Int).Lsh(big.NewInt(1), 64)}, "input.n", "beyond 64 bits"},
		"large number":   {json.Number("18446744073709551616"), "input", "beyond 64 bits"},
		"no text":        {broken{}, "input", "no text"},
		"pointer loop":   {self, "input", "or a cycle"},
		"interface loop": {inside, "input", "or a cycle"},
		"complex":        {[]any{1i}, "input[0]", "complex128 has no form"},
		"year 10000":     {time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC), "input", "year is not between"},
		"year 0":         {time.Date(0, 12, 31, 0, 0, 0, 0, time.UTC), "input", "year is not between"},
		"65 dimensions":  {&Tensor{DType: Uint8, Shape: make([]int, 65)}, "input", "65 dimensions"},
		"rate":           {&Audio{Rate: math.MaxInt32 + 1, Channels: 1}, "input", "rate of 2147483648"},
	} {
		t.Run(what, func(t *testing.T) {
			_, err := Encode("input", c.value)
			var verr *ValueError
			require.ErrorAs(t, err, &verr)
			assert.Equal(t, c.path, verr.Path)
			assert.Contains(t, verr.Reason, c.says)
		})
	}
}

func TestPointersAddNoDepth(t *testing.T) {
	type link struct{ Next *link }
	chain := &link{}
	for range 63 {
		chain = &link{Next: chain}
	}
	_, err := Encode("input", chain)
	require.NoError(t, err)
	_, err = Encode("input", &link{Next: chain})
	var verr *ValueError
	require.ErrorAs(t, err, &verr)
	assert.Equal(t, "input"+strings.Repeat(".Next", 64), verr.Path)
}

func TestRetryAfterIsAlwaysADelay(t *testing.T) {
	for seconds, want := range map[float64]time.Duration{
		1.5: 1500 * time.Millisecond, 0: 0, -3: 0, math.Inf(1): math.MaxInt64, 1e300: math.MaxInt64, math.Inf(-1): 0,
	} {
		delay, said := (&RemoteError{RetryAfterSeconds: &seconds}).RetryAfter()
		assert.True(t, said)
		assert.Equal(t, want, delay, "%v", seconds)
	}
	nan := math.NaN()
	delay, _ := (&RemoteError{RetryAfterSeconds: &nan}).RetryAfter()
	assert.Zero(t, delay)
}

func TestTheHintsOfRefusedValuesCanBeFollowed(t *testing.T) {
	deep := any("bottom")
	document := `"bottom"`
	for range 100 {
		deep, document = []any{deep}, "["+document+"]"
	}
	failed, done := errors.New("gone"), make(chan int, 1)
	done <- 1
	beyond := new(big.Int).Lsh(big.NewInt(1), 64)
	for what, c := range map[string]struct {
		value        any
		reason, hint string
		followed     any
	}{
		"channel": {
			done, "a Go value of type chan int has no form on the wire",
			"pass what it delivers as a slice, or send each value into a stream", []int{<-done},
		},
		"function": {
			time.Now, "a Go value of type func() time.Time has no form on the wire", "pass what it returns", time.Now(),
		},
		"complex": {
			2i, "a Go value of type complex128 has no form on the wire",
			"pass a slice of its real(…) and imag(…)", []float64{real(2i), imag(2i)},
		},
		"uintptr": {uintptr(3), "a Go value of type uintptr has no form on the wire", "pass it as a uint64", uint64(uintptr(3))},
		"error":   {failed, "an error (*errors.errorString) has no form on the wire", "pass the text of its Error()", failed.Error()},
		"keys": {
			map[int]string{1: "a"}, "a map whose keys are int; keys must be strings",
			"pass a map of fmt.Sprint of its keys", map[string]string{fmt.Sprint(1): "a"},
		},
		"any keys": {
			map[any]any{1: "a"}, "a map whose keys are interface {}; keys must be strings",
			"pass a map of fmt.Sprint of its keys", map[string]any{fmt.Sprint(any(1)): "a"},
		},
		"large integer": {beyond, "the integer 18446744073709551616 is beyond 64 bits", "pass it as a string", beyond.String()},
		"large number":  {json.Number("1e400"), `the number "1e400" is no float64`, "pass it as a string", "1e400"},
		"string": {
			"a\xff", "a string that is not UTF-8", "pass it as []byte, or strings.ToValidUTF8 of it",
			[]any{[]byte("a\xff"), strings.ToValidUTF8("a\xff", "?")},
		},
		"key": {
			map[string]int{"a\xff": 1}, "a map key that is not UTF-8", "pass strings.ToValidUTF8 of it",
			map[string]int{strings.ToValidUTF8("a\xff", "?"): 1},
		},
		"depth": {
			deep, "nested deeper than 64 levels, or a cycle", "pass its JSON text as an ipc.JSON if it has no cycle", JSON(document),
		},
		"struct with a channel": {
			struct{ C chan int }{done}, "a Go value of type chan int has no form on the wire",
			"pass what it delivers as a slice, or send each value into a stream", struct{ C []int }{[]int{1}},
		},
	} {
		t.Run(what, func(t *testing.T) {
			_, err := Encode("input", c.value)
			var verr *ValueError
			require.ErrorAs(t, err, &verr)
			assert.Equal(t, c.reason, verr.Reason)
			assert.Equal(t, c.hint, verr.Hint)
			_, err = Encode("input", c.followed)
			require.NoError(t, err)
		})
	}
}
