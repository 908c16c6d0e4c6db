package ipc

import (
	"bytes"
	"maps"
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/vmihailenco/msgpack/v5"
)

func TestAReleaseFrameIsReadAsItWasWritten(t *testing.T) {
	for name, over := range map[string]map[uint32]int64{
		"one":  {7: 1},
		"many": {1: 300, ownedByWorker | 5: math.MaxInt64, math.MaxUint32: 2},
		"none": {},
		"very many": func() map[uint32]int64 {
			m := map[uint32]int64{}
			for i := range uint32(70_000) {
				m[i] = 1
			}
			return m
		}(),
	} {
		t.Run(name, func(t *testing.T) {
			f, err := newFrameReader(bytes.NewReader(appendRelease(nil, over)), DefaultLimits()).next()
			require.NoError(t, err)
			assert.Equal(t, frameRelease, f.kind)
			require.NoError(t, f.Check("release", DefaultLimits()), "it is msgpack")
			read := make(map[uint32]int64)
			require.NoError(t, eachRelease(f, func(number, n uint64) error {
				read[uint32(number)] = int64(n)
				return nil
			}))
			assert.True(t, maps.Equal(over, read))
		})
	}
}

func TestAReleaseFrameInAnyFormOfMsgpackIsRead(t *testing.T) {
	body, err := msgpack.Marshal([]any{[]int{1, 200}, []uint16{7, 1 << 15}, []uint32{1 << 20, 1 << 30}, []uint64{1 << 31, 1}})
	require.NoError(t, err)
	var read [][2]uint64
	require.NoError(t, eachRelease(frame{Payload: Payload{Body: body}}, func(number, n uint64) error {
		read = append(read, [2]uint64{number, n})
		return nil
	}))
	assert.Equal(t, [][2]uint64{{1, 200}, {7, 1 << 15}, {1 << 20, 1 << 30}, {1 << 31, 1}}, read)
}

func TestAnInvalidReleaseFrameIsRefused(t *testing.T) {
	for name, message := range map[string]any{
		"a number":         1,
		"no pairs":         []int{1, 2},
		"a pair of three":  [][]int{{1, 2, 3}},
		"a pair of one":    [][]int{{1}},
		"a text":           []any{[]any{"x", 1}},
		"a negative count": [][]int{{1, -1}},
		"a map":            map[string]int{"1": 1},
	} {
		t.Run(name, func(t *testing.T) {
			body, err := msgpack.Marshal(message)
			require.NoError(t, err)
			assertNoRelease(t, body)
		})
	}
	whole := appendRelease(nil, map[uint32]int64{1: 1})[headerSize:]
	for end := range whole {
		assertNoRelease(t, whole[:end])
	}
	assertNoRelease(t, append(whole, 0xc0))
}

func assertNoRelease(t *testing.T, body []byte) {
	t.Helper()
	err := eachRelease(frame{Payload: Payload{Body: body}}, func(uint64, uint64) error { return nil })
	assert.ErrorIs(t, err, errInvalidRelease, "%x", body)
}
