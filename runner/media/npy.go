package media

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"strings"

	"github.com/gophersnake/gophersnake/ipc"
)

// npyTypes are the names of element types in NumPy files. NumPy has no bfloat16:
// numpy.load returns raw elements of two bytes for it.
var npyTypes = map[ipc.DType]string{
	ipc.Bool: "|b1", ipc.Int8: "|i1", ipc.Uint8: "|u1",
	ipc.Int16: "<i2", ipc.Int32: "<i4", ipc.Int64: "<i8",
	ipc.Uint16: "<u2", ipc.Uint32: "<u4", ipc.Uint64: "<u8",
	ipc.Float16: "<f2", ipc.Float32: "<f4", ipc.Float64: "<f8", ipc.BFloat16: "<V2",
	ipc.Complex64: "<c8", ipc.Complex128: "<c16",
}

// EncodeNPY writes a tensor as a NumPy file (.npy) for numpy.load. The error is an
// [*Error] if the data does not match the dtype and the shape, or that of w.
func EncodeNPY(w io.Writer, tensor *ipc.Tensor) error {
	descr, ok := npyTypes[tensor.DType]
	if !ok {
		return errorf("NPY", "unknown dtype %q", tensor.DType)
	}
	size, shape := tensor.DType.Size(), ""
	for _, dim := range tensor.Shape {
		if dim < 0 || dim > 0 && size > math.MaxInt/dim {
			return shapeError(tensor)
		}
		size *= dim
		shape += fmt.Sprintf("%d, ", dim)
	}
	if size != len(tensor.Data) {
		return shapeError(tensor)
	}
	if len(tensor.Shape) > 1 {
		shape = strings.TrimSuffix(shape, ", ") // (3, ) is a tuple of one element and keeps its comma
	}
	header := fmt.Sprintf("{'descr': '%s', 'fortran_order': False, 'shape': (%s), }", descr, shape)
	const magic = "\x93NUMPY\x01\x00"
	const preamble = len(magic) + 2                                    // with the length of the header
	header += strings.Repeat(" ", 63-(preamble+len(header))%64) + "\n" // the data is aligned to 64 bytes
	head := binary.LittleEndian.AppendUint16([]byte(magic), uint16(len(header)))
	if _, err := w.Write(append(head, header...)); err != nil {
		return err
	}
	_, err := w.Write(tensor.Data)
	return err
}

func shapeError(t *ipc.Tensor) error {
	return errorf("NPY", "%d bytes do not make a tensor of %s with shape %v", len(t.Data), t.DType, t.Shape)
}
