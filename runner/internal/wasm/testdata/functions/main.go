// A module with functions, built with -buildmode=c-shared. A short text in msgpack in, a list
// of the text in upper case, the number of calls of this instance, and its number of buffers
// out. It imports little, so that it compiles fast.
package main

import (
	"bytes"
	"unsafe"
)

// buffers keeps what the supervisor holds from being collected.
var buffers = map[uint32][]byte{}

var calls byte

//go:wasmexport gophersnake_alloc
func alloc(size uint32) uint32 {
	b := make([]byte, max(size, 1))
	at := uint32(uintptr(unsafe.Pointer(&b[0])))
	buffers[at] = b
	return at
}

//go:wasmexport gophersnake_free
func free(at, _ uint32) { delete(buffers, at) }

//go:wasmexport gophersnake_call
func call(at, size uint32) uint64 {
	in := buffers[at][:size]
	if in[0] < 0xa0 || in[0] > 0xbf {
		panic("not a short text")
	}
	calls++
	out := append([]byte{0x93, in[0]}, bytes.ToUpper(in[1:])...)
	out = append(out, calls, byte(len(buffers)))
	result := alloc(uint32(len(out)))
	copy(buffers[result], out)
	return uint64(result)<<32 | uint64(len(out))
}

func main() {}
