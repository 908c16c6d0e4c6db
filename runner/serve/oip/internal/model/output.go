package model

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/document"
	"github.com/gophersnake/gophersnake/runner/serve/oip/internal/tensor"
)

// Results returns the tensors for the result of a run: one for each member of a map, or one with
// the name Output. If the request names outputs, it returns these, in their order.
func (m *Model) Results(result any, wanted []string) ([]*tensor.Tensor, error) {
	values, isMap := result.(ipc.Object)
	if unordered, ok := result.(map[string]any); ok {
		isMap = true
		for _, key := range slices.Sorted(maps.Keys(unordered)) {
			values = append(values, ipc.Member{Key: key, Value: unordered[key]})
		}
	}
	if !isMap {
		values = ipc.Object{{Key: Output, Value: result}}
	}
	if err := missing(wanted, keys(values)); err != nil {
		return nil, err
	}
	if len(wanted) > 0 {
		chosen := make(ipc.Object, len(wanted))
		for i, name := range wanted {
			chosen[i] = ipc.Member{Key: name, Value: member(values, name)}
		}
		values = chosen
	}
	all := make([]*tensor.Tensor, 0, len(values))
	for _, v := range values {
		t, err := toTensor(v.Key, v.Value, m.typeOf(v.Key))
		if err != nil {
			return nil, err
		}
		if t != nil {
			all = append(all, t)
		}
	}
	return all, nil
}

// IsWanted reports whether a value of a stream is of an output that the request names.
func (m *Model) IsWanted(item runner.Item, wanted []string) bool {
	return len(m.sinks) == 0 || len(wanted) == 0 || slices.Contains(wanted, item.Node)
}

// Item returns the tensors for one value of a stream.
func (m *Model) Item(item runner.Item, wanted []string) ([]*tensor.Tensor, error) {
	if len(m.sinks) == 0 {
		return m.Results(item.Value, wanted)
	}
	return m.Results(ipc.Object{{Key: item.Node, Value: item.Value}}, nil)
}

func keys(o ipc.Object) []string {
	all := make([]string, len(o))
	for i := range o {
		all[i] = o[i].Key
	}
	return all
}

// typeOf returns the datatype of an output by its annotation, empty if it is not known.
func (m *Model) typeOf(name string) tensor.Type {
	for i := range m.Outputs {
		if m.Outputs[i].Name == name {
			return m.Outputs[i].Type
		}
	}
	return ""
}

// toTensor returns the tensor for a value, nil for None. A value that no tensor can hold becomes a
// document of JSON. want is the datatype of the annotation, or empty.
func toTensor(name string, v any, want tensor.Type) (*tensor.Tensor, error) {
	one := []int{1}
	switch v := v.(type) {
	case nil:
		return nil, nil
	case string:
		return &tensor.Tensor{Name: name, Type: tensor.Bytes, Shape: one, Strings: [][]byte{[]byte(v)}}, nil
	case time.Time:
		return toTensor(name, v.Format(time.RFC3339Nano), want)
	case ipc.JSON:
		return toTensor(name, string(v), want)
	case bool, int64, uint64, float64:
		return (&leaves{values: []any{v}}).tensor(name, one, want), nil
	case *ipc.Tensor:
		return arrayTensor(name, v)
	case *ipc.Table:
		return toTensor(name, string(v.Stream), want)
	case []any:
		var l leaves
		if shape, ok := l.collect(v); ok {
			if t := l.tensor(name, shape, want); t != nil {
				return t, nil
			}
		}
	default:
		if m, ok := document.MediaOf(v); ok {
			return mediaTensor(name, m)
		}
	}
	doc, err := document.Converter{}.Document(v)
	if err != nil {
		return nil, err
	}
	text, err := document.Encode(doc, "")
	if err != nil {
		return nil, err
	}
	return toTensor(name, string(text), want)
}

func arrayTensor(name string, v *ipc.Tensor) (*tensor.Tensor, error) {
	of, ok := tensor.TypeOf(v.DType)
	if !ok {
		return nil, runner.NewError(runner.KindSerialization, fmt.Sprintf("output %q: the protocol has no arrays of %s", name, v.DType))
	}
	return &tensor.Tensor{Name: name, Type: of, Shape: v.Shape, Data: v.Data}, nil
}

// mediaTensor returns the file of a recording or an image, or bytes.
func mediaTensor(name string, m document.Media) (*tensor.Tensor, error) {
	var b bytes.Buffer
	if err := m.Write(&b); err != nil {
		return nil, runner.Wrap(err, runner.KindSerialization, fmt.Sprintf("write the output %q", name))
	}
	return &tensor.Tensor{Name: name, Type: tensor.Bytes, Shape: []int{1}, Strings: [][]byte{b.Bytes()}}, nil
}

// leaves are the items of a list, or of lists that are nested as the items of an array.
type leaves struct{ values []any }

// collect appends the items of lists, and returns their shape. It returns false if the lists
// differ in length, or if some of their items are lists.
func (l *leaves) collect(list []any) (shape []int, ok bool) {
	if len(list) == 0 {
		return []int{0}, true
	}
	var inner []int
	for i, v := range list {
		var of []int
		if nested, isList := v.([]any); isList {
			if of, ok = l.collect(nested); !ok {
				return nil, false
			}
		} else {
			l.values = append(l.values, v)
		}
		if i > 0 && !slices.Equal(of, inner) {
			return nil, false
		}
		inner = of
	}
	return append([]int{len(list)}, inner...), true
}

// tensor returns the tensor of the values, nil if they are not all of one kind.
func (l *leaves) tensor(name string, shape []int, want tensor.Type) *tensor.Tensor {
	if len(l.values) == 0 {
		if want == "" {
			want = tensor.Float64
		}
		return &tensor.Tensor{Name: name, Type: want, Shape: shape}
	}
	t := &tensor.Tensor{Name: name, Type: l.datatype(want), Shape: shape}
	if t.Type == "" {
		return nil
	}
	for _, v := range l.values {
		switch v := v.(type) {
		case bool:
			t.Data = append(t.Data, 0)
			if v {
				t.Data[len(t.Data)-1] = 1
			}
		case string:
			t.Strings = append(t.Strings, []byte(v))
		case []byte:
			t.Strings = append(t.Strings, v)
		case int64:
			l.appendInteger(t, uint64(v), float64(v))
		case uint64:
			l.appendInteger(t, v, float64(v))
		case float64:
			t.AppendFloat(v)
		case *ipc.Tensor:
			t.Data = append(t.Data, v.Data...)
		}
	}
	if first, ok := l.values[0].(*ipc.Tensor); ok {
		t.Shape = append(t.Shape, first.Shape...)
	}
	return t
}

func (l *leaves) appendInteger(t *tensor.Tensor, bits uint64, f float64) {
	if t.Type == tensor.Float64 {
		t.AppendFloat(f)
		return
	}
	t.Data = binary.LittleEndian.AppendUint64(t.Data, bits)
}

// datatype returns the datatype that can hold all values, empty if there is none.
func (l *leaves) datatype(want tensor.Type) tensor.Type {
	var bools, texts, negatives, large, integers, floats, arrays int
	first, _ := l.values[0].(*ipc.Tensor)
	for _, v := range l.values {
		switch v := v.(type) {
		case bool:
			bools++
		case string, []byte:
			texts++
		case int64:
			integers++
			if v < 0 {
				negatives++
			}
		case uint64:
			integers++
			large++
		case float64:
			floats++
		case *ipc.Tensor:
			if first != nil && v.DType == first.DType && slices.Equal(v.Shape, first.Shape) {
				arrays++
			}
		}
	}
	switch n := len(l.values); n {
	case bools:
		return tensor.Bool
	case texts:
		return tensor.Bytes
	case arrays:
		of, _ := tensor.TypeOf(first.DType)
		return of
	case integers:
		switch {
		case want == tensor.Float64:
			return tensor.Float64
		case large > 0 && negatives > 0:
			return ""
		case large > 0:
			return tensor.Uint64
		}
		return tensor.Int64
	case integers + floats:
		return tensor.Float64
	}
	return ""
}
