package media

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"strings"

	"github.com/gophersnake/gophersnake/ipc"
)

// npyTypes are the names of element types in NumPy files. NumPy knows no
// bfloat16: it comes back as raw elements of two bytes.
var npyTypes = map[ipc.DType]string{
	ipc.Bool: "|b1", ipc.Int8: "|i1", ipc.Uint8: "|u1",
	ipc.Int16: "<i2", ipc.Int32: "<i4", ipc.Int64: "<i8",
	ipc.Uint16: "<u2", ipc.Uint32: "<u4", ipc.Uint64: "<u8",
	ipc.Float16: "<f2", ipc.Float32: "<f4", ipc.Float64: "<f8", ipc.BFloat16: "<V2",
	ipc.Complex64: "<c8", ipc.Complex128: "<c16",
}

// EncodeNPY writes a tensor as a NumPy file (.npy), which numpy.load reads.
func EncodeNPY(w io.Writer, tensor *ipc.Tensor) error {
	descr, ok := npyTypes[tensor.DType]
	if !ok {
		return fail("NPY", "unknown dtype %q", tensor.DType)
	}
	size, shape := tensor.DType.Size(), ""
	for _, dim := range tensor.Shape {
		if dim < 0 || dim > 0 && size > math.MaxInt/dim {
			return errShape(tensor)
		}
		size *= dim
		shape += fmt.Sprintf("%d, ", dim)
	}
	if size != len(tensor.Data) {
		return errShape(tensor)
	}
	if len(tensor.Shape) > 1 {
		shape = strings.TrimSuffix(shape, ", ") // (3, ) is a tuple of one, () one of none
	}
	header := fmt.Sprintf("{'descr': '%s', 'fortran_order': False, 'shape': (%s), }", descr, shape)
	const preamble = len("\x93NUMPY\x01\x00") + 2
	header += strings.Repeat(" ", 63-(preamble+len(header))%64) + "\n" // the data begins at a multiple of 64
	head := binary.LittleEndian.AppendUint16([]byte("\x93NUMPY\x01\x00"), uint16(len(header)))
	if _, err := w.Write(append(head, header...)); err != nil {
		return err
	}
	_, err := w.Write(tensor.Data)
	return err
}

func errShape(t *ipc.Tensor) error {
	return fail("NPY", "%d bytes are no tensor of %s and shape %v", len(t.Data), t.DType, t.Shape)
}
