package ipc_test

import (
	"fmt"

	"github.com/gophersnake/gophersnake/ipc"
)

func ExampleNewTensor() {
	tensor, err := ipc.NewTensor([]float32{1, 2, 3, 4, 5, 6}, 2, 3)
	if err != nil {
		fmt.Println(err)
		return
	}
	elements, err := ipc.Elements[float32](tensor)
	fmt.Println(tensor.DType, tensor.Shape, elements, err)
	// Output: float32 [2 3] [1 2 3 4 5 6] <nil>
}

// A value that cannot be carried is refused with its path inside the value.
func ExampleEncode() {
	payload, err := ipc.Encode("input", map[string]any{"word": "gopher", "ids": []int{1, 2}})
	if err != nil {
		fmt.Println(err)
		return
	}
	value, err := payload.Decode("input", ipc.DefaultLimits())
	fmt.Println(value, err)

	_, err = ipc.Encode("input", map[string]any{"items": []any{1, make(chan int)}})
	fmt.Println(err)
	// Output:
	// map[ids:[1 2] word:gopher] <nil>
	// cannot carry input.items[1]: a Go value of type chan int has no form on the wire
}
