package wasm

import "github.com/tetratelabs/wazero/experimental"

// memory allocates the linear memory of one instance, up to a limit. Its methods are called
// by the goroutine that runs the instance.
type memory struct {
	limit   int64
	refused int64 // the size that the module asked for last and did not get; 0 if it got all
	buf     []byte
}

// Allocate implements [experimental.MemoryAllocator].
func (m *memory) Allocate(_, _ uint64) experimental.LinearMemory { return m }

// Reallocate implements [experimental.LinearMemory]. It returns nil beyond the limit: the
// module's memory.grow then returns -1.
func (m *memory) Reallocate(size uint64) []byte {
	if size > uint64(m.limit) {
		m.refused = int64(size)
		return nil
	}
	if size > uint64(cap(m.buf)) {
		// Room for more, so that a memory that grows page by page is not copied each time.
		capacity := min(max(size, 2*uint64(len(m.buf))), uint64(m.limit))
		grown := make([]byte, size, capacity)
		copy(grown, m.buf)
		m.buf = grown
	}
	m.buf = m.buf[:size] // it never shrinks, so the new part is zero
	return m.buf
}

// Free implements [experimental.LinearMemory]. The garbage collector frees the buffer.
func (m *memory) Free() {}
