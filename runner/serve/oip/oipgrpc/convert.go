package oipgrpc

import (
	"fmt"
	"slices"
	"time"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner/serve"
	"github.com/gophersnake/gophersnake/runner/serve/oip/internal/inference"
	"github.com/gophersnake/gophersnake/runner/serve/oip/internal/model"
	"github.com/gophersnake/gophersnake/runner/serve/oip/internal/tensor"
)

// request is a request for inference.
type request struct {
	id      string
	timeout time.Duration // 0 for none
	inputs  []*tensor.Tensor
	outputs []string // those that are asked for, empty for all
	// endsEmpty says that a response without outputs follows the last one.
	endsEmpty bool
}

// The parameters by which clients of Triton know the last response to a request.
const (
	finalParameter    = "triton_final_response"
	endEmptyParameter = "triton_enable_empty_final_response"
)

// parseRequest reads a request.
func parseRequest(from *inference.ModelInferRequest) (*request, error) {
	parameters := parametersOf(from.GetParameters())
	if err := model.CheckParameters(parameters); err != nil {
		return nil, err
	}
	r := &request{id: from.GetId()}
	timeout, _ := parameters.Get(model.TimeoutParameter)
	var err error
	if r.timeout, err = model.Timeout(timeout); err != nil {
		return nil, err
	}
	endsEmpty, _ := parameters.Get(endEmptyParameter)
	r.endsEmpty = endsEmpty == true
	for _, output := range from.GetOutputs() {
		if err := model.CheckOutput(output.GetName(), parametersOf(output.GetParameters())); err != nil {
			return nil, err
		}
		r.outputs = append(r.outputs, output.GetName())
	}
	raw := from.GetRawInputContents()
	if len(raw) > 0 && len(raw) != len(from.GetInputs()) {
		return nil, serve.Malformed(fmt.Sprintf("there are %d inputs, and %d raw_input_contents", len(from.GetInputs()), len(raw)), "")
	}
	for i, input := range from.GetInputs() {
		if err := model.CheckInput(input.GetName(), parametersOf(input.GetParameters())); err != nil {
			return nil, err
		}
		var t *tensor.Tensor
		if len(raw) > 0 {
			t, err = tensor.FromBinary(input.GetName(), input.GetDatatype(), input.GetShape(), raw[i])
		} else {
			length, at := contentsOf(input.GetDatatype(), input.GetContents())
			t, err = tensor.FromList(input.GetName(), input.GetDatatype(), input.GetShape(), length, at)
		}
		if err != nil {
			return nil, serve.Malformed(err.Error(), "")
		}
		r.inputs = append(r.inputs, t)
	}
	return r, nil
}

// parametersOf returns parameters in the order of their names.
func parametersOf(from map[string]*inference.InferParameter) ipc.Object {
	all := make(ipc.Object, 0, len(from))
	for name, p := range from {
		var v any
		switch choice := p.GetParameterChoice().(type) {
		case *inference.InferParameter_BoolParam:
			v = choice.BoolParam
		case *inference.InferParameter_Int64Param:
			v = choice.Int64Param
		case *inference.InferParameter_StringParam:
			v = choice.StringParam
		case *inference.InferParameter_DoubleParam:
			v = choice.DoubleParam
		case *inference.InferParameter_Uint64Param:
			v = choice.Uint64Param
			if choice.Uint64Param < 1<<63 {
				v = int64(choice.Uint64Param)
			}
		}
		all = append(all, ipc.Member{Key: name, Value: v})
	}
	slices.SortFunc(all, func(a, b ipc.Member) int {
		if a.Key < b.Key {
			return -1
		}
		return 1
	})
	return all
}

// contentsOf returns the list for a datatype: its length, and its elements as values. There is none
// for FP16 and BF16.
func contentsOf(datatype string, c *inference.InferTensorContents) (length int, at func(i int) any) {
	switch tensor.Type(datatype) {
	case tensor.Bool:
		return list(c.GetBoolContents(), func(v bool) any { return v })
	case tensor.Int8, tensor.Int16, tensor.Int32:
		return list(c.GetIntContents(), func(v int32) any { return int64(v) })
	case tensor.Int64:
		return list(c.GetInt64Contents(), func(v int64) any { return v })
	case tensor.Uint8, tensor.Uint16, tensor.Uint32:
		return list(c.GetUintContents(), func(v uint32) any { return uint64(v) })
	case tensor.Uint64:
		return list(c.GetUint64Contents(), func(v uint64) any { return v })
	case tensor.Float32:
		return list(c.GetFp32Contents(), func(v float32) any { return float64(v) })
	case tensor.Float64:
		return list(c.GetFp64Contents(), func(v float64) any { return v })
	case tensor.Bytes:
		return list(c.GetBytesContents(), func(v []byte) any { return v })
	}
	return 0, nil
}

func list[T any](from []T, convert func(T) any) (length int, at func(i int) any) {
	return len(from), func(i int) any { return convert(from[i]) }
}

// response returns the response with outputs, in the binary form.
func (r *request) response(m *model.Model, outputs []*tensor.Tensor) (*inference.ModelInferResponse, error) {
	answer := &inference.ModelInferResponse{ModelName: m.Name, ModelVersion: model.Version, Id: r.id}
	for _, t := range outputs {
		data, err := t.Binary()
		if err != nil {
			return nil, err
		}
		answer.Outputs = append(answer.Outputs, &inference.ModelInferResponse_InferOutputTensor{
			Name: t.Name, Datatype: string(t.Type), Shape: wide(t.Shape),
		})
		answer.RawOutputContents = append(answer.RawOutputContents, data)
	}
	return answer, nil
}

// isFinal sets whether a response is the last one.
func isFinal(answer *inference.ModelInferResponse, final bool) *inference.ModelInferResponse {
	answer.Parameters = map[string]*inference.InferParameter{
		finalParameter: {ParameterChoice: &inference.InferParameter_BoolParam{BoolParam: final}},
	}
	return answer
}

func wide(shape []int) []int64 {
	all := make([]int64, len(shape))
	for i, n := range shape {
		all[i] = int64(n)
	}
	return all
}
