package ipc

import (
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestASegmentIsFilledWithAllOfABuffer(t *testing.T) {
	for _, size := range []int{0, 1, SharedFrom, cachedPiece - 1, cachedPiece, cachedPiece + 1, 3*cachedPiece + 5, maxCached, maxCached + 9} {
		buffer := make([]byte, size)
		for i := 0; i+4 <= size; i += 4 {
			binary.LittleEndian.PutUint32(buffer[i:], uint32(i))
		}
		segment := make([]byte, size)
		fill(segment, buffer)
		assert.Equal(t, buffer, segment, size)
	}
}
