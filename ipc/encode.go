package ipc

import (
	"bytes"
	"fmt"
	"math"
	"reflect"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/vmihailenco/msgpack/v5"
)

// Encode encodes a Go value under the default limits. Besides the types that
// [Payload.Decode] returns it takes, under any name,
//
//   - every integer and float type; a [time.Duration] is its nanoseconds, as in
//     encoding/json;
//   - strings, where they are UTF-8;
//   - slices and arrays; those of bytes become bytes, a nil slice is empty;
//   - maps whose keys are strings; a nil map is empty;
//   - pointers and interfaces, nil or by what they point to;
//   - structs, as maps of their exported fields, which are named, left out and,
//     where embedded, promoted as encoding/json does;
//   - a [json.RawMessage] as [JSON], a [json.Number] as the number, a [big.Int]
//     of 64 bits as an integer;
//   - else, what implements [encoding.TextMarshaler], as its text.
//
// An error has no form on the wire, nor has what is not listed. The payload
// refers to the memory of large tensors, recordings and images; it must not
// change until the call has returned.
//
// A value that cannot be carried is a *[ValueError], whose path begins with root.
func Encode(root string, v any) (Payload, error) {
	return DefaultLimits().Encode(root, v)
}

// Encode is [Encode] under these limits.
func (l Limits) Encode(root string, v any) (Payload, error) {
	e := encoders.Get().(*encoder)
	defer e.release()
	e.limits = l
	e.out.Reset(&e.buf)
	if err := e.value(v, 0); err != nil {
		return Payload{}, err.in(root)
	}
	return Payload{Body: bytes.Clone(e.buf.Bytes()), Buffers: e.buffers}, nil
}

// release makes the encoder ready for another value, without what it holds of
// this one.
func (e *encoder) release() {
	e.buffers = nil
	e.buf.Reset()
	if e.buf.Cap() > 1<<20 {
		e.buf = bytes.Buffer{} // do not keep one large value's memory for ever
	}
	encoders.Put(e)
}

var encoders = sync.Pool{New: func() any {
	e := &encoder{out: msgpack.NewEncoder(nil)}
	return e
}}

// encoder writes one value. Writing to memory does not fail, so the errors of
// the msgpack encoder itself are left aside here.
type encoder struct {
	buf     bytes.Buffer
	out     *msgpack.Encoder
	buffers [][]byte
	limits  Limits
}

func (e *encoder) value(v any, depth int) *ValueError {
	switch v := v.(type) {
	case nil:
		_ = e.out.EncodeNil()
	case bool:
		_ = e.out.EncodeBool(v)
	case string:
		return e.text(v)
	case []byte:
		e.bytes(v)
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
	case JSON:
		return e.json(v)
	case []any:
		if err := e.enter(depth); err != nil {
			return err
		}
		_ = e.out.EncodeArrayLen(len(v))
		for i, item := range v {
			if err := e.value(item, depth+1); err != nil {
				return err.in(fmt.Sprintf("[%d]", i))
			}
		}
	case map[string]any:
		if err := e.enter(depth); err != nil {
			return err
		}
		_ = e.out.EncodeMapLen(len(v))
		for key, item := range v {
			if err := e.key(key); err != nil {
				return err
			}
			if err := e.value(item, depth+1); err != nil {
				return err.in(step(key))
			}
		}
	default:
		return e.reflected(reflect.ValueOf(v), depth)
	}
	return nil
}

// enter refuses containers deeper than the limit, and with them cycles.
func (e *encoder) enter(depth int) *ValueError {
	if depth >= e.limits.Depth {
		return &ValueError{Reason: fmt.Sprintf("nested deeper than %d levels, or a cycle", e.limits.Depth)}
	}
	return nil
}

func (e *encoder) text(s string) *ValueError {
	if !utf8.ValidString(s) {
		return &ValueError{Reason: "a string that is not UTF-8"}
	}
	_ = e.out.EncodeString(s)
	return nil
}

func (e *encoder) key(s string) *ValueError {
	if !utf8.ValidString(s) {
		return &ValueError{Reason: "a map key that is not UTF-8"}
	}
	_ = e.out.EncodeString(s)
	return nil
}

// bytes writes a nil slice as no bytes: nil would mean something else, inside
// an extension the frame's next buffer.
func (e *encoder) bytes(b []byte) {
	_ = e.out.EncodeBytesLen(len(b))
	e.buf.Write(b)
}

// step renders a map key as a step of a path.
func step(key string) string {
	if key == "" || strings.ContainsAny(key, ".[] \n\"") || len(key) > 64 {
		return fmt.Sprintf("[%.80q]", key)
	}
	return key
}

// maxSafeLen is the largest length that an int can hold on every platform.
const maxSafeLen = math.MaxInt32
