package oip

import (
	"fmt"
	"strconv"
	"time"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner/document"
	"github.com/gophersnake/gophersnake/runner/serve"
	"github.com/gophersnake/gophersnake/runner/serve/oip/internal/model"
	"github.com/gophersnake/gophersnake/runner/serve/oip/internal/tensor"
)

// headerLength is the header with the size of the JSON before the binary tensors.
const headerLength = "Inference-Header-Content-Length"

// request is a request for inference.
type request struct {
	id      string
	timeout time.Duration // 0 for none
	inputs  []*tensor.Tensor
	// outputs are those that are asked for, empty for all.
	outputs []string
	// isBinary says which of them are to be binary; that of "" holds for all others.
	isBinary map[string]bool
}

// parseRequest reads the body of a request. length is the header Inference-Header-Content-Length.
func parseRequest(body []byte, length string) (*request, error) {
	header, rest := body, []byte(nil)
	if length != "" {
		n, err := strconv.ParseUint(length, 10, 63)
		if err != nil || n > uint64(len(body)) {
			return nil, serve.Malformed(fmt.Sprintf("%s is %q, and the body has %d bytes", headerLength, length, len(body)), "")
		}
		header, rest = body[:n], body[n:]
	}
	doc, err := document.Parse(header)
	if err != nil {
		return nil, serve.Malformed(err.Error(), "")
	}
	fields, ok := doc.(ipc.Object)
	if !ok {
		return nil, serve.Malformed("the request is no JSON object", "")
	}
	r := &request{isBinary: make(map[string]bool)}
	if err := r.readOptions(fields); err != nil {
		return nil, err
	}
	inputs, err := objects(fields, "inputs")
	if err != nil {
		return nil, err
	}
	for _, fields := range inputs {
		if rest, err = r.readInput(fields, rest); err != nil {
			return nil, err
		}
	}
	if len(rest) > 0 {
		return nil, serve.Malformed(fmt.Sprintf("%d bytes after the JSON belong to no input", len(rest)), "each binary input needs the parameter binary_data_size")
	}
	return r, nil
}

// readOptions reads what is not an input.
func (r *request) readOptions(fields ipc.Object) error {
	r.id, _ = get(fields, "id").(string)
	parameters, _ := get(fields, "parameters").(ipc.Object)
	if err := model.CheckParameters(parameters); err != nil {
		return err
	}
	var err error
	if r.timeout, err = model.Timeout(get(parameters, model.TimeoutParameter)); err != nil {
		return err
	}
	r.isBinary[""], _ = get(parameters, "binary_data_output").(bool)
	outputs, err := objects(fields, "outputs")
	if err != nil {
		return err
	}
	for _, output := range outputs {
		name, _ := get(output, "name").(string)
		if name == "" {
			return serve.Malformed("an output has no name", "")
		}
		parameters, _ := get(output, "parameters").(ipc.Object)
		if err := model.CheckOutput(name, parameters); err != nil {
			return err
		}
		r.outputs = append(r.outputs, name)
		if isBinary, ok := get(parameters, "binary_data").(bool); ok {
			r.isBinary[name] = isBinary
		}
	}
	return nil
}

// readInput reads an input, whose data may be at the beginning of the binary data, and returns
// what follows.
func (r *request) readInput(fields ipc.Object, binary []byte) (rest []byte, err error) {
	name, _ := get(fields, "name").(string)
	datatype, _ := get(fields, "datatype").(string)
	parameters, _ := get(fields, "parameters").(ipc.Object)
	if name == "" {
		return nil, serve.Malformed("an input has no name", "")
	}
	if err := model.CheckInput(name, parameters); err != nil {
		return nil, err
	}
	shape, err := shapeOf(name, get(fields, "shape"))
	if err != nil {
		return nil, err
	}
	var t *tensor.Tensor
	if size, ok := parameters.Get("binary_data_size"); ok {
		n, isInteger := size.(int64)
		if !isInteger || n < 0 || n > int64(len(binary)) {
			return nil, serve.Malformed(fmt.Sprintf("input %q: its binary_data_size is %v, and %d bytes are left", name, size, len(binary)), "")
		}
		t, err = tensor.FromBinary(name, datatype, shape, binary[:n:n])
		binary = binary[n:]
	} else {
		t, err = tensor.FromValues(name, datatype, shape, get(fields, "data"))
	}
	if err != nil {
		return nil, serve.Malformed(err.Error(), "")
	}
	r.inputs = append(r.inputs, t)
	return binary, nil
}

func shapeOf(name string, v any) ([]int64, error) {
	list, ok := v.([]any)
	shape := make([]int64, len(list))
	for i := range list {
		var isInteger bool
		shape[i], isInteger = list[i].(int64)
		ok = ok && isInteger
	}
	if !ok {
		return nil, serve.Malformed(fmt.Sprintf("input %q: its shape is no list of integers", name), "")
	}
	return shape, nil
}

// objects returns the list of objects in a field, which may be missing.
func objects(fields ipc.Object, name string) ([]ipc.Object, error) {
	v := get(fields, name)
	list, ok := v.([]any)
	all := make([]ipc.Object, len(list))
	for i := range list {
		var isObject bool
		all[i], isObject = list[i].(ipc.Object)
		ok = ok && isObject
	}
	if !ok && v != nil {
		return nil, serve.Malformed(fmt.Sprintf("%q is no list of objects", name), "")
	}
	return all, nil
}

func get(o ipc.Object, key string) any {
	v, _ := o.Get(key)
	return v
}

// response returns the answer with the outputs of a model.
func (r *request) response(m *model.Model, outputs []*tensor.Tensor) (*serve.Answer, error) {
	var binary []byte
	described := make([]any, 0, len(outputs))
	for _, t := range outputs {
		fields := ipc.Object{{Key: "name", Value: t.Name}, {Key: "datatype", Value: string(t.Type)}, {Key: "shape", Value: t.Shape}}
		isBinary, ok := r.isBinary[t.Name]
		if !ok {
			isBinary = r.isBinary[""]
		}
		if !isBinary {
			values, err := t.Values()
			if err != nil {
				return nil, serve.Malformed(err.Error(), "ask for the output with binary_data")
			}
			described = append(described, append(fields, ipc.Member{Key: "data", Value: values}))
			continue
		}
		data, err := t.Binary()
		if err != nil {
			return nil, err
		}
		binary = append(binary, data...)
		size := ipc.Object{{Key: "binary_data_size", Value: len(data)}}
		described = append(described, append(fields, ipc.Member{Key: "parameters", Value: size}))
	}
	doc := ipc.Object{{Key: "model_name", Value: m.Name}, {Key: "model_version", Value: model.Version}}
	if r.id != "" {
		doc = append(doc, ipc.Member{Key: "id", Value: r.id})
	}
	text, err := document.Encode(append(doc, ipc.Member{Key: "outputs", Value: described}), "")
	if err != nil {
		return nil, err
	}
	if binary == nil {
		return &serve.Answer{ContentType: typeJSON, Body: append(text, '\n')}, nil
	}
	return &serve.Answer{
		ContentType: "application/octet-stream",
		Header:      map[string]string{headerLength: strconv.Itoa(len(text))},
		Body:        append(text, binary...),
	}, nil
}
