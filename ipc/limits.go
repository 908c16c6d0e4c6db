package ipc

// Limits bound what one frame may claim before memory is taken for it.
type Limits struct {
	// Body is the largest msgpack body, in bytes.
	Body int `msgpack:"body"`
	// Buffers is the largest number of out-of-band buffers in one frame.
	Buffers int `msgpack:"buffers"`
	// BufferBytes is the largest sum of the buffers of one frame, in bytes.
	BufferBytes int64 `msgpack:"buffer_bytes"`
	// Depth is the deepest nesting of arrays and maps in a value.
	Depth int `msgpack:"depth"`
}

// DefaultLimits returns the limits that both sides use where nothing else is said.
func DefaultLimits() Limits {
	return Limits{Body: 256 << 20, Buffers: 4096, BufferBytes: 8 << 30, Depth: 64}
}

// OutOfBand is the size in bytes from which the data of a tensor, a recording
// or an image travels beside the body instead of inside it.
const OutOfBand = 16 << 10
