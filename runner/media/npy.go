package media

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"regexp"
	"slices"
	"strconv"
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

// The parts of the header of a NumPy file, which is a literal of Python. The order of its keys
// depends on the writer.
var (
	npyDescr   = regexp.MustCompile(`'descr'\s*:\s*'([<>|=]?)([a-zA-Z]\d+)'`)
	npyFortran = regexp.MustCompile(`'fortran_order'\s*:\s*(True|False)`)
	npyShape   = regexp.MustCompile(`'shape'\s*:\s*\(([\d,\sL]*)\)`)
)

// DecodeNPY decodes a NumPy file, as numpy.save writes it, to a tensor in C order and of the
// byte order of this machine. It accepts the element types that a tensor has; arrays of
// objects, text or records are an error. The error is an [*Error]. The tensor may share the
// memory of data.
func DecodeNPY(data []byte) (*ipc.Tensor, error) {
	const magic = "\x93NUMPY"
	if !bytes.HasPrefix(data, []byte(magic)) {
		return nil, unsupported("NPY", data)
	}
	header, content, ok := splitNPY(data[len(magic):])
	if !ok {
		return nil, errorf("NPY", "the header is incomplete")
	}
	descr, fortran, shape := npyDescr.FindSubmatch(header), npyFortran.FindSubmatch(header), npyShape.FindSubmatch(header)
	if descr == nil || fortran == nil || shape == nil {
		return nil, errorf("NPY", "the header cannot be read, or the elements are not numbers").
			withHint("save an array of numbers or booleans: numpy.save(file, array)")
	}
	tensor := &ipc.Tensor{Shape: []int{}}
	for dtype, name := range npyTypes {
		if name[1:] == string(descr[2]) {
			tensor.DType = dtype
		}
	}
	if tensor.DType == "" {
		return nil, errorf("NPY", "elements of type %s are not supported", descr[2])
	}
	size := tensor.DType.Size()
	for dim := range strings.SplitSeq(string(shape[1]), ",") {
		if dim = strings.TrimRight(strings.TrimSpace(dim), "L"); dim == "" {
			continue
		}
		n, err := strconv.Atoi(dim)
		if err != nil || n > 0 && size > math.MaxInt/n {
			return nil, errorf("NPY", "the shape (%s) is too large", shape[1])
		}
		size *= n
		tensor.Shape = append(tensor.Shape, n)
	}
	if size != len(content) {
		return nil, errorf("NPY", "%d bytes do not make a tensor of %s with shape %v", len(content), tensor.DType, tensor.Shape)
	}
	tensor.Data = content
	if string(descr[1]) == ">" {
		tensor.Data = swapped(content, tensor.DType)
	}
	if string(fortran[1]) == "True" && len(tensor.Shape) > 1 {
		tensor.Data = inCOrder(tensor.Data, tensor.Shape, tensor.DType.Size())
	}
	return tensor, nil
}

// splitNPY separates the header of a file from its content. The data begins with the version.
func splitNPY(data []byte) (header, content []byte, ok bool) {
	if len(data) < 6 {
		return nil, nil, false
	}
	start, length := 4, uint64(binary.LittleEndian.Uint16(data[2:]))
	if data[0] > 1 {
		start, length = 6, uint64(binary.LittleEndian.Uint32(data[2:]))
	}
	if uint64(len(data)-start) < length {
		return nil, nil, false
	}
	end := start + int(length)
	return data[start:end], data[end:], true
}

// swapped returns elements in the other byte order.
func swapped(data []byte, dtype ipc.DType) []byte {
	size := dtype.Size()
	if dtype == ipc.Complex64 || dtype == ipc.Complex128 {
		size /= 2
	}
	out := make([]byte, 0, len(data))
	for element := range slices.Chunk(data, size) {
		for i := range element {
			out = append(out, element[size-1-i])
		}
	}
	return out
}

// inCOrder returns elements of Fortran order, in which the first index varies fastest, in C
// order. Each element has the given size.
func inCOrder(data []byte, shape []int, size int) []byte {
	steps, step := make([]int, len(shape)), size // from an element to the next along each dimension
	for i, n := range shape {
		steps[i] = step
		step *= n
	}
	out := make([]byte, 0, len(data))
	index, from := make([]int, len(shape)), 0
	for len(out) < len(data) {
		out = append(out, data[from:from+size]...)
		for i := len(shape) - 1; i >= 0; i-- {
			index[i]++
			from += steps[i]
			if index[i] < shape[i] {
				break
			}
			from -= steps[i] * shape[i]
			index[i] = 0
		}
	}
	return out
}
