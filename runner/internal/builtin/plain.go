package builtin

import (
	"encoding/json"

	"github.com/gophersnake/gophersnake/ipc"
)

// plain are the types for values that are not media.
var plain = []Type{
	{
		Name: "PassThrough", Aliases: []string{
			"PassThroughNode", "PassthroughNode", // the names of its Python classes
			"TextInput", "AudioInput", "AudioOutput", "Input", "Output", // the ends of its manifests
		},
		Doc:   "Returns its input.",
		Input: "Any", Output: "Any",
		New: func(Values) Func { return func(input any) (any, error) { return input, nil } },
	},
	{
		Name:  "CalculatorNode",
		Doc:   "Computes with two numbers: {operation: add, subtract, multiply or divide; operands: [a, b]}.",
		Input: "dict[str, Any]", Output: "dict[str, Any]",
		Differs: "nothing arrives if the input is wrong",
		New:     func(Values) Func { return calculate },
	},
}

// calculate returns the input of a CalculatorNode with its result.
func calculate(input any) (any, error) {
	request, err := object(input)
	if err != nil {
		return nil, err
	}
	operands, ok := request["operands"].([]any)
	if !ok || len(operands) != 2 {
		return nil, badInput(".operands", "expected a list of two numbers, got %v", request["operands"])
	}
	a, okA := number(operands[0])
	b, okB := number(operands[1])
	if !okA || !okB {
		return nil, badInput(".operands", "expected a list of two numbers, got %v", operands)
	}
	var result float64
	switch operation := request["operation"]; operation {
	case "add":
		result = a + b
	case "subtract":
		result = a - b
	case "multiply":
		result = a * b
	case "divide":
		if b == 0 {
			return nil, badInput(".operands[1]", "division by zero")
		}
		result = a / b
	default:
		return nil, badInput(".operation", "expected add, subtract, multiply or divide, got %v", operation)
	}
	return map[string]any{"operation": request["operation"], "operands": []any{a, b}, "result": result}, nil
}

// object returns an input that is a map or a JSON document of one.
func object(input any) (map[string]any, error) {
	switch v := input.(type) {
	case map[string]any:
		return v, nil
	case ipc.JSON:
		var decoded map[string]any
		if err := json.Unmarshal(v, &decoded); err == nil && decoded != nil {
			return decoded, nil
		}
	}
	return nil, badInput("", "expected a map, got %T", input)
}
