package ipc

import (
	"bytes"
	"fmt"
	"math"
	"reflect"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/vmihailenco/msgpack/v5"
)

// Encode encodes a Go value under the default limits. Besides the types that
// [Payload.Decode] returns it takes every integer and float type, slices and
// arrays, maps with string keys, pointers, and structs (as maps; the json tag
// names the keys). The payload refers to the memory of large tensors,
// recordings and images; it must not change until the call has returned.
//
// A value that cannot be carried is a *[ValueError], whose path begins with root.
func Encode(root string, v any) (Payload, error) {
	return DefaultLimits().Encode(root, v)
}

// Encode is [Encode] under these limits.
func (l Limits) Encode(root string, v any) (Payload, error) {
	e := encoders.Get().(*encoder)
	defer encoders.Put(e)
	e.buf.Reset()
	e.out.Reset(&e.buf)
	e.buffers, e.limits = nil, l
	if verr := e.value(v, 0); verr != nil {
		return Payload{}, verr.in(root)
	}
	p := Payload{Body: bytes.Clone(e.buf.Bytes()), Buffers: e.buffers}
	e.buffers = nil
	if e.buf.Cap() > 1<<20 {
		e.buf = bytes.Buffer{} // do not keep one large value's memory for ever
	}
	return p, nil
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
		_ = e.out.EncodeString(v)
	case []byte:
		_ = e.out.EncodeBytes(v)
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
			_ = e.out.EncodeString(key)
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

func (e *encoder) reflected(v reflect.Value, depth int) *ValueError {
	switch v.Kind() {
	case reflect.Bool:
		_ = e.out.EncodeBool(v.Bool())
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		_ = e.out.EncodeInt(v.Int())
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		_ = e.out.EncodeUint(v.Uint())
	case reflect.Float32, reflect.Float64:
		_ = e.out.EncodeFloat64(v.Float())
	case reflect.String:
		_ = e.out.EncodeString(v.String())
	case reflect.Pointer, reflect.Interface:
		if v.IsNil() {
			_ = e.out.EncodeNil()
			return nil
		}
		// A pointer counts as a level, so that a cycle of pointers ends.
		if err := e.enter(depth); err != nil {
			return err
		}
		return e.value(v.Elem().Interface(), depth+1)
	case reflect.Slice, reflect.Array:
		if v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Uint8 {
			_ = e.out.EncodeBytes(v.Bytes())
			return nil
		}
		return e.sequence(v, depth)
	case reflect.Map:
		return e.stringMap(v, depth)
	case reflect.Struct:
		return e.structure(v, depth)
	default:
		return &ValueError{Reason: fmt.Sprintf("a Go value of type %s has no form on the wire", v.Type())}
	}
	return nil
}

func (e *encoder) sequence(v reflect.Value, depth int) *ValueError {
	if err := e.enter(depth); err != nil {
		return err
	}
	_ = e.out.EncodeArrayLen(v.Len())
	for i := range v.Len() {
		if err := e.value(v.Index(i).Interface(), depth+1); err != nil {
			return err.in(fmt.Sprintf("[%d]", i))
		}
	}
	return nil
}

func (e *encoder) stringMap(v reflect.Value, depth int) *ValueError {
	if v.Type().Key().Kind() != reflect.String {
		return &ValueError{Reason: fmt.Sprintf("a map whose keys are %s; keys must be strings", v.Type().Key())}
	}
	if err := e.enter(depth); err != nil {
		return err
	}
	_ = e.out.EncodeMapLen(v.Len())
	for iter := v.MapRange(); iter.Next(); {
		_ = e.out.EncodeString(iter.Key().String())
		if err := e.value(iter.Value().Interface(), depth+1); err != nil {
			return err.in(step(iter.Key().String()))
		}
	}
	return nil
}

// structure writes a struct as a map of its exported fields, named and left
// out as encoding/json would.
func (e *encoder) structure(v reflect.Value, depth int) *ValueError {
	if err := e.enter(depth); err != nil {
		return err
	}
	type field struct {
		name  string
		value reflect.Value
	}
	var fields []field
	for i := range v.NumField() {
		f := v.Type().Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if !f.IsExported() || (name == "-" && options == "") {
			continue
		}
		if strings.Contains(options, "omitempty") && v.Field(i).IsZero() {
			continue
		}
		if name == "" {
			name = f.Name
		}
		fields = append(fields, field{name, v.Field(i)})
	}
	sort.Slice(fields, func(i, j int) bool { return fields[i].name < fields[j].name })
	_ = e.out.EncodeMapLen(len(fields))
	for _, f := range fields {
		_ = e.out.EncodeString(f.name)
		if err := e.value(f.value.Interface(), depth+1); err != nil {
			return err.in(step(f.name))
		}
	}
	return nil
}

func (e *encoder) tensor(t *Tensor) *ValueError {
	if t == nil {
		_ = e.out.EncodeNil()
		return nil
	}
	if err := asValueError(t.check()); err != nil {
		return err
	}
	e.extension(extTensor, func() {
		_ = e.out.EncodeArrayLen(3)
		_ = e.out.EncodeString(string(t.DType))
		_ = e.out.EncodeArrayLen(len(t.Shape))
		for _, dim := range t.Shape {
			_ = e.out.EncodeUint(uint64(dim))
		}
		e.data(t.Data)
	})
	return nil
}

func (e *encoder) audio(a *Audio) *ValueError {
	if a == nil {
		_ = e.out.EncodeNil()
		return nil
	}
	if err := asValueError(a.check()); err != nil {
		return err
	}
	e.extension(extAudio, func() {
		_ = e.out.EncodeArrayLen(3)
		_ = e.out.EncodeUint(uint64(a.Rate))
		_ = e.out.EncodeUint(uint64(a.Channels))
		e.data(bytesOf(a.Samples))
	})
	return nil
}

func (e *encoder) image(m *Image) *ValueError {
	if m == nil {
		_ = e.out.EncodeNil()
		return nil
	}
	if err := asValueError(m.check()); err != nil {
		return err
	}
	e.extension(extImage, func() {
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
	})
	return nil
}

func (e *encoder) json(j JSON) *ValueError {
	if err := asValueError(j.check()); err != nil {
		return err
	}
	e.extension(extJSON, func() { e.buf.Write(j) })
	return nil
}

// data writes bytes in place where they are few, else leaves them to the
// frame's buffers.
func (e *encoder) data(b []byte) {
	if len(b) < OutOfBand {
		_ = e.out.EncodeBytes(b)
		return
	}
	_ = e.out.EncodeNil()
	e.buffers = append(e.buffers, b)
}

// extension writes an extension whose payload the function writes. The payload
// is small, large data being out of band, so it is written first and moved
// behind its header.
func (e *encoder) extension(code int8, write func()) {
	start := e.buf.Len()
	write()
	payload := bytes.Clone(e.buf.Bytes()[start:])
	e.buf.Truncate(start)
	_ = e.out.EncodeExtHeader(code, len(payload))
	e.buf.Write(payload)
}

func asValueError(err error) *ValueError {
	if err == nil {
		return nil
	}
	return err.(*ValueError)
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
