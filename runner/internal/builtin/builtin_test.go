package builtin

import (
	"math"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/ipc"
)

// function returns the function of a type in Go with the given params.
func function(t *testing.T, name string, params map[string]any) Func {
	t.Helper()
	found, ok := Lookup(name)
	require.True(t, ok, name)
	values, err := found.Arrange(params)
	require.NoError(t, err)
	return found.New(found.Complete(values))
}

// call returns the result of one call.
func call(t *testing.T, name string, params map[string]any, input any) any {
	t.Helper()
	v, err := function(t, name, params)(input)
	require.NoError(t, err)
	return v
}

func TestEachTypeOfRemoteMediasRuntimeIsDoneOrRefused(t *testing.T) {
	t.Parallel()
	registered, err := os.ReadFile("testdata/remotemedia-ffi-0.4.4.txt")
	require.NoError(t, err)
	for _, name := range strings.Fields(string(registered)) {
		_, ok := Lookup(name)
		assert.True(t, ok, name)
	}
	for _, each := range All() {
		forms := 0
		for _, is := range []bool{each.New != nil, each.Python != "", each.Refused != ""} {
			if is {
				forms++
			}
		}
		assert.Equal(t, 1, forms, each.Name)
		assert.Equal(t, each.Refused != "", each.Instead != "", each.Name)
		assert.Equal(t, each.Refused == "", each.Doc != "" && each.Input != "" && each.Output != "", each.Name)
	}
}

func TestNearestNameLeavesOutTypesThatAreRefused(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"Passthru": "PassThrough", "calculatornode": "CalculatorNode", "Calculator": "CalculatorNode", "TextColector": "TextCollectorNode",
		"Echo": "EchoNode", "AudioResampler": "AudioResample", "MicInputs": "", "Transcribe": "", "": "",
	} {
		assert.Equal(t, want, Nearest(name), name)
	}
}

func TestParamsAreChecked(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name   string
		params map[string]any
		says   string
	}{
		{"PassThrough", map[string]any{"x": 1}, `PassThrough has no param "x"`},
		{"AudioChunkerNode", map[string]any{"chunksize": 1}, `AudioChunkerNode has no param "chunksize"`},
		{"AudioChunkerNode", map[string]any{"chunk_size": int64(0)}, "params.chunk_size: expected a number from 1 to 65536, got 0"},
		{"AudioChunkerNode", map[string]any{"chunk_size": 1.5}, "params.chunk_size: expected an integer, got 1.5"},
		{"AudioChunkerNode", map[string]any{"chunk_size": "many"}, "params.chunk_size: expected a number, got many"},
		{"AudioChunkerNode", map[string]any{"chunk_size": 1, "chunkSize": 2}, "chunk_size and chunkSize are the same param"},
		{"AudioLevelNode", map[string]any{"silence_threshold_db": math.NaN()}, "expected a number, got NaN"},
		{"VideoFlip", map[string]any{"direction": "left"}, "params.direction: expected one of vertical, horizontal, both, got left"},
		{"VideoFlip", map[string]any{"direction": 1}, "params.direction: expected text, got 1"},
		{"VideoScaler", map[string]any{"maintain_aspect_ratio": 1}, "params.maintain_aspect_ratio: expected true or false, got 1"},
		{"FastResampleNode", nil, "FastResampleNode requires the param target_rate"},
		{"FastResampleNode", map[string]any{"target_rate": "auto"}, "params.target_rate: expected a number, got auto"},
		{"SileroVADNode", map[string]any{"sampling_rate": int64(8000)}, "params.sampling_rate: expected 16000, got 8000"},
	} {
		found, _ := Lookup(row.name)
		_, err := found.Arrange(row.params)
		assert.ErrorContains(t, err, row.says)
	}
	resample, _ := Lookup("AudioResample")
	values, err := resample.Arrange(map[string]any{"targetRate": uint64(8000), "source_rate": "auto", "quality": "Low"})
	require.NoError(t, err)
	assert.Equal(t, Values{"target_rate": int64(8000), "source_rate": "auto", "quality": "Low"}, values)
}

func TestCalculatorComputes(t *testing.T) {
	t.Parallel()
	request := func(operation any, operands ...any) map[string]any {
		return map[string]any{"operation": operation, "operands": operands}
	}
	for operation, want := range map[string]float64{"add": 8, "subtract": 4, "multiply": 12, "divide": 3} {
		got := call(t, "CalculatorNode", nil, request(operation, int64(6), 2.0))
		assert.Equal(t, map[string]any{"operation": operation, "operands": []any{6.0, 2.0}, "result": want}, got)
	}
	got := call(t, "CalculatorNode", nil, ipc.JSON(`{"operation": "add", "operands": [1, 2]}`))
	assert.Equal(t, 3.0, got.(map[string]any)["result"])
	for says, input := range map[string]any{
		"input: expected a map, got string":                                           "1+1",
		"input.operands: expected a list of two numbers, got <nil>":                   map[string]any{"operation": "add", "args": []any{1, 2}},
		"input.operands: expected a list of two numbers, got [1]":                     request("add", 1),
		"input.operands: expected a list of two numbers, got [1 two]":                 request("add", 1, "two"),
		"input.operands[1]: division by zero":                                         request("divide", 1, 0),
		"input.operation: expected add, subtract, multiply or divide, got power":      request("power", 1, 2),
		"input: expected a map, got ipc.JSON":                                         ipc.JSON(`[1]`),
		"input.operation: expected add, subtract, multiply or divide, got [add nope]": request([]any{"add", "nope"}, 1, 2),
	} {
		_, err := function(t, "CalculatorNode", nil)(input)
		assert.EqualError(t, err, says)
	}
}

// tone returns a second of a sine at 16 kHz.
func tone(level float64, channels int) *ipc.Audio {
	a := &ipc.Audio{Rate: 16000, Channels: channels}
	for i := range 16000 {
		for range channels {
			a.Samples = append(a.Samples, float32(level*math.Sin(2*math.Pi*440*float64(i)/16000)))
		}
	}
	return a
}

func TestLevelsAreMeasured(t *testing.T) {
	t.Parallel()
	at := func(level float64, params map[string]any) map[string]any {
		return call(t, "AudioLevelNode", params, tone(level, 1)).(map[string]any)
	}
	loud, low, silence := at(0.5, nil), at(0.01, nil), at(0, nil)
	assert.InDelta(t, -9.0309, loud["rms_db"], 1e-4)
	assert.InDelta(t, -6.0206, loud["peak_db"], 1e-3)
	assert.Equal(t, []any{1.0, false, false}, []any{loud["health"], loud["is_low_volume"], loud["is_silence"]})
	assert.InDelta(t, (60-43.0103)/40, low["health"], 1e-4)
	assert.Equal(t, []any{true, false}, []any{low["is_low_volume"], low["is_silence"]})
	assert.Equal(t, []any{-120.0, 0.0, false, true}, []any{silence["rms_db"], silence["health"], silence["is_low_volume"], silence["is_silence"]})
	assert.Equal(t, true, at(0.5, map[string]any{"low_volume_threshold_db": int64(-3)})["is_low_volume"])
	assert.Equal(t, "text", call(t, "AudioLevelNode", nil, "text"))
}

func TestClippingIsFound(t *testing.T) {
	t.Parallel()
	clean := call(t, "ClippingDetectorNode", nil, tone(0.9, 1)).(map[string]any)
	assert.InDelta(t, 3.0103, clean["crest_factor_db"], 1e-3)
	assert.Equal(t, []any{false, 1.0, 0.0}, []any{clean["is_clipping"], clean["health"], clean["saturation_ratio"]})
	square := call(t, "ClippingDetectorNode", nil, &ipc.Audio{Samples: []float32{1, -1, 1, 0.99}, Rate: 8000, Channels: 1}).(map[string]any)
	assert.Equal(t, []any{true, 0.0, 100.0}, []any{square["is_clipping"], square["health"], square["saturation_ratio"]})
	silence := call(t, "ClippingDetectorNode", nil, tone(0, 1)).(map[string]any)
	assert.Equal(t, []any{false, 20.0}, []any{silence["is_clipping"], silence["crest_factor_db"]})
}

func TestChannelsAreCompared(t *testing.T) {
	t.Parallel()
	stereo := func(left, right float32) map[string]any {
		a := &ipc.Audio{Samples: []float32{left, right, -left, -right}, Rate: 8000, Channels: 2}
		return call(t, "ChannelBalanceNode", nil, a).(map[string]any)
	}
	equal, louder, dead, silence := stereo(0.5, 0.5), stereo(0.5, 0.25), stereo(0.5, 0), stereo(0, 0)
	assert.Equal(t, []any{1.0, 0.0, 1.0, false}, []any{equal["balance_ratio"], equal["imbalance_db"], equal["health"], equal["is_imbalanced"]})
	assert.InDelta(t, 6.0206, louder["imbalance_db"], 1e-4)
	assert.InDelta(t, 1-0.60206, louder["health"], 1e-4)
	assert.Equal(t, []any{nil, true, "right", true, 0.0}, []any{dead["balance_ratio"], dead["has_dead_channel"], dead["dead_channel"], dead["is_imbalanced"], dead["health"]})
	assert.Equal(t, []any{1.0, false, "none"}, []any{silence["balance_ratio"], silence["has_dead_channel"], silence["dead_channel"]})
	mono := call(t, "ChannelBalanceNode", nil, tone(0.5, 1)).(map[string]any)
	assert.Equal(t, []any{1.0, 1.0}, []any{mono["balance_ratio"], mono["health"]})
}

func TestSamplesAreRoundedToIntegers(t *testing.T) {
	t.Parallel()
	in := &ipc.Audio{Samples: []float32{0, 0.5, -0.5, 2, 1e-6}, Rate: 8000, Channels: 1}
	got := call(t, "FastFormatConverterNode", map[string]any{"target_format": "i16"}, in).(*ipc.Audio)
	assert.Equal(t, []float32{0, 16383.0 / 32767, -16383.0 / 32767, 1, 0}, got.Samples)
	assert.Same(t, in, call(t, "FastFormatConverterNode", nil, in))
}

func TestFramesAreFlipped(t *testing.T) {
	t.Parallel()
	pts := 1.5
	in := &ipc.Image{Pixels: []byte{1, 2, 3, 4, 5, 6}, Format: "gray8", Width: 3, Height: 2, PTS: &pts}
	for direction, want := range map[string][]byte{
		"vertical": {4, 5, 6, 1, 2, 3}, "horizontal": {3, 2, 1, 6, 5, 4}, "both": {6, 5, 4, 3, 2, 1},
	} {
		got := call(t, "VideoFlip", map[string]any{"direction": direction}, in).(*ipc.Image)
		assert.Equal(t, want, got.Pixels, direction)
		assert.Equal(t, &pts, got.PTS)
	}
	color := &ipc.Image{Pixels: []byte{1, 2, 3, 4, 5, 6}, Format: "rgb8", Width: 2, Height: 1}
	assert.Equal(t, []byte{4, 5, 6, 1, 2, 3}, call(t, "VideoFlip", map[string]any{"direction": "horizontal"}, color).(*ipc.Image).Pixels)
	empty := &ipc.Image{Format: "rgb8"}
	assert.Empty(t, call(t, "VideoFlip", nil, empty).(*ipc.Image).Pixels)
}

func TestFramesAreScaled(t *testing.T) {
	t.Parallel()
	white := &ipc.Image{Format: "bgr8", Width: 8, Height: 4, Pixels: []byte(strings.Repeat("\xff", 8*4*3))}
	for _, algorithm := range []string{"bilinear", "bicubic", "lanczos"} {
		bars := call(t, "VideoScaler", map[string]any{"target_width": 4, "target_height": 4, "algorithm": algorithm}, white).(*ipc.Image)
		assert.Equal(t, []int{4, 4, 48}, []int{bars.Width, bars.Height, len(bars.Pixels)})
		assert.Equal(t, []byte{0, 255, 255, 0}, []byte{bars.Pixels[0], bars.Pixels[12], bars.Pixels[24], bars.Pixels[47]}, "black above and below")
	}
	full := call(t, "VideoScaler", map[string]any{"target_width": 4, "target_height": 4, "maintain_aspect_ratio": false}, white).(*ipc.Image)
	assert.Equal(t, byte(255), full.Pixels[0])
	half := call(t, "VideoScaler", map[string]any{"target_width": 4, "target_height": 0}, white).(*ipc.Image)
	assert.Equal(t, []int{4, 2}, []int{half.Width, half.Height})
	_, err := function(t, "VideoScaler", nil)(&ipc.Image{Format: "rgb8"})
	assert.EqualError(t, err, "input: an image of 0 × 0 cannot become one of 1280 × 720")
}

func TestPixelFormatsAreConverted(t *testing.T) {
	t.Parallel()
	in := &ipc.Image{Pixels: []byte{10, 20, 30}, Format: "rgb8", Width: 1, Height: 1}
	for format, want := range map[string][]byte{
		"rgb24": {10, 20, 30}, "bgr8": {30, 20, 10}, "rgba32": {10, 20, 30, 255}, "bgra8": {30, 20, 10, 255}, "gray8": {18},
	} {
		assert.Equal(t, want, call(t, "VideoFormatConverter", map[string]any{"target_format": format}, in).(*ipc.Image).Pixels, format)
	}
	gray := &ipc.Image{Pixels: []byte{7}, Format: "gray8", Width: 1, Height: 1}
	assert.Equal(t, []byte{7, 7, 7, 255}, call(t, "VideoFormatConverter", map[string]any{"target_format": "rgba8"}, gray).(*ipc.Image).Pixels)
}
