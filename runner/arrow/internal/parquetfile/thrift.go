package parquetfile

import (
	"encoding/binary"
	"fmt"

	"github.com/parquet-go/parquet-go/encoding/thrift"
)

// invalid is a fault of a file. The checks panic with it, and [recovered] returns it.
type invalid string

func (i invalid) Error() string { return string(i) }

func refuse(format string, args ...any) { panic(invalid(fmt.Sprintf(format, args...))) }

// recovered sets the error of a function that reads a file: the fault that a check found, or
// the panic of a library that met parts that contradict each other.
func recovered(err *error) {
	switch found := recover().(type) {
	case nil:
	case invalid:
		*err = found
	default:
		*err = fmt.Errorf("its parts contradict each other: %v", found)
	}
}

// maxDepth bounds the nesting of metadata and of columns.
const maxDepth = 60

// decodeThrift decodes the structure that data begins with, and returns its size. The decoder
// allocates what a list announces, so the structure is walked before.
func decodeThrift(data []byte, into any) int {
	w := walker{b: data}
	w.structure(0)
	if err := thrift.Unmarshal(&thrift.CompactProtocol{}, data[:w.at], into); err != nil {
		refuse("its metadata is not valid: %v", err)
	}
	return w.at
}

// walker walks through a structure in Thrift's compact protocol, and refuses one that claims
// more than there are bytes.
type walker struct {
	b  []byte
	at int
}

// The numbers of Thrift's types.
const (
	thriftTrue   = 1
	thriftFalse  = 2
	thriftByte   = 3
	thriftInt16  = 4
	thriftInt32  = 5
	thriftInt64  = 6
	thriftDouble = 7
	thriftBinary = 8
	thriftList   = 9
	thriftSet    = 10
	thriftMap    = 11
	thriftStruct = 12
)

func (w *walker) skip(n uint64) {
	if n > uint64(len(w.b)-w.at) {
		refuse("its metadata ends too early")
	}
	w.at += int(n)
}

func (w *walker) byte() byte {
	w.skip(1)
	return w.b[w.at-1]
}

func (w *walker) number() uint64 {
	value, size := binary.Uvarint(w.b[w.at:])
	if size <= 0 {
		refuse("its metadata has a number without an end")
	}
	w.at += size
	return value
}

func (w *walker) structure(depth int) {
	if depth > maxDepth {
		refuse("its metadata is nested deeper than %d levels", maxDepth)
	}
	for {
		head := w.byte()
		if head == 0 {
			return
		}
		if head>>4 == 0 {
			w.number() // the number of the field
		}
		if kind := head & 15; kind != thriftTrue && kind != thriftFalse { // the value is the type
			w.value(kind, depth)
		}
	}
}

func (w *walker) value(kind byte, depth int) {
	switch kind {
	case thriftTrue, thriftFalse, thriftByte:
		w.skip(1)
	case thriftInt16, thriftInt32, thriftInt64:
		w.number()
	case thriftDouble:
		w.skip(8)
	case thriftBinary:
		w.skip(w.number())
	case thriftList, thriftSet:
		head := w.byte()
		size := uint64(head >> 4)
		if size == 15 {
			size = w.number()
		}
		w.items(size, depth, head&15)
	case thriftMap:
		if size := w.number(); size > 0 {
			kinds := w.byte()
			w.items(size, depth, kinds>>4, kinds&15)
		}
	case thriftStruct:
		w.structure(depth + 1)
	default:
		refuse("its metadata has a value of the unknown type %d", kind)
	}
}

// items walks through the items of a collection, each of which has a value of each kind.
func (w *walker) items(size uint64, depth int, kinds ...byte) {
	if depth > maxDepth {
		refuse("its metadata is nested deeper than %d levels", maxDepth)
	}
	if size > uint64(len(w.b)-w.at) {
		refuse("its metadata has a list of %d items beyond its end", size)
	}
	for range size {
		for _, kind := range kinds {
			w.value(kind, depth+1)
		}
	}
}
