package document

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/gophersnake/gophersnake/runner"
)

// ByteOrderMark is the mark with which some programs begin a text in UTF-8.
var ByteOrderMark = []byte("\ufeff")

// marks are the byte order marks of the other Unicode encodings. That of UTF-32LE begins
// like that of UTF-16LE.
var marks = []struct{ mark, encoding string }{
	{"\x00\x00\xfe\xff", "UTF-32BE"},
	{"\xff\xfe\x00\x00", "UTF-32LE"},
	{"\xfe\xff", "UTF-16BE"},
	{"\xff\xfe", "UTF-16LE"},
}

// MarkedEncoding returns the encoding that a byte order mark announces, if the data are text
// in that encoding. It is empty for UTF-8 and for all other data.
func MarkedEncoding(data []byte) string {
	for _, m := range marks {
		if bytes.HasPrefix(data, []byte(m.mark)) && isText(data[len(m.mark):], m.encoding) {
			return m.encoding
		}
	}
	return ""
}

// GuessEncoding returns the encoding of a JSON text that is not in UTF-8, with or without a
// byte order mark. Without one, the zero bytes show the encoding, since a JSON text begins
// with a character of ASCII.
func GuessEncoding(data []byte) string {
	if encoding := MarkedEncoding(data); encoding != "" {
		return encoding
	}
	var zero [4]bool
	for i := range zero {
		zero[i] = i < len(data) && data[i] == 0
	}
	candidate := ""
	switch {
	case len(data) >= 4 && zero == [4]bool{true, true, true, false}:
		candidate = "UTF-32BE"
	case len(data) >= 4 && zero == [4]bool{false, true, true, true}:
		candidate = "UTF-32LE"
	case len(data) >= 2 && zero[0] && !zero[1]:
		candidate = "UTF-16BE"
	case len(data) >= 2 && zero[1] && !zero[0]:
		candidate = "UTF-16LE"
	}
	if candidate == "" || !isText(data, candidate) {
		return ""
	}
	if first := bytes.TrimLeft(data, "\x00")[0]; !bytes.ContainsRune([]byte("{[\"-0123456789tfn \t\r\n"), rune(first)) {
		return ""
	}
	return candidate
}

// isText reports whether data are text in an encoding: characters without other control
// characters than white space. The last one may be incomplete, because a line that was cut
// from a text at its line feed may end in half of that.
func isText(data []byte, encoding string) bool {
	order := binary.ByteOrder(binary.LittleEndian)
	if encoding == "UTF-16BE" || encoding == "UTF-32BE" {
		order = binary.BigEndian
	}
	size := 2
	if encoding == "UTF-32BE" || encoding == "UTF-32LE" {
		size = 4
	}
	for len(data) >= size {
		r := rune(order.Uint16(data))
		if size == 4 {
			r = rune(order.Uint32(data))
		}
		width := size
		if size == 2 && utf16.IsSurrogate(r) && len(data) >= 4 {
			r, width = utf16.DecodeRune(r, rune(order.Uint16(data[2:]))), 4
		}
		if !utf8.ValidRune(r) || r == utf8.RuneError || unicode.IsControl(r) && !unicode.IsSpace(r) {
			return false
		}
		data = data[width:]
	}
	return true
}

// WrongEncoding returns the error for a text in a known encoding other than UTF-8.
func WrongEncoding(encoding, what string) *runner.Error {
	return runner.NewError(runner.KindSerialization, fmt.Sprintf("%s is in %s, not in UTF-8", what, encoding)).
		WithHint(fmt.Sprintf("convert it: iconv -f %s -t UTF-8", encoding))
}

// NotUTF8 returns the error for the byte at an offset, which is not UTF-8.
func NotUTF8(data []byte, offset int, what string) *runner.Error {
	for offset < len(data) { // the offset may be that of the character before
		r, size := utf8.DecodeRune(data[offset:])
		if r == utf8.RuneError && size == 1 {
			break
		}
		offset += size
	}
	return runner.NewError(runner.KindSerialization, fmt.Sprintf("%s is not UTF-8: %#02x %s", what, data[min(offset, len(data)-1)], place(data, offset))).
		WithHint("save it as UTF-8; from Western European text: iconv -f WINDOWS-1252 -t UTF-8")
}
