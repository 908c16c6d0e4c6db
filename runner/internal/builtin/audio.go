package builtin

import (
	"math"

	"github.com/gophersnake/gophersnake/ipc"
)

// ignores is how RemoteMedia's detectors read their params.
const ignores = "ignores the params unless all of them are set, and does not say so"

// audio are the types that look at recordings chunk by chunk. They return any other value as
// it is, as RemoteMedia's do.
var audio = []Type{
	{
		Name: "AudioLevelNode",
		Doc:  "Measures the level of a recording: RMS and peak in dB of full scale.",
		Params: []Param{
			{Name: "low_volume_threshold_db", Default: -20.0},
			{Name: "silence_threshold_db", Default: -60.0},
		},
		Input: "Audio", Output: "dict[str, Any]",
		Differs: ignores,
		New: func(v Values) Func {
			low, silence := v.float("low_volume_threshold_db"), v.float("silence_threshold_db")
			return forAudio(func(a *ipc.Audio) any { return level(a, low, silence) })
		},
	},
	{
		Name: "ClippingDetectorNode",
		Doc:  "Finds distortion: the share of samples at full scale, and the crest factor.",
		Params: []Param{
			{Name: "saturation_threshold", Default: 0.99},
			{Name: "saturation_ratio_threshold", Default: 1.0},
			{Name: "crest_factor_threshold_db", Default: 3.0},
		},
		Input: "Audio", Output: "dict[str, Any]",
		Differs: ignores,
		New: func(v Values) Func {
			at, ratio, crest := v.float("saturation_threshold"), v.float("saturation_ratio_threshold"), v.float("crest_factor_threshold_db")
			return forAudio(func(a *ipc.Audio) any { return clipping(a, at, ratio, crest) })
		},
	},
	{
		Name: "ChannelBalanceNode",
		Doc:  "Compares the levels of the two channels of a stereo recording.",
		Params: []Param{
			{Name: "imbalance_threshold_db", Default: 10.0},
			{Name: "dead_channel_threshold_db", Default: -60.0},
		},
		Input: "Audio", Output: "dict[str, Any]",
		Differs: ignores,
		New: func(v Values) Func {
			most, dead := v.float("imbalance_threshold_db"), v.float("dead_channel_threshold_db")
			return forAudio(func(a *ipc.Audio) any { return balance(a, most, dead) })
		},
	},
	{
		Name: "FastFormatConverterNode",
		Doc:  "Rounds the samples as a conversion to 16 or 32 bits and back does; recordings are always float32.",
		Params: []Param{
			{Name: "target_format", Alias: "targetFormat", Default: "f32", Choices: []string{"f32", "i16", "i32", "F32", "I16", "I32"}},
		},
		Input: "Audio", Output: "Audio",
		New: func(v Values) Func {
			scale := map[string]float64{"i16": math.MaxInt16, "I16": math.MaxInt16, "i32": math.MaxInt32, "I32": math.MaxInt32}[v.text("target_format")]
			return forAudio(func(a *ipc.Audio) any { return quantize(a, scale) })
		},
	},
}

// forAudio returns a function that passes recordings to f and returns other values.
func forAudio(f func(*ipc.Audio) any) Func {
	return func(input any) (any, error) {
		if a, ok := input.(*ipc.Audio); ok {
			return f(a), nil
		}
		return input, nil
	}
}

// event returns the map of an event. RemoteMedia's have these keys, too; gophersnake's
// recordings have no stream id and no timestamp.
func event(schema string, fields map[string]any) map[string]any {
	fields["_schema"], fields["stream_id"], fields["timestamp_us"] = schema, nil, nil
	for key, v := range fields {
		if f, ok := v.(float64); ok {
			fields[key] = float64(float32(f)) // as exact as RemoteMedia's
		}
	}
	return fields
}

func level(a *ipc.Audio, low, silence float64) any {
	rms, peak := decibel(rootMeanSquare(a.Samples, 0, 1)), decibel(peakOf(a.Samples))
	health := min(1, max(0, (rms-silence)/(low-silence)))
	if rms >= low {
		health = 1
	}
	if rms <= silence {
		health = 0
	}
	return event("audio_level_event", map[string]any{
		"rms_db": rms, "peak_db": peak, "health": health,
		"is_silence": rms <= silence, "is_low_volume": rms > silence && rms <= low,
	})
}

func clipping(a *ipc.Audio, at, mostPercent, leastCrest float64) any {
	saturated := 0
	for _, s := range a.Samples {
		if math.Abs(float64(s)) >= float64(float32(at)) {
			saturated++
		}
	}
	percent, crest := 0.0, 0.0
	if len(a.Samples) > 0 {
		percent = 100 * float64(saturated) / float64(len(a.Samples))
		crest = 20 // of silence
		if rms := rootMeanSquare(a.Samples, 0, 1); rms > 0 {
			crest = 20 * math.Log10(peakOf(a.Samples)/rms)
		}
	}
	return event("clipping_event", map[string]any{
		"saturation_ratio": percent, "crest_factor_db": crest,
		"is_clipping": percent >= mostPercent || crest <= leastCrest,
		"health":      max(0, 1-min(percent/mostPercent, 1)),
	})
}

func balance(a *ipc.Audio, most, dead float64) any {
	if a.Channels != 2 {
		return event("channel_balance_event", map[string]any{
			"left_rms_db": 0.0, "right_rms_db": 0.0, "balance_ratio": 1.0, "imbalance_db": 0.0,
			"is_imbalanced": false, "has_dead_channel": false, "dead_channel": "none", "health": 1.0,
		})
	}
	left, right := rootMeanSquare(a.Samples, 0, 2), rootMeanSquare(a.Samples, 1, 2)
	leftDB, rightDB := decibel(left), decibel(right)
	var ratio any // nil, as JSON has no infinity
	switch {
	case right > 0:
		ratio = left / right
	case left == 0:
		ratio = 1.0
	}
	which := "none"
	switch {
	case leftDB <= dead && rightDB > dead:
		which = "left"
	case rightDB <= dead && leftDB > dead:
		which = "right"
	}
	apart := math.Abs(leftDB - rightDB)
	health := max(0, 1-min(apart/most, 1))
	if which != "none" {
		health = 0
	}
	return event("channel_balance_event", map[string]any{
		"left_rms_db": leftDB, "right_rms_db": rightDB, "balance_ratio": ratio, "imbalance_db": leftDB - rightDB,
		"is_imbalanced": which != "none" || apart >= most, "has_dead_channel": which != "none", "dead_channel": which, "health": health,
	})
}

// quantize returns a recording whose samples are integers divided by scale; the same one if
// scale is 0. Samples outside of -1 to 1 are clipped.
func quantize(a *ipc.Audio, scale float64) any {
	if scale == 0 {
		return a
	}
	out := &ipc.Audio{Samples: make([]float32, len(a.Samples)), Rate: a.Rate, Channels: a.Channels}
	for i, s := range a.Samples {
		out.Samples[i] = float32(math.Trunc(float64(min(max(s, -1), 1))*scale) / scale)
	}
	return out
}

// rootMeanSquare returns the RMS of each step-th sample from the first one; 0 of none.
func rootMeanSquare(samples []float32, first, step int) float64 {
	sum, n := 0.0, 0
	for i := first; i < len(samples); i += step {
		sum += float64(samples[i]) * float64(samples[i])
		n++
	}
	if n == 0 {
		return 0
	}
	return math.Sqrt(sum / float64(n))
}

func peakOf(samples []float32) float64 {
	peak := 0.0
	for _, s := range samples {
		peak = max(peak, math.Abs(float64(s)))
	}
	return peak
}

// silent is the level of digital silence, in dB.
const silent = -120

// decibel returns the level of an amplitude in dB of full scale.
func decibel(amplitude float64) float64 {
	if amplitude <= 0 {
		return silent
	}
	return 20 * math.Log10(amplitude)
}
