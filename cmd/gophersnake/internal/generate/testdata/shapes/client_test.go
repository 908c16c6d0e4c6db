package shapes

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner"
)

func tensor[T ipc.Element](t *testing.T, data []T, shape ...int) *ipc.Tensor {
	t.Helper()
	made, err := ipc.NewTensor(data, shape...)
	require.NoError(t, err)
	return made
}

// everything returns a value of each type.
func everything(t *testing.T) EverythingInput {
	moment := time.Date(2024, 5, 1, 12, 0, 0, 0, time.UTC)
	item := ItemInput{Price: 1.5, Tags: []string{"x"}}
	return EverythingInput{
		Flag: true, Number: -5, Ratio: 2, Text: "x", Raw: []byte("x"), BareList: []any{"x"}, BareDict: map[string]any{"a": true},
		Ratios: []float64{1, 2.5}, Numbers: []int64{1}, Pair: []any{int64(1), "x"}, Range: [2]float64{1, 2}, Unique: []int64{1, 2},
		Counts: map[string]int64{"a": 1}, ByNumber: map[string]float64{"1": 2}, Maybe: new(int64(5)), MaybeList: []int64{1}, Either: "x",
		Mode: EverythingModeB, Step: EverythingStep2, Mixed: "a", Bounded: 1, Color: ColorDarkRed, Level: new(LevelMinus1),
		Item: ItemInput{Price: 1, Count: new(int64(2)), By: map[string]ItemInput{"a": item}}, Items: []ItemInput{item},
		Tree:    Tree{Value: 1, Children: []Tree{{Value: 2, Children: []Tree{}}}, Parent: &Tree{Children: []Tree{}}},
		Options: Options{Depth: new(int64(1)), Mode: new(OptionsModeSlow)},
		Odd:     map[string]any{"class": "c", "content-type": "text", "größe": int64(1), "名前": "n", "Id": int64(2), "id": int64(3), "": int64(4)},
		Words:   Words{Class: "c", Größe: 1, X名前: "n", Id: 2, ID: 3, X2nd: 4, Type: "t", X: 5}, Client: Client2{URL: "u"},
		Point: [2]int64{3, 4}, Moment: moment, MaybeMoment: &moment, Day: "2024-05-01", Hour: "12:30:00", Length: "P1DT2.5S",
		Key: "12345678-1234-5678-1234-567812345678", Price: "1.50", File: "a/b", Wave: [2]float64{1, 2},
		Matrix: [][]float32{{1, 2, 3}, {4, 5, 6}}, Pixels: tensor(t, []uint8{1, 2}, 1, 2), Flat: tensor(t, []float64{1}, 1),
		Single: tensor(t, []float64{5}), Waves: []*ipc.Tensor{tensor(t, []complex64{1i}, 1)},
		Document: ipc.JSON(`{"a":1}`), Anything: map[string]any{"a": []any{nil}},
	}
}

func TestEachShapeGoesThroughPython(t *testing.T) {
	pipeline, err := runner.Load("pipeline.yaml")
	require.NoError(t, err)
	r, err := runner.New(pipeline)
	require.NoError(t, err)
	defer r.Close(context.Background())
	c, err := New(t.Context(), r)
	require.NoError(t, err)

	in := everything(t)
	out, err := c.Echo(t.Context(), in)
	require.NoError(t, err)
	item := Item{Price: 1.5, Count: 1, Tags: []string{"x"}, By: map[string]Item{}}
	assert.Equal(t, Item{Price: 1, Count: 2, Tags: []string{}, By: map[string]Item{"a": item}}, out.Item)
	assert.Equal(t, []Item{item}, out.Items)
	assert.Equal(t, [][]uint8{{1, 2}}, out.Pixels)
	assert.Equal(t, in.MaybeMoment, out.MaybeMoment)
	assert.Equal(t, in.Flat, out.Flat)
	assert.InDelta(t, 5, out.Single, 0)
	assert.Equal(t, [][]complex64{{1i}}, out.Waves)
	// The rest is the same: in JSON, what has been compared is left out.
	in.Item, in.Items, in.Pixels, in.Single, in.Waves = ItemInput{}, nil, nil, nil, nil
	out.Item, out.Items, out.Pixels, out.Single, out.Waves = Item{}, nil, nil, 0, nil
	var before, after map[string]any
	for v, into := range map[any]*map[string]any{&in: &before, &out: &after} {
		text, err := json.Marshal(v)
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal(text, into))
		delete(*into, "item")
		delete(*into, "single")
	}
	assert.Equal(t, before, after)

	grown, err := c.Grow(t.Context(), Tree{Value: 1})
	require.NoError(t, err)
	assert.Equal(t, Tree{Value: 1, Children: []Tree{{Value: 2, Children: []Tree{}}}}, grown)
	price, err := c.Mix(t.Context(), MixInput{Left: ItemInput{Price: 1}, Class: &ItemInput{Price: 2}})
	require.NoError(t, err)
	assert.InDelta(t, 3, price, 0)
	price, err = c.Mix(t.Context(), MixInput{Left: ItemInput{Price: 1}})
	require.NoError(t, err)
	assert.InDelta(t, 1, price, 0)
	counted, err := c.CountUp(t.Context(), 3)
	require.NoError(t, err)
	assert.Equal(t, []int64{0, 1, 2}, counted)
	now, err := c.Now(t.Context())
	require.NoError(t, err)
	assert.Equal(t, 2024, now.Year())
	one, err := c.RunNode(t.Context(), "anything")
	require.NoError(t, err)
	assert.InDelta(t, 1.5, one.Price, 0)
}

// A client that was generated for other code fails when it is made.
func TestAClientForOtherCodeIsRefused(t *testing.T) {
	pipeline, err := runner.Load("pipeline.yaml")
	require.NoError(t, err)
	pipeline.Node("now").Type = "grow"
	r, err := runner.New(pipeline)
	require.NoError(t, err)
	defer r.Close(context.Background())
	_, err = New(t.Context(), r)
	require.ErrorIs(t, err, runner.KindMarshaling)
	assert.ErrorContains(t, err, `result.now[]: Out.Now[] is time.Time, but the pipeline returns a map (Tree)`)
}
