package command

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/vmihailenco/msgpack/v5"
	"github.com/vmihailenco/msgpack/v5/msgpcode"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner/internal/engine"
	"github.com/gophersnake/gophersnake/runner/internal/jsonvalue"
	"github.com/gophersnake/gophersnake/runner/internal/printable"
)

// encode returns what is written to the program for an input.
func (c *Config) encode(in []byte) ([]byte, error) {
	if c.Protocol == Msgpack {
		return in, nil
	}
	if c.Protocol == Once {
		if raw, ok := c.plain(in); ok {
			return raw, nil
		}
	}
	text, err := jsonvalue.FromMsgpack("input", in)
	if err != nil {
		hint := "use protocol: msgpack, which carries all values"
		if c.Protocol == Once {
			hint = "pass bytes or text alone, or use protocol: msgpack, which carries all values"
		}
		return nil, unfit(err, hint)
	}
	return append(text, '\n'), nil
}

// plain returns an input that is bytes, and a string if the output is not JSON.
func (c *Config) plain(in []byte) ([]byte, bool) {
	v, err := ipc.Payload{Body: in}.View("input", ipc.DefaultLimits())
	if err != nil {
		return nil, false
	}
	switch v := v.(type) {
	case []byte:
		return v, true
	case string:
		return []byte(v), c.Output != JSON
	}
	return nil, false
}

// decode returns the value of a complete answer.
func (c *Config) decode(answer []byte) ([]byte, error) {
	switch {
	case c.Protocol == Msgpack:
		return answer, nil
	case c.Protocol == Once && c.Output == Bytes:
		return msgpack.Marshal(answer)
	case c.Protocol == Once && c.Output == Text:
		if !utf8.Valid(answer) {
			return nil, garbage("text in UTF-8", answer, errors.New("invalid UTF-8"))
		}
		return msgpack.Marshal(string(answer))
	}
	out, err := jsonvalue.ToMsgpack("result", answer)
	if err != nil {
		if len(bytes.TrimSpace(answer)) == 0 {
			err = errors.New("it is empty")
		}
		return nil, garbage("JSON", answer, err)
	}
	return out, nil
}

// unfit says that an input cannot be carried.
func unfit(err error, hint string) *engine.Error {
	e := &engine.Error{Fault: engine.Marshaling, Cause: err, Hint: hint}
	if value, ok := errors.AsType[*ipc.ValueError](err); ok {
		e.Path = value.Path
	}
	return e
}

// garbage says that an answer is not what the protocol requires.
func garbage(wanted string, answer []byte, err error) *engine.Error {
	e := unfit(err, "the program must write nothing but its results to standard output; messages belong to standard error")
	if value, ok := errors.AsType[*ipc.ValueError](err); ok {
		reason, _, _ := strings.Cut(value.Reason, `: "`) // the excerpt follows
		e.Cause = errors.New(reason)
	}
	e.Reason = fmt.Sprintf("the program answered with something else than %s, %s: %v", wanted, excerpt(answer), e.Cause)
	return e
}

// maxExcerpt is how many bytes of an answer an error shows.
const maxExcerpt = 60

// excerpt quotes the beginning of an answer, with all that a terminal could take for a command
// escaped.
func excerpt(answer []byte) string {
	answer = bytes.TrimRight(answer, "\r\n")
	more := ""
	if len(answer) > maxExcerpt {
		answer, more = answer[:maxExcerpt], "…"
	}
	return `"` + printable.Line(string(answer)) + `"` + more
}

// errTooLarge means that an answer has more bytes than it may.
var errTooLarge = errors.New("the answer is too large")

// readLine reads a line of at most most bytes, without its end.
func readLine(r *bufio.Reader, most int64) (line []byte, err error) {
	for {
		part, err := r.ReadSlice('\n')
		if int64(len(line)+len(part)) > most+1 {
			return append(line, part[:min(len(part), maxExcerpt)]...), errTooLarge
		}
		line = append(line, part...)
		if !errors.Is(err, bufio.ErrBufferFull) {
			return bytes.TrimSuffix(line, []byte("\n")), err
		}
	}
}

// readAll reads at most most bytes until the end.
func readAll(r io.Reader, most int64) ([]byte, error) {
	all, err := io.ReadAll(io.LimitReader(r, most+1))
	if err == nil && int64(len(all)) > most {
		err = errTooLarge
	}
	return all, err
}

// errInvalid means that bytes are no msgpack.
var errInvalid = errors.New("the byte 0xc1 begins no value")

// readValue reads one value in msgpack of at most most bytes. It only finds its end; the value
// is not checked otherwise.
func readValue(r *bufio.Reader, most int64) (value []byte, err error) {
	// The count cannot overflow: each byte that is read adds less than 2³³ to it.
	for missing := uint64(1); missing > 0; missing-- {
		code, err := r.ReadByte()
		if err != nil {
			return value, err
		}
		value = append(value, code)
		l, valid := layoutOf(code)
		if !valid {
			return value, errInvalid
		}
		if value, err = take(r, value, uint64(l.width), most); err != nil {
			return value, err
		}
		n := bigEndian(value[len(value)-l.width:])
		missing += l.values + n*l.perValue
		if value, err = take(r, value, l.data+n*l.perData, most); err != nil {
			return value, err
		}
	}
	return value, nil
}

// layout says what follows the first byte of a value: a length of width bytes, then data
// bytes and perData for each that the length counts, then values, and perValue likewise.
type layout struct {
	width            int
	data, perData    uint64
	values, perValue uint64
}

// layoutOf returns false for the one byte that begins no value.
func layoutOf(code byte) (l layout, valid bool) {
	// wide is 1, 2, 4 or 8, by the place of a code in a row of such codes.
	wide := func(first byte) int { return 1 << (code - first) }
	switch {
	case code <= msgpcode.PosFixedNumHigh, code >= msgpcode.NegFixedNumLow,
		code == msgpcode.Nil, code == msgpcode.False, code == msgpcode.True:
	case code <= msgpcode.FixedMapHigh:
		l.values = 2 * uint64(code&msgpcode.FixedMapMask)
	case code <= msgpcode.FixedArrayHigh:
		l.values = uint64(code & msgpcode.FixedArrayMask)
	case code <= msgpcode.FixedStrHigh:
		l.data = uint64(code & msgpcode.FixedStrMask)
	case code == 0xc1:
		return l, false
	case code <= msgpcode.Bin32:
		l.width, l.perData = wide(msgpcode.Bin8), 1
	case code <= msgpcode.Ext32:
		l.width, l.data, l.perData = wide(msgpcode.Ext8), 1, 1
	case code == msgpcode.Float, code == msgpcode.Double:
		l.data = 4 * uint64(wide(msgpcode.Float))
	case code <= msgpcode.Uint64:
		l.data = uint64(wide(msgpcode.Uint8))
	case code <= msgpcode.Int64:
		l.data = uint64(wide(msgpcode.Int8))
	case code <= msgpcode.FixExt16:
		l.data = 1 + uint64(wide(msgpcode.FixExt1))
	case code <= msgpcode.Str32:
		l.width, l.perData = wide(msgpcode.Str8), 1
	case code <= msgpcode.Array32:
		l.width, l.perValue = 2*wide(msgpcode.Array16), 1
	default:
		l.width, l.perValue = 2*wide(msgpcode.Map16), 2
	}
	return l, true
}

// take appends n bytes to a value.
func take(r *bufio.Reader, value []byte, n uint64, most int64) ([]byte, error) {
	if n > uint64(max(most-int64(len(value)), 0)) {
		return value, errTooLarge
	}
	for n > 0 { // a length allocates nothing before its bytes arrive
		start, part := len(value), min(n, 64<<10)
		value = append(value, make([]byte, part)...)
		if _, err := io.ReadFull(r, value[start:]); err != nil {
			return value[:start], err
		}
		n -= part
	}
	return value, nil
}

// bigEndian returns a number of 0, 1, 2 or 4 bytes.
func bigEndian(b []byte) uint64 {
	var wide [8]byte
	copy(wide[8-len(b):], b)
	return binary.BigEndian.Uint64(wide[:])
}
