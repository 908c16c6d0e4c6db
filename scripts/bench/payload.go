package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"reflect"
	"sync"

	"github.com/gophersnake/gophersnake/ipc"
)

// payload is a value that every peer sends to Python and receives back. An array comes
// back as a new array with each element doubled, any other value unchanged.
type payload struct {
	name string
	// fewer divides the number of calls, for payloads whose calls take long.
	fewer int
	// array is set if the value is a *ipc.Tensor.
	array bool
	// spec describes the value to Python; see make in python/rounds.py.
	spec valueSpec
	// value returns the value, and result the expected result.
	value, result func() any
}

// valueSpec describes a value in a request to a Python program.
type valueSpec struct {
	Value    any `json:"value,omitempty"`
	Elements int `json:"elements,omitempty"` // of an array of float32
	Bytes    int `json:"bytes,omitempty"`
}

// payloads are all payloads, in the order of the report.
var payloads = []payload{
	echoed("small", 1, valueSpec{Value: small}, small), // 63 bytes of msgpack
	array("64KiB", 64<<10, 1),
	array("1MiB", 1<<20, 4),
	array("4MiB", 4<<20, 10),
	array("64MiB", 64<<20, 100),
	echoed("1MiB-bytes", 4, valueSpec{Bytes: 1 << 20}, make([]byte, 1<<20)),
}

var small = map[string]any{
	"id":    int64(123456),
	"text":  "from gopher to snake and back",
	"score": 0.75,
	"final": true,
}

// echoed returns a payload that comes back unchanged.
func echoed(name string, fewer int, spec valueSpec, value any) payload {
	same := func() any { return value }
	return payload{name: name, fewer: fewer, spec: spec, value: same, result: same}
}

// array returns a payload of size bytes of float32. Its values are made at their first use.
func array(name string, size, fewer int) payload {
	times := func(factor float32) func() any {
		return sync.OnceValue(func() any { return tensor(size/4, factor) })
	}
	return payload{name: name, fewer: fewer, array: true, spec: valueSpec{Elements: size / 4}, value: times(1), result: times(2)}
}

// tensor returns n elements that count up from 0, times a factor. The function make in
// python/rounds.py returns the same.
func tensor(n int, factor float32) *ipc.Tensor {
	data := make([]byte, 0, 4*n)
	for i := range n {
		data = binary.LittleEndian.AppendUint32(data, math.Float32bits(float32(i%(1<<16))*factor))
	}
	return &ipc.Tensor{DType: ipc.Float32, Shape: []int{n}, Data: data}
}

// verify returns an error if a result is not the expected one.
func (p payload) verify(result any) error {
	expected := p.result()
	want, isArray := expected.(*ipc.Tensor)
	if got, ok := result.(*ipc.Tensor); ok && isArray {
		if got.DType == want.DType && reflect.DeepEqual(got.Shape, want.Shape) && bytes.Equal(got.Data, want.Data) {
			return nil
		}
		return fmt.Errorf("an array of %v came back as one of %v, or with other elements", want.Shape, got.Shape)
	}
	// Python encodes a positive integer as unsigned, so the Go types may differ.
	if reflect.DeepEqual(result, expected) || !isArray && fmt.Sprint(result) == fmt.Sprint(expected) {
		return nil
	}
	return fmt.Errorf("the result of %.80s is %.80s", fmt.Sprint(expected), fmt.Sprint(result))
}
