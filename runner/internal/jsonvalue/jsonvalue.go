// Package jsonvalue converts values between msgpack, as package ipc encodes them, and JSON,
// for nodes that exchange JSON. It keeps the order of members and the difference between
// integers and floating-point numbers, and refuses what it would have to change.
package jsonvalue

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/vmihailenco/msgpack/v5"

	"github.com/gophersnake/gophersnake/ipc"
)

// FromMsgpack returns a value, whose encoding has no buffers beside it, as JSON in one line.
// An [ipc.JSON] is inserted as it is. Bytes, tensors, recordings, images, tables, times and
// numbers that are not finite have no form in JSON: the error is an [*ipc.ValueError] with a
// path that begins with root.
func FromMsgpack(root string, value []byte) ([]byte, error) {
	v, err := ipc.Payload{Body: value}.Ordered().Decode(root, ipc.DefaultLimits())
	if err != nil {
		return nil, err
	}
	text, refused := appendValue(nil, v)
	if refused != nil {
		refused.Path = root + refused.Path
		return nil, refused
	}
	return text, nil
}

// appendValue appends a value. The path of its error begins at that value.
func appendValue(text []byte, v any) ([]byte, *ipc.ValueError) {
	switch v := v.(type) {
	case nil:
		return append(text, "null"...), nil
	case bool:
		return strconv.AppendBool(text, v), nil
	case int64:
		return strconv.AppendInt(text, v, 10), nil
	case uint64:
		return strconv.AppendUint(text, v, 10), nil
	case float64:
		return appendFloat(text, v)
	case string:
		return appendText(text, v), nil
	case ipc.JSON:
		return appendDocument(text, v)
	case []any:
		return appendList(text, v)
	case ipc.Object:
		return appendObject(text, v)
	}
	return nil, refuse("JSON has no form for " + nameOf(v))
}

func appendList(text []byte, list []any) ([]byte, *ipc.ValueError) {
	text = append(text, '[')
	for i, item := range list {
		if i > 0 {
			text = append(text, ',')
		}
		var err *ipc.ValueError
		if text, err = appendValue(text, item); err != nil {
			err.Path = fmt.Sprintf("[%d]", i) + err.Path
			return nil, err
		}
	}
	return append(text, ']'), nil
}

func appendObject(text []byte, object ipc.Object) ([]byte, *ipc.ValueError) {
	text = append(text, '{')
	for i, member := range object {
		if i > 0 {
			text = append(text, ',')
		}
		text = append(appendText(text, member.Key), ':')
		var err *ipc.ValueError
		if text, err = appendValue(text, member.Value); err != nil {
			err.Path = "." + member.Key + err.Path
			return nil, err
		}
	}
	return append(text, '}'), nil
}

// appendDocument appends a JSON document without its line feeds, since a value is one line.
func appendDocument(text []byte, document ipc.JSON) ([]byte, *ipc.ValueError) {
	b := bytes.NewBuffer(text)
	if err := json.Compact(b, document); err != nil {
		return nil, refuse("not a JSON document")
	}
	return b.Bytes(), nil
}

// appendText appends a string. It was checked to be UTF-8, so nothing can fail.
func appendText(text []byte, s string) []byte {
	quoted, _ := jsontext.AppendQuote(text, s)
	return quoted
}

// appendFloat appends a number with a point or an exponent, so that it stays a float.
func appendFloat(text []byte, f float64) ([]byte, *ipc.ValueError) {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return nil, refuse(fmt.Sprintf("JSON has no number %v", f))
	}
	start := len(text)
	format := byte('f')
	if a := math.Abs(f); a != 0 && (a < 1e-6 || a >= 1e21) {
		format = 'e'
	}
	text = strconv.AppendFloat(text, f, format, -1, 64)
	if !bytes.ContainsAny(text[start:], ".e") {
		text = append(text, ".0"...)
	}
	return text, nil
}

// nameOf returns what a value is that JSON does not carry.
func nameOf(v any) string {
	switch v.(type) {
	case []byte:
		return "bytes"
	case time.Time:
		return "a time"
	case *ipc.Tensor:
		return "a tensor"
	case *ipc.Audio:
		return "a recording"
	case *ipc.Image:
		return "an image"
	case *ipc.Table:
		return "a table"
	}
	return fmt.Sprintf("a %T", v)
}

func refuse(reason string) *ipc.ValueError {
	return &ipc.ValueError{Reason: reason, Hint: "exchange msgpack with the node, or send text or numbers"}
}

// ToMsgpack returns a JSON document as msgpack. Integers have 64 bits at most. If an object
// has a key twice, the last one counts. The memory that it takes is proportional to the text.
// The error is an [*ipc.ValueError] with a path that begins with root.
func ToMsgpack(root string, text []byte) ([]byte, error) {
	var out bytes.Buffer
	t := transcoder{
		tokens: jsontext.NewDecoder(bytes.NewReader(text), jsontext.AllowDuplicateNames(true)),
		out:    &out, encoder: msgpack.NewEncoder(&out),
	}
	t.encoder.UseCompactInts(true)
	err := t.value()
	if err == nil {
		if _, more := t.tokens.ReadToken(); !errors.Is(more, io.EOF) {
			err = fmt.Errorf("not one JSON document: %s", excerpt(text))
		}
	}
	if err == nil {
		return out.Bytes(), nil
	}
	if refused, ok := errors.AsType[*ipc.ValueError](err); ok {
		refused.Path = root + refused.Path
		return nil, refused
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = fmt.Errorf("not JSON: the text ends too early: %s", excerpt(text))
	} else if syntax, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
		err = fmt.Errorf("not JSON, at byte %d: %s: %s", syntax.ByteOffset, strings.TrimPrefix(syntax.Err.Error(), "jsontext: "), excerpt(text))
	}
	return nil, &ipc.ValueError{Path: root, Reason: err.Error()}
}

// excerpt quotes the beginning of a text.
func excerpt(text []byte) string {
	const most = 60
	if len(text) > most {
		return fmt.Sprintf("%q…", text[:most])
	}
	return fmt.Sprintf("%q", text)
}

// transcoder writes a document token by token, so that a text of many small parts takes
// little memory.
type transcoder struct {
	tokens  *jsontext.Decoder
	out     *bytes.Buffer
	encoder *msgpack.Encoder // writes into out, which cannot fail
}

// The codes of an array and a map whose count takes 32 bits.
const (
	array32 = 0xdd
	map32   = 0xdf
)

// value writes the next value. The path of its error begins at that value.
func (t *transcoder) value() error {
	token, err := t.tokens.ReadToken()
	if err != nil {
		return err
	}
	switch token.Kind() {
	case '{':
		return t.container(map32, '}', t.member)
	case '[':
		return t.container(array32, ']', t.item)
	case 'n':
		return t.encoder.EncodeNil()
	case 't', 'f':
		return t.encoder.EncodeBool(token.Bool())
	case '0':
		return t.number(token.String())
	}
	return t.encoder.EncodeString(token.String())
}

// container writes an array or a map. Its count is known only at its end.
func (t *transcoder) container(code byte, end jsontext.Kind, part func(index int) error) error {
	t.out.Write([]byte{code, 0, 0, 0, 0})
	at, count := t.out.Len()-4, 0
	for ; t.tokens.PeekKind() != end; count++ {
		if err := part(count); err != nil {
			return err
		}
	}
	if _, err := t.tokens.ReadToken(); err != nil {
		return err
	}
	binary.BigEndian.PutUint32(t.out.Bytes()[at:], uint32(count))
	return nil
}

func (t *transcoder) item(index int) error {
	err := t.value()
	if err != nil {
		return below(fmt.Sprintf("[%d]", index), err)
	}
	return nil
}

func (t *transcoder) member(int) error {
	key, err := t.tokens.ReadToken()
	if err != nil {
		return err
	}
	name := key.String()
	if err := t.encoder.EncodeString(name); err != nil {
		return err
	}
	if err := t.value(); err != nil {
		return below("."+name, err)
	}
	return nil
}

// below adds a step to the path of an error.
func below(step string, err error) error {
	if refused, ok := errors.AsType[*ipc.ValueError](err); ok {
		refused.Path = step + refused.Path
	}
	return err
}

// number writes a number.
func (t *transcoder) number(text string) error {
	switch v := Number(text).(type) {
	case int64:
		return t.encoder.EncodeInt(v)
	case uint64:
		return t.encoder.EncodeUint(v)
	case float64:
		return t.encoder.EncodeFloat64(v)
	}
	return &ipc.ValueError{Reason: fmt.Sprintf("the number %s does not fit in 64 bits", excerpt([]byte(text)))}
}

// Number returns the value of a number of a JSON document: an int64, or a uint64 if it does not
// fit, or a float64 if the text has a point or an exponent. It returns nil if none of them can
// hold it: a float64 would round an integer of more than 64 bits.
func Number(text string) any {
	if strings.ContainsAny(text, ".eE") {
		if f, err := strconv.ParseFloat(text, 64); err == nil {
			return f
		}
		return nil
	}
	if i, err := strconv.ParseInt(text, 10, 64); err == nil {
		return i
	}
	if u, err := strconv.ParseUint(text, 10, 64); err == nil {
		return u
	}
	return nil
}
