package ipc

import "strings"

func refusedVectors() []refusedVector {
	return []refusedVector{
		{"nothing", "value", "ends in the middle", "", nil},
		{"str cut off", "value", "ends in the middle", "a5616263", nil},
		{"str without its length", "value", "ends in the middle", "da01", nil},
		{"int cut off", "value[1]", "ends in the middle", "9201cd01", nil},
		{"float cut off", "value", "ends in the middle", "cb3ff00000", nil},
		{"bytes of 4 GiB", "value", "ends in the middle", "c6ffffffff", nil},
		{"str of 4 GiB", "value.a", "ends in the middle", "81a161dbffffffff", nil},
		{"list of 4 G items", "value", "ends in the middle", "ddffffffff", nil},
		{"map of 4 G keys", "value", "ends in the middle", "dfffffffff", nil},
		{"extension cut off", "value", "ends in the middle", "c7ff01", nil},
		{"extension without its type", "value", "ends in the middle", "d8", nil},
		{"map key cut off", "value", "ends in the middle", "81a56162", nil},
		{"unused code", "value[0]", "begins no value", "91c1", nil},
		{"two values", "value", "follow", "0102", nil},
		{"list of depth 65", "value" + strings.Repeat("[0]", 64), "deeper", strings.Repeat("91", 65) + "01", nil},
		{"map of depth 65", "value" + strings.Repeat(".a", 64), "deeper", strings.Repeat("81a161", 65) + "01", nil},
		{"list of depth 100000", "value" + strings.Repeat("[0]", 64), "deeper", []any{repeat("91", 100000), "01"}, nil},
		{"int key", "value.items[0]", "key", "81a56974656d73918101c0", nil},
		{"bytes key", "value", "key", "81c40161c0", nil},
		{"nil key", "value", "key", "81c0c0", nil},
		{"str that is not UTF-8", "value[0]", "UTF-8", "91a1ff", nil},
		{"str with an encoded surrogate", "value", "UTF-8", "a3eda080", nil},
		{"str with an overlong form", "value", "UTF-8", "a2c080", nil},
		{"key that is not UTF-8", "value", "key", "81a1ffc0", nil},
		{"path with a key that needs quotes", `value["a b"][1]`, "UTF-8", "81a361206292c0a1ff", nil},
		{"unknown extension", "value", "extension", "d46300", nil},
		{"unknown extension of type 0", "value.x", "extension", "81a178d50000" + "00", nil},
		{"unknown extension of type -2", "value", "extension", "d4fe00", nil},

		{"timestamp of 1 byte", "value", "timestamp", "d4ff00", nil},
		{"timestamp of no bytes", "value", "timestamp", "c700ff", nil},
		{"timestamp 64 with a whole second of nanoseconds", "value", "timestamp", "d7ffee6b280000000000", nil},
		{"timestamp 96 with a whole second of nanoseconds", "value[0]", "timestamp", "91c70cff3b9aca000000000000000000", nil},
		{"timestamp before year 1", "value", "timestamp", "c70cff00000000fffffff1886e08ff", nil},
		{"timestamp after year 9999", "value", "timestamp", "c70cff000000000000003afff44180", nil},
		{"timestamp of the largest number of seconds", "value", "timestamp", "c70cff000000007fffffffffffffff", nil},

		{"tensor of unknown dtype", "value", "dtype", ext(1, "93"+text("float8")+"9101c40100"), nil},
		{"tensor of object dtype", "value.t", "dtype", "81a174" + ext(1, "93"+text("object")+"9101c40100"), nil},
		{"tensor with too few bytes", "value", "bytes", ext(1, "93"+text("int16")+"9102c403000000"), nil},
		{"tensor with too many bytes", "value", "bytes", ext(1, "93"+text("int16")+"9101c403000000"), nil},
		{"tensor of no dimensions without its element", "value", "bytes", ext(1, "93"+text("uint8")+"90c400"), nil},
		{"tensor of a negative dimension", "value", "extension", ext(1, "93"+text("uint8")+"91ffc400"), nil},
		{"tensor whose shape wraps around", "value", "shape", ext(1, "93"+text("uint8")+"92ce80000000cf0000000200000000c400"), nil},
		{"tensor of 65 dimensions", "value", "dimensions", ext(1, "93"+text("uint8")+"dc0041"+strings.Repeat("01", 65)+"c40100"), nil},
		{"tensor of two parts", "value", "tensor", ext(1, "92"+text("uint8")+"90"), nil},
		{"tensor that is no array", "value", "extension", ext(1, "c0"), nil},
		{"tensor whose payload is cut off", "value", "ends in the middle", ext(1, "93"+text("uint8")+"9101c405"), nil},
		{"tensor with bytes after it", "value", "follow", ext(1, "93"+text("uint8")+"9101c4010000"), nil},
		{"tensor whose data is a str", "value", "extension", ext(1, "93"+text("uint8")+"9101a161"), nil},
		{"tensor whose buffer is missing", "value", "buffer", ext(1, "93"+text("uint8")+"9101c0"), nil},
		{"tensor whose buffer is too short", "value[1]", "bytes", "92c0" + ext(1, "93"+text("uint8")+"9102c0"), []any{"00"}},
		{"second tensor without a buffer", "value[1]", "buffer", "92" + ext(1, "93"+text("uint8")+"9101c0") + ext(1, "93"+text("uint8")+"9101c0"), []any{"00"}},
		{"large value in the body", "value", "not in a buffer", ext(6, "92"+text("bin")+"c40100"), nil},
		{"large value without a buffer", "value", "buffer", ext(6, "92"+text("bin")+"c0"), nil},
		{"large value of an unknown form", "value", "unknown form", ext(6, "92"+text("int")+"c0"), []any{"00"}},
		{"large value without a form", "value", "instead of", ext(6, "91c0"), []any{"00"}},
		{"large text that is not UTF-8", "value[0]", "", "91" + ext(6, "92"+text("str")+"c0"), []any{"61ff"}},
		{"large document that is no JSON", "value", "not a JSON document", ext(6, "92"+text("json")+"c0"), []any{"7b"}},
		{"buffer that is not used", "value", "buffer", "c0", []any{"00"}},
		{"buffer too many", "value", "buffer", ext(1, "93"+text("uint8")+"9101c0"), []any{"00", ""}},

		{"audio at 0 Hz", "value", "rate", ext(2, "930001c400"), nil},
		{"audio of 0 channels", "value", "channels", ext(2, "930100c400"), nil},
		{"audio that ends inside a sample", "value", "float32", ext(2, "930101c403000000"), nil},
		{"audio that ends inside a frame", "value", "channels", ext(2, "930102c40400000000"), nil},
		{"audio at a rate beyond 31 bits", "value", "extension", ext(2, "93ce8000000001c400"), nil},
		{"table of two parts", "value", "2 parts instead of 1", ext(5, "92c400c400"), nil},
		{"table whose stream is text", "value", "instead of data", ext(5, "91a130"), nil},
		{"table without its buffer", "value", "a buffer is missing", ext(5, "91c0"), nil},
		{"image of unknown format", "value", "format", ext(3, "95"+text("cmyk8")+"0000c0c400"), nil},
		{"image with too few bytes", "value", "bytes", ext(3, "95"+text("rgb8")+"0101c0c4020000"), nil},
		{"image wider than a million", "value", "image", ext(3, "95"+text("gray8")+"ce0010000100c0c400"), nil},
		{"image whose pts is text", "value", "pts", ext(3, "95"+text("gray8")+"0000a130c400"), nil},
		{"json of no bytes", "value", "JSON", "c70004", nil},
		{"json cut off", "value.j", "JSON", "81a16a" + ext(4, "7b"), nil},
		{"json NaN", "value", "JSON", ext(4, "4e614e"), nil},
		{"json Infinity", "value", "JSON", ext(4, "2d496e66696e697479"), nil},
		{"json with a byte order mark", "value", "JSON", ext(4, "efbbbf31"), nil},
		{"json that is not UTF-8", "value", "JSON", ext(4, "22ff22"), nil},
		{"json with text after it", "value", "JSON", ext(4, "31207d"), nil},
	}
}

// frameHead is a frame's header: magic, version, type, flags, body length, call
// id, number of buffers, reserved.
func frameHead(kind, bodyLen, call, buffers string) string {
	return "4701" + kind + "00" + bodyLen + call + buffers + "00000000"
}

// inline is the descriptor of a buffer that follows inline.
func inline(length string) string { return "00000000" + "00000000" + "0000000000000000" + length }

func frameVectors() []frameVector {
	const none, zero = "00000000", "0000000000000000"
	large := repeat("ab", 65536)
	return []frameVector{
		{"ping", 10, "ping", "7", "", nil, frameHead("0a", none, "0700000000000000", none)},
		{"shutdown", 12, "shutdown", "0", "", nil, frameHead("0c", none, zero, none)},
		{"cancel of the largest call id", 7, "cancel", "18446744073709551615", "", nil, frameHead("07", none, "ffffffffffffffff", none)},
		{"call without arguments", 4, "call", "1", "929080", nil, frameHead("04", "03000000", "0100000000000000", none) + "929080"},
		{"call with a value", 4, "call", "258", "9291a26869" + "80", nil, frameHead("04", "06000000", "0201000000000000", none) + "9291a2686980"},
		{"call with a port", 4, "call", "2", "929081a46c65667403", nil, frameHead("04", "09000000", "0200000000000000", none) + "929081a46c65667403"},
		{"result nil", 5, "result", "1", "c0", nil, frameHead("05", "01000000", "0100000000000000", none) + "c0"},
		{"result with two buffers, one empty", 5, "result", "3", "c0", []any{"0102", ""}, frameHead("05", "01000000", "0300000000000000", "02000000") + inline("0200000000000000") + inline(zero) + "c0" + "0102"},
		{"result with a large body and a large buffer", 5, "result", "4", []any{"c600010000", large}, []any{large},
			[]any{frameHead("05", "05000100", "0400000000000000", "01000000") + inline("0000010000000000") + "c600010000", large, large}},
		{"error", 6, "error", "5", "81" + text("kind") + text("execution"), nil, frameHead("06", "10000000", "0500000000000000", none) + "81" + text("kind") + text("execution")},
		{"item", 15, "item", "6", "01", nil, frameHead("0f", "01000000", "0600000000000000", none) + "01"},
		{"credit", 16, "credit", "6", "08", nil, frameHead("10", "01000000", "0600000000000000", none) + "08"},
	}
}

// sessionFrames are those that belong to session 9. The supervisor alone sends them.
func sessionFrames() []frameVector {
	const none, zero = "00000000", "0000000000000000"
	inSession := func(kind, length, call string) string {
		head := frameHead(kind, length, call, none)
		return head[:40] + "09000000" + head[48:]
	}
	return []frameVector{
		{"open", 17, "open", "1", "90", nil, inSession("11", "01000000", "0100000000000000") + "90"},
		{"open with a state", 17, "open", "1", "9107", nil, inSession("11", "02000000", "0100000000000000") + "9107"},
		{"call in a session", 4, "call", "2", "92910580", nil, inSession("04", "04000000", "0200000000000000") + "92910580"},
		{"snapshot", 20, "snapshot", "3", "", nil, inSession("14", none, "0300000000000000")},
		{"finish", 18, "finish", "4", "", nil, inSession("12", none, "0400000000000000")},
		{"drop", 19, "drop", "0", "", nil, inSession("13", none, zero)},
	}
}

func refusedFrames() []refusedFrame {
	const none, zero, one = "00000000", "0000000000000000", "0100000000000000"
	ping := frameHead("0a", none, zero, none)
	return []refusedFrame{
		{"wrong magic", "begins with byte", "58" + ping[2:]},
		{"version 2", "version 2", "4702" + ping[4:]},
		{"version 0", "version 0", "4700" + ping[4:]},
		{"flags", "flags", "47010a01" + ping[8:]},
		{"session in a frame of a worker", "session", ping[:40] + "01000000"},
		{"body of 4 GiB", "body", frameHead("05", "ffffffff", one, none)},
		{"body of one byte over the limit", "body", frameHead("05", "01000010", one, none)},
		{"4097 buffers", "buffers", frameHead("05", none, one, "01100000")},
		{"buffers of more than 8 GiB", "buffers", frameHead("05", none, one, "02000000") + inline("0000000002000000") + inline(one)},
		{"buffers whose sum wraps around", "buffers", frameHead("05", none, one, "02000000") + inline(one) + inline("ffffffffffffffff")},
		{"shared segment", "segment", frameHead("05", none, one, "01000000") + "03000000" + none + zero + one},
		{"reserved part of a descriptor", "reserved", frameHead("05", none, one, "01000000") + none + "01000000" + zero + one + "00"},
		{"offset of inline bytes", "offset", frameHead("05", none, one, "01000000") + none + none + one + one + "00"},
		{"header cut off", "end of file", ping[:46]},
		{"body cut off", "end of file", frameHead("05", "02000000", one, none) + "c0"},
		{"descriptor cut off", "end of file", frameHead("05", none, one, "01000000") + inline(one)[:46]},
		{"buffer cut off", "end of file", frameHead("05", none, one, "01000000") + inline("0200000000000000") + "00"},
		{"buffers of 8 GiB that never come", "end of file", frameHead("05", none, one, "01000000") + inline("0000000002000000")},
	}
}
