package ipc

import (
	"bytes"
	"fmt"
	"reflect"
	"sync"
	"time"
	"unicode/utf8"
	"unsafe"

	"github.com/vmihailenco/msgpack/v5"

	"github.com/gophersnake/gophersnake/ipc/fields"
)

// Encode encodes a Go value under the default limits. It accepts the types that
// [Payload.Decode] returns and also, including named types of these kinds,
//
//   - every integer and float type; a [time.Duration] becomes its nanoseconds, as in
//     encoding/json;
//   - strings that are valid UTF-8;
//   - slices and arrays; those of bytes become bytes, and a nil slice is empty;
//   - maps whose keys are strings, in any order; a nil map is empty;
//   - an [Object] as a map, in the order of its members;
//   - pointers and interfaces: nil, or the value that they point to;
//   - structs, as maps of their exported fields. Field names, omission and the
//     promotion of embedded fields follow encoding/json; a field without a json tag has
//     the name in its msgpack tag, if there is one;
//   - a [json.RawMessage] as [JSON], a [json.Number] as the number, and a [big.Int]
//     of at most 64 bits as an integer;
//   - a [TableMarshaler] as the table that it returns;
//   - any other [encoding.TextMarshaler], as its text.
//
// Errors and all other types are refused. The payload shares the memory of large
// tensors, recordings, images, tables, byte slices and JSON documents, which must not change until
// the call has returned.
//
// If the value cannot be carried, the error is a *[ValueError] whose path begins with
// root.
func Encode(root string, v any) (Payload, error) {
	e := encoders.Get().(*encoder)
	defer e.release()
	e.maxDepth = DefaultLimits().Depth
	e.out.Reset(&e.buf)
	if err := e.value(v, 0); err != nil {
		return Payload{}, err.in(root)
	}
	return Payload{Body: bytes.Clone(e.buf.Bytes()), Buffers: e.buffers}, nil
}

// release resets the encoder and returns it to the pool.
func (e *encoder) release() {
	e.buffers = nil
	e.buf.Reset()
	if e.buf.Cap() > 1<<20 {
		e.buf = bytes.Buffer{} // do not keep the memory of one large value forever
	}
	encoders.Put(e)
}

// encoder encodes one value. Writing to memory does not fail, so the errors of the
// msgpack encoder itself are ignored.
type encoder struct {
	buf      bytes.Buffer
	out      *msgpack.Encoder // writes to buf
	buffers  [][]byte         // out-of-band data, in the order in which it was met
	maxDepth int
}

var encoders = sync.Pool{New: func() any { return &encoder{out: msgpack.NewEncoder(nil)} }}

// value encodes v, which is nested depth levels deep.
func (e *encoder) value(v any, depth int) *ValueError {
	switch v := v.(type) {
	case nil:
		_ = e.out.EncodeNil()
	case bool:
		_ = e.out.EncodeBool(v)
	case string:
		return e.text(v)
	case []byte:
		e.blob(v)
	case int:
		_ = e.out.EncodeInt(int64(v))
	case int64:
		_ = e.out.EncodeInt(v)
	case uint64:
		_ = e.out.EncodeUint(v)
	case float64:
		_ = e.out.EncodeFloat64(v)
	case float32:
		_ = e.out.EncodeFloat64(float64(v))
	case time.Time:
		if err := checkSeconds(v.Unix()); err != nil {
			return err
		}
		_ = e.out.EncodeTime(v)
	case *Tensor:
		return e.tensor(v)
	case Tensor:
		return e.tensor(&v)
	case *Audio:
		return e.audio(v)
	case Audio:
		return e.audio(&v)
	case *Image:
		return e.image(v)
	case Image:
		return e.image(&v)
	case *Table:
		return e.table(v)
	case Table:
		return e.table(&v)
	case JSON:
		return e.json(v)
	case []any:
		return e.list(v, depth)
	case map[string]any:
		return e.mapping(v, depth)
	case Object:
		return e.object(v, depth)
	default:
		return e.reflected(reflect.ValueOf(v), depth)
	}
	return nil
}

// list encodes the items of a list.
func (e *encoder) list(v []any, depth int) *ValueError {
	if err := e.enter(depth); err != nil {
		return err
	}
	_ = e.out.EncodeArrayLen(len(v))
	for i, item := range v {
		if err := e.value(item, depth+1); err != nil {
			return err.in(fmt.Sprintf("[%d]", i))
		}
	}
	return nil
}

// mapping encodes the members of a map in any order.
func (e *encoder) mapping(v map[string]any, depth int) *ValueError {
	if err := e.enter(depth); err != nil {
		return err
	}
	_ = e.out.EncodeMapLen(len(v))
	for key, item := range v {
		if err := e.key(key); err != nil {
			return err
		}
		if err := e.value(item, depth+1); err != nil {
			return err.in(fields.Step(key))
		}
	}
	return nil
}

// object encodes the members of an object in their order.
func (e *encoder) object(o Object, depth int) *ValueError {
	if err := e.enter(depth); err != nil {
		return err
	}
	_ = e.out.EncodeMapLen(len(o))
	for _, m := range o {
		if err := e.key(m.Key); err != nil {
			return err
		}
		if err := e.value(m.Value, depth+1); err != nil {
			return err.in(fields.Step(m.Key))
		}
	}
	return nil
}

// enter refuses a container that is nested deeper than the limit, and thereby cycles.
func (e *encoder) enter(depth int) *ValueError {
	if depth >= e.maxDepth {
		return &ValueError{
			Reason: fmt.Sprintf("nested deeper than %d levels, or a cycle", e.maxDepth),
			Hint:   "pass its JSON text as an ipc.JSON if it has no cycle",
		}
	}
	return nil
}

func (e *encoder) text(s string) *ValueError {
	if !utf8.ValidString(s) {
		return &ValueError{Reason: "a string that is not UTF-8", Hint: "pass it as []byte, or strings.ToValidUTF8 of it"}
	}
	if len(s) >= LargeFrom {
		e.large(formText, unsafe.Slice(unsafe.StringData(s), len(s))) // buffers are read only
		return nil
	}
	_ = e.out.EncodeString(s)
	return nil
}

func (e *encoder) key(s string) *ValueError {
	if !utf8.ValidString(s) {
		return &ValueError{Reason: "a map key that is not UTF-8", Hint: "pass strings.ToValidUTF8 of it"}
	}
	_ = e.out.EncodeString(s)
	return nil
}

// blob encodes a value that is a byte slice.
func (e *encoder) blob(b []byte) {
	if len(b) >= LargeFrom {
		e.large(formBytes, b)
		return
	}
	e.bytes(b)
}

// large encodes data that is a value of its own as the frame's next buffer, so that it can be
// shared.
func (e *encoder) large(form string, data []byte) {
	start := e.buf.Len()
	_ = e.out.EncodeArrayLen(2)
	_ = e.out.EncodeString(form)
	_ = e.out.EncodeNil()
	e.buffers = append(e.buffers, data)
	e.wrapExtension(extLarge, start)
}

// bytes encodes a byte slice in the body. A nil slice becomes an empty one, because nil inside an
// extension means the frame's next buffer.
func (e *encoder) bytes(b []byte) {
	_ = e.out.EncodeBytesLen(len(b))
	e.buf.Write(b)
}

// tensor encodes a tensor, or nil.
func (e *encoder) tensor(t *Tensor) *ValueError {
	if t == nil {
		_ = e.out.EncodeNil()
		return nil
	}
	if err := t.check(); err != nil {
		return err
	}
	start := e.buf.Len()
	_ = e.out.EncodeArrayLen(3)
	_ = e.out.EncodeString(string(t.DType))
	_ = e.out.EncodeArrayLen(len(t.Shape))
	for _, dim := range t.Shape {
		_ = e.out.EncodeUint(uint64(dim))
	}
	e.data(t.Data)
	e.wrapExtension(extTensor, start)
	return nil
}

func (e *encoder) audio(a *Audio) *ValueError {
	if a == nil {
		_ = e.out.EncodeNil()
		return nil
	}
	if err := a.check(); err != nil {
		return err
	}
	start := e.buf.Len()
	_ = e.out.EncodeArrayLen(3)
	_ = e.out.EncodeUint(uint64(a.Rate))
	_ = e.out.EncodeUint(uint64(a.Channels))
	e.data(bytesOf(a.Samples))
	e.wrapExtension(extAudio, start)
	return nil
}

func (e *encoder) image(m *Image) *ValueError {
	if m == nil {
		_ = e.out.EncodeNil()
		return nil
	}
	if err := m.check(); err != nil {
		return err
	}
	start := e.buf.Len()
	_ = e.out.EncodeArrayLen(5)
	_ = e.out.EncodeString(m.Format)
	_ = e.out.EncodeUint(uint64(m.Width))
	_ = e.out.EncodeUint(uint64(m.Height))
	if m.PTS == nil {
		_ = e.out.EncodeNil()
	} else {
		_ = e.out.EncodeFloat64(*m.PTS)
	}
	e.data(m.Pixels)
	e.wrapExtension(extImage, start)
	return nil
}

func (e *encoder) table(t *Table) *ValueError {
	if t == nil {
		_ = e.out.EncodeNil()
		return nil
	}
	start := e.buf.Len()
	_ = e.out.EncodeArrayLen(1)
	e.data(t.Stream)
	e.wrapExtension(extTable, start)
	return nil
}

func (e *encoder) json(j JSON) *ValueError {
	if err := j.check(); err != nil {
		return err
	}
	if len(j) >= LargeFrom {
		e.large(formJSON, j)
		return nil
	}
	start := e.buf.Len()
	e.buf.Write(j)
	e.wrapExtension(extJSON, start)
	return nil
}

// data encodes the data of an extension: in the body if it is small, and otherwise as
// the frame's next buffer.
func (e *encoder) data(b []byte) {
	if len(b) < SharedFrom {
		e.bytes(b)
		return
	}
	_ = e.out.EncodeNil()
	e.buffers = append(e.buffers, b)
}

// wrapExtension turns the bytes that have been written from start on into the payload of an extension.
// The payload is small, because large data is out of band, so moving it behind its
// header is cheap.
func (e *encoder) wrapExtension(code int8, start int) {
	payload := bytes.Clone(e.buf.Bytes()[start:])
	e.buf.Truncate(start)
	_ = e.out.EncodeExtHeader(code, len(payload))
	e.buf.Write(payload)
}
