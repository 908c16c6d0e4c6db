package ipc

import (
	"bytes"
	"encoding/binary"
	"io"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// To claim a length costs the peer a few bytes. It must not cost the reader gigabytes.
func TestClaimsTakeNoMemoryBeforeTheirBytesCome(t *testing.T) {
	buffers := headerOf(frameResult, 1, 0, make([][]byte, 1))
	binary.LittleEndian.PutUint64(buffers[headerSize+16:], 8<<30)
	for name, frame := range map[string][]byte{
		"buffer of 8 GiB": buffers,
		"body of 256 MiB": headerOf(frameResult, 1, 256<<20, nil),
	} {
		t.Run(name, func(t *testing.T) {
			reader := newFrameReader(bytes.NewReader(append(frame, 1, 2, 3)), DefaultLimits())
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := reader.next()
			runtime.ReadMemStats(&after)
			assert.Equal(t, io.ErrUnexpectedEOF, err)
			assert.LessOrEqual(t, after.TotalAlloc-before.TotalAlloc, uint64(maxUpfront+1<<20))
		})
	}
}

// pattern is long enough that a copy to a wrong place shows.
var pattern = func() []byte {
	b := make([]byte, 251<<8)
	for i := range b {
		b[i] = byte(i % 251)
	}
	return b
}()

// endless is a stream of the pattern, over and over.
type endless struct{ at int }

func (e *endless) Read(b []byte) (int, error) {
	n := copy(b, pattern[e.at:])
	e.at = (e.at + n) % len(pattern)
	return n, nil
}

func TestFramesLargerThanTheFirstAllocationArriveWhole(t *testing.T) {
	const size = 2*maxUpfront + 12345
	head := headerOf(frameResult, 1, size, nil)
	frame, err := newFrameReader(io.MultiReader(bytes.NewReader(head), &endless{}), DefaultLimits()).next()
	require.NoError(t, err)
	require.Len(t, frame.Body, size)
	for rest := frame.Body; len(rest) > 0; {
		n := min(len(rest), len(pattern))
		require.True(t, bytes.Equal(pattern[:n], rest[:n]), "at byte %d", size-len(rest))
		rest = rest[n:]
	}
}
