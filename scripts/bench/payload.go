package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"reflect"
	"strings"
	"sync"

	"github.com/gophersnake/gophersnake/ipc"
)

// payload is a value that every peer takes to Python and brings back worked on:
// an array comes back as a new one, of twice the numbers, all else as it was.
type payload struct {
	name string
	// fewer divides the number of calls, where each takes long.
	fewer int
	// array says that the value is a *ipc.Tensor.
	array bool
	// made says how Python makes the value; see make in python/rounds.py.
	made making
	// value returns the value, and result what is to come back.
	value, result func() any
}

// making is how a request tells a Python program of a value.
type making struct {
	Value    any `json:"value,omitempty"`
	Elements int `json:"elements,omitempty"` // of an array of float32
	Bytes    int `json:"bytes,omitempty"`
}

// payloads are the sections of the table.
var payloads = []payload{
	echoed("small", 1, making{Value: small}, small), // 63 bytes of msgpack
	array("64KiB", 64<<10, 1),
	array("1MiB", 1<<20, 4),
	array("4MiB", 4<<20, 10),
	array("64MiB", 64<<20, 100),
	echoed("1MiB-bytes", 4, making{Bytes: 1 << 20}, make([]byte, 1<<20)),
}

var small = map[string]any{
	"id":    int64(123456),
	"text":  "from gopher to snake and back",
	"score": 0.75,
	"final": true,
}

// echoed is a payload that comes back as it was.
func echoed(name string, fewer int, made making, value any) payload {
	same := func() any { return value }
	return payload{name: name, fewer: fewer, made: made, value: same, result: same}
}

// array is a payload of size bytes of float32. The large ones are made when they
// are needed.
func array(name string, size, fewer int) payload {
	times := func(factor float32) func() any {
		return sync.OnceValue(func() any { return tensor(size/4, factor) })
	}
	return payload{name: name, fewer: fewer, array: true, made: making{Elements: size / 4}, value: times(1), result: times(2)}
}

// tensor returns n elements which count up, times a factor, as python/rounds.py has them.
func tensor(n int, factor float32) *ipc.Tensor {
	data := make([]byte, 0, 4*n)
	for i := range n {
		data = binary.LittleEndian.AppendUint32(data, math.Float32bits(float32(i%(1<<16))*factor))
	}
	return &ipc.Tensor{DType: ipc.Float32, Shape: []int{n}, Data: data}
}

// verify returns an error where what came back is not what it should be.
func (p payload) verify(result any) error {
	expected := p.result()
	want, isArray := expected.(*ipc.Tensor)
	if got, ok := result.(*ipc.Tensor); ok && isArray {
		if got.DType == want.DType && reflect.DeepEqual(got.Shape, want.Shape) && bytes.Equal(got.Data, want.Data) {
			return nil
		}
		return fmt.Errorf("an array of %v came back as one of %v, or with other elements", want.Shape, got.Shape)
	}
	// Python writes a positive integer as an unsigned one, which is the same number.
	if reflect.DeepEqual(result, expected) || !isArray && fmt.Sprint(result) == fmt.Sprint(expected) {
		return nil
	}
	return fmt.Errorf("the result of %.80s is %.80s", fmt.Sprint(expected), fmt.Sprint(result))
}

// choose returns those of all that the comma-separated list names, in the order
// of all; an empty list names them all.
func choose[T any](what string, all []T, name func(T) string, list string) ([]T, error) {
	if list == "" {
		return all, nil
	}
	wanted := map[string]bool{}
	for w := range strings.SplitSeq(list, ",") {
		wanted[strings.TrimSpace(w)] = true
	}
	var chosen []T
	var names []string
	for _, one := range all {
		names = append(names, name(one))
		if wanted[name(one)] {
			chosen = append(chosen, one)
			delete(wanted, name(one))
		}
	}
	for w := range wanted {
		return nil, fmt.Errorf("there is no %s %q; there are: %s", what, w, strings.Join(names, ", "))
	}
	return chosen, nil
}
