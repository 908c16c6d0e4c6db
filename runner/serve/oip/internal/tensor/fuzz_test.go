package tensor

import (
	"encoding/binary"
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// names are the datatypes that the fuzz target chooses from.
var names = []Type{Bool, Int8, Int16, Int32, Int64, Uint8, Uint16, Uint32, Uint64, Float16, Float32, Float64, BFloat, Bytes, "FP8"}

// FuzzBinary decodes random tensors. One that is accepted has the shape that it claims, and is the
// same after it was encoded, in both forms.
func FuzzBinary(f *testing.F) {
	f.Add(uint8(10), []byte{2}, []byte("\x00\x00\x80\x3f\x00\x00\x00\xc0"))
	f.Add(uint8(13), []byte{2, 1}, []byte("\x01\x00\x00\x00a\x00\x00\x00\x00"))
	f.Add(uint8(13), []byte{1}, []byte("\xff\xff\xff\xffa"))
	f.Add(uint8(3), []byte{0x80, 3}, []byte{})
	f.Add(uint8(0), []byte{0x7f, 0x7f, 0x7f}, []byte{1})
	f.Fuzz(func(t *testing.T, datatype uint8, dimensions, data []byte) {
		shape := make([]int64, len(dimensions))
		for i, b := range dimensions {
			if shape[i] = int64(int8(b)); shape[i] > 100 {
				shape[i] = math.MaxInt64 >> (127 - shape[i])
			}
		}
		name := names[int(datatype)%len(names)]
		decoded, err := FromBinary("x", string(name), shape, data)
		if err != nil {
			return
		}
		elements := 1
		for i, n := range decoded.Shape {
			require.Equal(t, shape[i], int64(n))
			elements *= n
		}
		require.Equal(t, elements, decoded.Elements())
		encoded, err := decoded.Binary()
		require.NoError(t, err)
		require.Equal(t, string(data), string(encoded))
		values, err := decoded.Values()
		if err != nil {
			require.Equal(t, Bytes, name)
			return
		}
		for _, v := range values {
			if v == nil {
				return // NaN or an infinity, which JSON does not have
			}
		}
		again, err := FromValues("x", string(name), shape, values)
		require.NoError(t, err)
		back, err := again.Binary()
		require.NoError(t, err)
		require.Equal(t, string(data), string(back))
	})
}

func TestNumbersAreRoundedToTheirDatatype(t *testing.T) {
	t.Parallel()
	for datatype, want := range map[Type][]any{
		Float16: {1.0009765625, 65504.0, nil, 0.0},
		BFloat:  {1.0, 65536.0, 70144.0, 1.0000184e-07},
		Float32: {1.0010000467300415, 65520.0, 70000.0, 1.0000000116860974e-07},
	} {
		tensor, err := FromValues("x", string(datatype), []int64{4}, []any{1.001, 65520.0, 70000.0, 1e-7})
		require.NoError(t, err)
		if datatype == Float16 { // 65520 is halfway to what would be the next number
			want[1] = nil
			want[3] = 1.1920928955078125e-07
		}
		values, err := tensor.Values()
		require.NoError(t, err)
		for i := range want {
			if f, ok := want[i].(float64); ok {
				assert.InEpsilon(t, f, values[i], 4e-3, "%s %d", datatype, i)
			} else {
				assert.Nil(t, values[i], "%s %d", datatype, i)
			}
		}
	}
	tensor, err := FromValues("x", string(BFloat), []int64{2}, []any{1.00390625, math.NaN()})
	require.NoError(t, err)
	assert.Equal(t, uint16(0x3f80), binary.LittleEndian.Uint16(tensor.Data), "half of the last place is rounded to even")
	assert.True(t, math.IsNaN(BFloat.element(tensor.Data[2:]).(float64)))
}
