package ipc

import (
	"encoding/hex"
	"fmt"
	"strings"
)

// The table from which testdata/vectors.json is written. Its bytes follow the msgpack
// specification and doc.go, and are never taken from this package's own output, so that the
// tests compare the two.

var vectorsAbout = []string{
	`Values and frames in their encoded form; the tests of both languages read this file.`,
	`It is written by "go test ./ipc -run TestVectorsFile -update" from ipc/vectors_table_test.go.`,
	`BYTES are a string of hex digits, or {"repeat": [hex, n]}, or an array of these, joined.`,
	`A VALUE is an object of one member:`,
	`  {"nil": null}, {"bool": true}, {"int": "decimal"}, {"float": "text that Python's float() and Go's ParseFloat read"},`,
	`  {"str": "text"} or {"str": {"repeat": ["text", n]}}, {"bytes": BYTES},`,
	`  {"list": [VALUE, ...]} or {"list": {"repeat": [VALUE, n]}}, {"map": [["key", VALUE], ...]},`,
	`  {"timestamp": {"seconds": int, "nanoseconds": int}}: their sum since 1970, nanoseconds never negative,`,
	`  {"tensor": {"dtype", "shape", "data": BYTES}}, {"audio": {"rate", "channels", "data": BYTES, float32}},`,
	`  {"image": {"format", "width", "height", "pts": null or as float, "data": BYTES}},`,
	`  {"table": {"stream": BYTES}},`,
	`  {"json": "the document's text"}: if a language keeps no text, the documents are compared.`,
	`"values": every body, with its buffers, decodes to the value. nan equals nan, -0.0 keeps its sign.`,
	`"encode" lists the languages that encode the value to exactly these bytes and buffers.`,
	`  Go's maps have no order, so a map of several keys is for Python alone. Python's datetime ends at microseconds, so`,
	`  finer nanoseconds are for Go alone; Python drops them when it decodes. The bits of nan are free.`,
	`"refused": payloads that must not decode, the depth limit being 64. The error's path is exactly "path", the root`,
	`  being called "value"; its reason contains "reason", ignoring case.`,
	`"frames": "frame" is the whole frame of the type, call id, body and inline buffers.`,
	`"refused_frames": the stream's first frame is refused under the default limits, the reason containing "reason";`,
	`  if "reason" is "end of file", the stream ends inside the frame.`,
}

type vectorFile struct {
	About         []string        `json:"about"`
	Values        []valueVector   `json:"values"`
	Refused       []refusedVector `json:"refused"`
	Frames        []frameVector   `json:"frames"`
	SessionFrames []frameVector   `json:"session_frames"`
	RefusedFrames []refusedFrame  `json:"refused_frames"`
}

type valueVector struct {
	Name    string   `json:"name"`
	Value   any      `json:"value"`
	Encode  []string `json:"encode"`
	Body    any      `json:"body"`
	Buffers []any    `json:"buffers,omitempty"`
}

type refusedVector struct {
	Name    string `json:"name"`
	Path    string `json:"path"`
	Reason  string `json:"reason"`
	Body    any    `json:"body"`
	Buffers []any  `json:"buffers,omitempty"`
}

type frameVector struct {
	Name     string `json:"name"`
	Type     int    `json:"type"`
	TypeName string `json:"type_name"`
	Call     string `json:"call"`
	Body     any    `json:"body"`
	Buffers  []any  `json:"buffers,omitempty"`
	Frame    any    `json:"frame"`
}

type refusedFrame struct {
	Name   string `json:"name"`
	Reason string `json:"reason"`
	Frame  any    `json:"frame"`
}

type object = map[string]any

var (
	both       = []string{"go", "python"}
	goOnly     = []string{"go"}
	pythonOnly = []string{"python"}
	decodeOnly = []string{}
)

func repeat(what any, n int) object { return object{"repeat": []any{what, n}} }
func integer(s string) object       { return object{"int": s} }
func list(items ...object) object   { return object{"list": append([]object{}, items...)} }

func timestamp(seconds, nanoseconds int64) object {
	return object{"timestamp": object{"seconds": seconds, "nanoseconds": nanoseconds}}
}

func tensorOf(dtype string, data any, shape ...int) object {
	return object{"tensor": object{"dtype": dtype, "shape": append([]int{}, shape...), "data": data}}
}

func audioOf(rate, channels int, data any) object {
	return object{"audio": object{"rate": rate, "channels": channels, "data": data}}
}

func imageOf(format string, width, height int, pts, data any) object {
	return object{"image": object{"format": format, "width": width, "height": height, "pts": pts, "data": data}}
}

// noColumns is the Arrow IPC stream of a table without columns.
const noColumns = "ffffffff300000001000000000000a000c000600050008000a000000000104000c0000000800080000000400080000000400000000000000ffffffff00000000"

func tableOf(stream any) object { return object{"table": object{"stream": stream}} }

// text is the hex of ASCII text, behind a fixstr head.
func text(s string) string { return fmt.Sprintf("%02x%x", 0xa0|len(s), s) }

// ext puts the head of an extension before a payload of at most 255 bytes.
func ext(id byte, payload string) string {
	raw, err := hex.DecodeString(payload)
	if err != nil {
		panic(err)
	}
	switch n := len(raw); n {
	case 1, 2, 4, 8, 16:
		return fmt.Sprintf("%02x%02x%s", map[int]byte{1: 0xd4, 2: 0xd5, 4: 0xd6, 8: 0xd7, 16: 0xd8}[n], id, payload)
	default:
		return fmt.Sprintf("c7%02x%02x%s", n, id, payload)
	}
}

func vectors() vectorFile {
	return vectorFile{
		About:         vectorsAbout,
		Values:        append(append(append(scalarVectors(), containerVectors()...), extensionVectors()...), lenientVectors()...),
		Refused:       refusedVectors(),
		Frames:        frameVectors(),
		SessionFrames: sessionFrames(),
		RefusedFrames: refusedFrames(),
	}
}

func scalarVectors() []valueVector {
	vs := []valueVector{
		{"nil", object{"nil": nil}, both, "c0", nil},
		{"false", object{"bool": false}, both, "c2", nil},
		{"true", object{"bool": true}, both, "c3", nil},
	}
	for _, i := range [][2]string{
		{"0", "00"}, {"1", "01"}, {"127", "7f"},
		{"128", "cc80"}, {"255", "ccff"},
		{"256", "cd0100"}, {"65535", "cdffff"},
		{"65536", "ce00010000"}, {"2147483647", "ce7fffffff"}, {"2147483648", "ce80000000"}, {"4294967295", "ceffffffff"},
		{"4294967296", "cf0000000100000000"}, {"9007199254740993", "cf0020000000000001"},
		{"9223372036854775807", "cf7fffffffffffffff"}, {"9223372036854775808", "cf8000000000000000"},
		{"18446744073709551615", "cfffffffffffffffff"},
		{"-1", "ff"}, {"-32", "e0"}, {"-33", "d0df"}, {"-128", "d080"},
		{"-129", "d1ff7f"}, {"-32768", "d18000"},
		{"-32769", "d2ffff7fff"}, {"-2147483648", "d280000000"},
		{"-2147483649", "d3ffffffff7fffffff"}, {"-9223372036854775808", "d38000000000000000"},
	} {
		vs = append(vs, valueVector{"int " + i[0], integer(i[0]), both, i[1], nil})
	}
	for _, f := range [][2]string{
		{"0.0", "0000000000000000"}, {"-0.0", "8000000000000000"}, {"1.0", "3ff0000000000000"}, {"-1.5", "bff8000000000000"},
		{"0.1", "3fb999999999999a"}, {"5e-324", "0000000000000001"}, {"2.2250738585072014e-308", "0010000000000000"},
		{"1.7976931348623157e+308", "7fefffffffffffff"}, {"inf", "7ff0000000000000"}, {"-inf", "fff0000000000000"},
	} {
		vs = append(vs, valueVector{"float " + f[0], object{"float": f[0]}, both, "cb" + f[1], nil})
	}
	vs = append(vs, valueVector{"float nan", object{"float": "nan"}, decodeOnly, "cb7ff8000000000000", nil})
	for _, s := range []struct {
		n    int
		head string
	}{{1, "a1"}, {31, "bf"}, {32, "d920"}, {255, "d9ff"}, {256, "da0100"}, {32767, "da7fff"}} {
		vs = append(vs, valueVector{fmt.Sprintf("str of %d", s.n), object{"str": repeat("a", s.n)}, both, []any{s.head, repeat("61", s.n)}, nil})
	}
	vs = append(vs,
		valueVector{"str empty", object{"str": ""}, both, "a0", nil},
		valueVector{"str of two bytes a letter", object{"str": "höhe"}, both, "a568c3b66865", nil},
		valueVector{"str beyond the BMP", object{"str": "🐍𝄞"}, both, "a8f09f908df09d849e", nil},
		valueVector{"str with NUL", object{"str": "a\x00b"}, both, "a3610062", nil},
		valueVector{"str whose bytes, not letters, pass 31", object{"str": repeat("ö", 16)}, both, []any{"d920", repeat("c3b6", 16)}, nil},
	)
	for _, b := range []struct {
		n    int
		head string
	}{{0, "c400"}, {1, "c401"}, {255, "c4ff"}, {256, "c50100"}, {32767, "c57fff"}} {
		vs = append(vs, valueVector{fmt.Sprintf("bytes of %d", b.n), object{"bytes": repeat("fe", b.n)}, both, []any{b.head, repeat("fe", b.n)}, nil})
	}
	return append(vs,
		valueVector{"timestamp 32 epoch", timestamp(0, 0), both, "d6ff00000000", nil},
		valueVector{"timestamp 32 last", timestamp(4294967295, 0), both, "d6ffffffffff", nil},
		// 64 bits hold nanoseconds in the upper 30 and seconds in the lower 34.
		valueVector{"timestamp 64 of a microsecond", timestamp(0, 1000), both, "d7ff00000fa000000000", nil},
		valueVector{"timestamp 64 of a nanosecond", timestamp(1, 1), goOnly, "d7ff0000000400000001", nil},
		valueVector{"timestamp 64 beyond 32 bits", timestamp(4294967296, 0), both, "d7ff0000000100000000", nil},
		valueVector{"timestamp 64 last microsecond", timestamp(17179869183, 999999000), both, "d7ffee6b1863ffffffff", nil},
		valueVector{"timestamp 64 last nanosecond", timestamp(17179869183, 999999999), goOnly, "d7ffee6b27ffffffffff", nil},
		valueVector{"timestamp 96 first", timestamp(17179869184, 0), both, "c70cff000000000000000400000000", nil},
		valueVector{"timestamp 96 before 1970", timestamp(-1, 0), both, "c70cff00000000ffffffffffffffff", nil},
		valueVector{"timestamp 96 half a second before 1970", timestamp(-1, 500000000), both, "c70cff1dcd6500ffffffffffffffff", nil},
		valueVector{"timestamp 96 first of year 1", timestamp(-62135596800, 0), both, "c70cff00000000fffffff1886e0900", nil},
		valueVector{"timestamp 96 last of year 9999", timestamp(253402300799, 999999000), both, "c70cff3b9ac6180000003afff4417f", nil},
	)
}

func containerVectors() []valueVector {
	var pairs16, pairs15 []any
	var body16, body15 string
	for i := range 16 {
		key := fmt.Sprintf("k%x", i)
		pair := []any{key, integer(fmt.Sprint(i))}
		entry := text(key) + fmt.Sprintf("%02x", i)
		pairs16, body16 = append(pairs16, pair), body16+entry
		if i < 15 {
			pairs15, body15 = append(pairs15, pair), body15+entry
		}
	}
	deep, deepBody := integer("1"), strings.Repeat("91", 64)+"01"
	for range 64 {
		deep = list(deep)
	}
	return []valueVector{
		{"list empty", list(), both, "90", nil},
		{"list of 15", object{"list": repeat(integer("7"), 15)}, both, []any{"9f", repeat("07", 15)}, nil},
		{"list of 16", object{"list": repeat(integer("7"), 16)}, both, []any{"dc0010", repeat("07", 16)}, nil},
		{"list of 65535", object{"list": repeat(integer("7"), 65535)}, both, []any{"dcffff", repeat("07", 65535)}, nil},
		{"list of 65536", object{"list": repeat(integer("7"), 65536)}, both, []any{"dd00010000", repeat("07", 65536)}, nil},
		{"list of several types", list(object{"nil": nil}, object{"bool": true}, integer("-5"), object{"str": "x"}, object{"bytes": "00ff"}, list()), both, "96c0c3fba178c40200ff90", nil},
		{"map empty", object{"map": []any{}}, both, "80", nil},
		{"map of one", object{"map": []any{[]any{"a", integer("1")}}}, both, "81a16101", nil},
		{"map with an empty key", object{"map": []any{[]any{"", object{"nil": nil}}}}, both, "81a0c0", nil},
		{"map with a key beyond ASCII", object{"map": []any{[]any{"ключ", list()}}}, both, "81a8d0bad0bbd18ed18790", nil},
		{"map of 15", object{"map": pairs15}, pythonOnly, "8f" + body15, nil},
		{"map of 16", object{"map": pairs16}, pythonOnly, "de0010" + body16, nil},
		{"map in list in map", object{"map": []any{[]any{"a", list(object{"map": []any{[]any{"b", object{"float": "1.0"}}}})}}}, both, "81a16191" + "81a162" + "cb3ff0000000000000", nil},
		{"list of depth 64", deep, both, deepBody, nil},
	}
}

func extensionVectors() []valueVector {
	var vs []valueVector
	for _, d := range []struct {
		dtype string
		data  string // two elements
	}{
		{"bool", "0001"}, {"int8", "7f80"}, {"uint8", "00ff"},
		{"int16", "ff7f0080"}, {"uint16", "0100ffff"}, {"float16", "003c00c0"}, {"bfloat16", "803f00c0"},
		{"int32", "ffffff7f00000080"}, {"uint32", "01000000ffffffff"}, {"float32", "0000803f000020c0"},
		{"int64", "ffffffffffffff7f0000000000000080"}, {"uint64", "0100000000000000ffffffffffffffff"},
		{"float64", "000000000000f03f00000000000004c0"}, {"complex64", "0000803f0000004000000000000080bf"},
		{"complex128", "000000000000f03f0000000000000040" + "0000000000000000000000000000f0bf"},
	} {
		n := len(d.data) / 2
		body := ext(1, "93"+text(d.dtype)+"9102"+fmt.Sprintf("c4%02x", n)+d.data)
		vs = append(vs, valueVector{"tensor of " + d.dtype, tensorOf(d.dtype, d.data, 2), both, body, nil})
	}
	half := "3fe0000000000000"
	small := repeat("ab", 16383)
	large := repeat("ab", 16384)
	samples := []any{repeat("0000003f000000bf", 2048)} // 0.5, -0.5: 16 KiB
	return append(vs,
		valueVector{"large bytes", object{"bytes": repeat("fe", 32768)}, both, ext(6, "92"+text("bin")+"c0"), []any{repeat("fe", 32768)}},
		valueVector{"large text", object{"str": repeat("a", 32768)}, both, ext(6, "92"+text("str")+"c0"), []any{repeat("61", 32768)}},
		valueVector{"large values in a list", list(object{"bytes": repeat("01", 70000)}, integer("1"), object{"str": repeat("b", 70000)}), both,
			"93" + ext(6, "92"+text("bin")+"c0") + "01" + ext(6, "92"+text("str")+"c0"), []any{repeat("01", 70000), repeat("62", 70000)}},
		valueVector{"tensor of no dimensions", tensorOf("float64", "000000000000f03f"), both, ext(1, "93"+text("float64")+"90c408000000000000f03f"), nil},
		valueVector{"tensor without elements", tensorOf("int64", "", 0), both, ext(1, "93"+text("int64")+"9100c400"), nil},
		valueVector{"tensor without elements of 3 × 0 × 200", tensorOf("uint8", "", 3, 0, 200), both, ext(1, "93"+text("uint8")+"930300ccc8c400"), nil},
		valueVector{"tensor of 2 × 3", tensorOf("int16", "010002000300040005000600", 2, 3), both, ext(1, "93"+text("int16")+"920203c40c010002000300040005000600"), nil},
		valueVector{"tensor of 16 dimensions", tensorOf("uint8", "05", 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1), both, ext(1, "93"+text("uint8")+"dc0010"+strings.Repeat("01", 16)+"c40105"), nil},
		// 93 a5 uint8 91 cd3fff c5 3fff: 1+6+1+3+3 bytes before the data.
		valueVector{"tensor just small enough to be inside", tensorOf("uint8", small, 16383), both, []any{"c8400d01" + "93" + text("uint8") + "91cd3fffc53fff", small}, nil},
		valueVector{"tensor just large enough to be out of band", tensorOf("uint8", large, 16384), both, ext(1, "93"+text("uint8")+"91cd4000c0"), []any{large}},
		valueVector{"tensor of 64 × 64 out of band", tensorOf("float32", repeat("0000803f", 4096), 64, 64), both, ext(1, "93"+text("float32")+"924040c0"), []any{repeat("0000803f", 4096)}},
		valueVector{"audio mono", audioOf(16000, 1, "0000003f000080bf"), both, ext(2, "93cd3e8001c4080000003f000080bf"), nil},
		valueVector{"audio stereo", audioOf(48000, 2, "0000003f000000bf0000803e000080be"), both, ext(2, "93cdbb8002c4100000003f000000bf0000803e000080be"), nil},
		valueVector{"audio empty", audioOf(8000, 1, ""), both, ext(2, "93cd1f4001c400"), nil},
		valueVector{"audio out of band", audioOf(44100, 2, samples), both, ext(2, "93cdac4402c0"), []any{samples}},
		valueVector{"image without pts", imageOf("rgb8", 2, 1, nil, "ff000000ff00"), both, ext(3, "95"+text("rgb8")+"0201c0c406ff000000ff00"), nil},
		valueVector{"image with pts", imageOf("gray8", 2, 2, "0.5", "004080ff"), both, ext(3, "95"+text("gray8")+"0202cb"+half+"c404004080ff"), nil},
		valueVector{"image with a pts of zero", imageOf("bgra8", 1, 1, "0.0", "01020304"), both, ext(3, "95"+text("bgra8")+"0101cb0000000000000000c40401020304"), nil},
		valueVector{"image without pixels", imageOf("bgr8", 0, 0, nil, ""), both, ext(3, "95"+text("bgr8")+"0000c0c400"), nil},
		valueVector{"image out of band", imageOf("rgba8", 64, 64, "0.5", repeat("01020304", 4096)), both, ext(3, "95"+text("rgba8")+"4040cb"+half+"c0"), []any{repeat("01020304", 4096)}},
		valueVector{"table", tableOf(noColumns), both, ext(5, "91c440"+noColumns), nil},
		valueVector{"json null", object{"json": "null"}, both, ext(4, "6e756c6c"), nil},
		valueVector{"json of 1 byte", object{"json": "1"}, both, "d40431", nil},
		valueVector{"json object", object{"json": `{"a": [1, 2.50], "b": "ö"}`}, goOnly, ext(4, hex.EncodeToString([]byte(`{"a": [1, 2.50], "b": "ö"}`))), nil},
		valueVector{"json of 256 bytes", object{"json": `"` + strings.Repeat("x", 254) + `"`}, both, []any{"c8010004" + "22", repeat("78", 254), "22"}, nil},
		valueVector{"several out of band, in the order of the body",
			list(tensorOf("uint8", repeat("01", 16384), 16384),
				object{"map": []any{[]any{"in", list(audioOf(1, 1, repeat("0000003f", 4096)))}}},
				tensorOf("uint8", "02", 1),
				imageOf("gray8", 128, 128, nil, repeat("03", 16384))), both,
			"94" + ext(1, "93"+text("uint8")+"91cd4000c0") +
				"81" + text("in") + "91" + ext(2, "930101c0") +
				ext(1, "93"+text("uint8")+"9101c40102") +
				ext(3, "95"+text("gray8")+"cc80cc80c0c0"),
			[]any{repeat("01", 16384), repeat("0000003f", 4096), repeat("03", 16384)}},
	)
}

// lenientVectors are other encodings of values that an encoder may choose.
func lenientVectors() []valueVector {
	return []valueVector{
		{"int 1 as uint8", integer("1"), decodeOnly, "cc01", nil},
		{"int 1 as uint64", integer("1"), decodeOnly, "cf0000000000000001", nil},
		{"int 1 as int8", integer("1"), decodeOnly, "d001", nil},
		{"int 200 as int16", integer("200"), decodeOnly, "d100c8", nil},
		{"int -1 as int64", integer("-1"), decodeOnly, "d3ffffffffffffffff", nil},
		{"int 2^63-1 as int64", integer("9223372036854775807"), decodeOnly, "d37fffffffffffffff", nil},
		{"float32", object{"float": "0.5"}, decodeOnly, "ca3f000000", nil},
		{"float32 infinity", object{"float": "inf"}, decodeOnly, "ca7f800000", nil},
		{"float nan with a payload", object{"float": "nan"}, decodeOnly, "cbfff8000000000123", nil},
		{"str8 where fixstr would do", object{"str": "ab"}, decodeOnly, "d9026162", nil},
		{"str32 where fixstr would do", object{"str": "ab"}, decodeOnly, "db000000026162", nil},
		{"bin32 where bin8 would do", object{"bytes": "01"}, decodeOnly, "c60000000101", nil},
		{"array32 where fixarray would do", list(integer("1")), decodeOnly, "dd0000000101", nil},
		{"map32 where fixmap would do", object{"map": []any{[]any{"a", integer("1")}}}, decodeOnly, "df00000001a16101", nil},
		{"map key as str8", object{"map": []any{[]any{"a", integer("1")}}}, decodeOnly, "81d9016101", nil},
		{"map with a key twice: the last one counts", object{"map": []any{[]any{"a", integer("2")}}}, decodeOnly, "82a16101a16102", nil},
		{"timestamp 64 where 32 would do", timestamp(1, 0), decodeOnly, "d7ff0000000000000001", nil},
		{"timestamp 96 where 32 would do", timestamp(1, 0), decodeOnly, "c70cff000000000000000000000001", nil},
		{"timestamp behind ext8 where fixext4 would do", timestamp(1, 0), decodeOnly, "c704ff00000001", nil},
		{"tensor with sizes as signed and as wide integers", tensorOf("uint8", "0102", 1, 2), decodeOnly, ext(1, "93"+text("uint8")+"92d001cf0000000000000002c4020102"), nil},
		{"tensor out of band although it is small", tensorOf("uint8", "0102", 2), decodeOnly, ext(1, "93"+text("uint8")+"9102c0"), []any{"0102"}},
		{"large text in the body, str16", object{"str": repeat("a", 65535)}, decodeOnly, []any{"daffff", repeat("61", 65535)}, nil},
		{"large bytes in the body, bin16", object{"bytes": repeat("fe", 65535)}, decodeOnly, []any{"c5ffff", repeat("fe", 65535)}, nil},
		{"large text in the body", object{"str": repeat("a", 65536)}, decodeOnly, []any{"db00010000", repeat("61", 65536)}, nil},
		{"large bytes in the body", object{"bytes": repeat("fe", 65536)}, decodeOnly, []any{"c600010000", repeat("fe", 65536)}, nil},
		{"text out of band although it is small", object{"str": "höhe"}, decodeOnly, ext(6, "92"+text("str")+"c0"), []any{"68c3b66865"}},
		{"bytes out of band although they are empty", object{"bytes": ""}, decodeOnly, ext(6, "92"+text("bin")+"c0"), []any{""}},
		{"json out of band although it is small", object{"json": "[1]"}, decodeOnly, ext(6, "92"+text("json")+"c0"), []any{"5b315d"}},
		{"table out of band although it is small", tableOf(noColumns), decodeOnly, ext(5, "91c0"), []any{noColumns}},
		{"image with pts as float32", imageOf("gray8", 1, 1, "0.5", "07"), decodeOnly, ext(3, "95"+text("gray8")+"0101ca3f000000c40107"), nil},
		{"json with white space", object{"json": " [1]\n"}, goOnly, ext(4, "205b315d0a"), nil},
	}
}
