package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner"
)

// marked is what a call's number and its fault look like to a node.
func (p plan) marked(number int64) map[string]any {
	call := map[string]any{"n": number}
	if p.fault != nil {
		call["fault"], call["once"] = p.fault.name, p.once
		if p.at != "" {
			call["at"] = p.at
		}
	}
	return call
}

// message is the input of a call whose values are plain ones.
func (p plan) message() any {
	call := p.marked(int64(p.number))
	call["numbers"], call["data"], call["nap"] = p.numbers(), p.data(), p.nap.Seconds()
	return call
}

func (p plan) numbers() []any {
	numbers := make([]any, p.number%20)
	for i := range numbers {
		numbers[i] = int64(p.number)*int64(i) - 7
	}
	return numbers
}

func (p plan) sum() int64 {
	total := int64(0)
	for _, n := range p.numbers() {
		total += n.(int64)
	}
	return total
}

// data is what only this call carries.
func (p plan) data() []byte {
	data := make([]byte, p.size)
	pattern := binary.LittleEndian.AppendUint64(nil, p.number*0x9e3779b97f4a7c15|1)
	for i := range data {
		data[i] = pattern[i%8] + byte(i>>3)
	}
	return data
}

// checkMessage holds the answer of a message against what it has to be.
func (p plan) checkMessage(got any) error {
	answer, ok := got.(map[string]any)
	if !ok {
		return fmt.Errorf("the answer is %T", got)
	}
	data, _ := answer["data"].([]byte)
	slices.Reverse(data)
	switch {
	case answer["n"] != int64(p.number):
		return fmt.Errorf("the answer is that of call %v", answer["n"])
	case answer["sum"] != p.sum():
		return fmt.Errorf("the sum is %v instead of %d", answer["sum"], p.sum())
	case !bytes.Equal(data, p.data()):
		return fmt.Errorf("the data, of %d bytes, is not that of the call, of %d", len(data), p.size)
	}
	return nil
}

// checkGraph does so where a Go node has its part in the answer.
func (p plan) checkGraph(got any) error {
	if err := p.checkMessage(got); err != nil {
		return err
	}
	if in := got.(map[string]any)["right"]; in != p.sum() {
		return fmt.Errorf("the sum made in Go is %v instead of %d", in, p.sum())
	}
	return nil
}

// sumInGo is a node between Python ones.
func sumInGo(_ context.Context, in runner.Input) (any, error) {
	call := in.Value.(map[string]any) // a wound may hand on something else: then this panics
	total := int64(0)
	for _, n := range call["numbers"].([]any) {
		total += n.(int64)
	}
	onward := map[string]any{"n": call["n"], "sum": total}
	for _, key := range []string{"fault", "once", "at"} {
		if v, ok := call[key]; ok {
			onward[key] = v
		}
	}
	return onward, nil
}

// elements is how long the array of a call is.
func (p plan) elements() int { return 8 + p.size } // up to 2 MiB of int64

// arrayMessage is the input of a call that carries an array.
func (p plan) arrayMessage() any {
	elements := make([]int64, p.elements())
	for i := range elements {
		elements[i] = int64(p.number) + int64(i)
	}
	array, err := ipc.NewTensor(elements, len(elements))
	if err != nil {
		panic(err) // the shape is that of the elements
	}
	call := p.marked(int64(p.number))
	call["array"] = array
	return call
}

func (p plan) checkArray(got any) error {
	answer, ok := got.(map[string]any)
	if !ok {
		return fmt.Errorf("the answer is %T", got)
	}
	array, ok := answer["array"].(*ipc.Tensor)
	if !ok || answer["n"] != int64(p.number) {
		return fmt.Errorf("the answer is that of call %v, and holds %T", answer["n"], answer["array"])
	}
	elements, err := ipc.Elements[int64](array)
	if err != nil {
		return err
	}
	if len(elements) != p.elements() {
		return fmt.Errorf("the array has %d elements instead of %d", len(elements), p.elements())
	}
	for i, e := range elements {
		if e != 3*(int64(p.number)+int64(i))+int64(p.number) {
			return fmt.Errorf("element %d of %d is %d", i, len(elements), e)
		}
	}
	return nil
}

// chainMessage is the input of a call that is made an array on the way.
func (p plan) chainMessage() any {
	call := p.marked(int64(p.number))
	call["size"] = p.elements()
	return call
}

func (p plan) checkChain(got any) error {
	n := int64(p.elements())
	total := n*int64(p.number) + n*(n-1)/2
	want := map[string]any{"n": int64(p.number), "same": true, "total": total}
	if answer, ok := got.(map[string]any); !ok || fmt.Sprint(answer) != fmt.Sprint(want) {
		return fmt.Errorf("the answer is %v instead of %v", got, want)
	}
	return nil
}

// burstMessage is one input of a node that gives parts, its fault in the middle.
func (p plan) burstMessage(item int) map[string]any {
	call := p.marked(p.itemNumber(item))
	if item != p.hurt {
		call = map[string]any{"n": p.itemNumber(item)}
	}
	call["parts"], call["value"] = p.parts(item), p.value(item)
	return call
}

func (p plan) itemNumber(item int) int64 { return int64(p.number)*1000 + int64(item) }

func (p plan) parts(item int) int { return 1 + int(p.number+uint64(item))%4 }

func (p plan) value(item int) int64 { return int64(p.number)%1000 + int64(item) }

// checkMany holds what a run of a generator gave against what it has to be.
func (p plan) checkMany(got any) error {
	parts, ok := got.([]any)
	if !ok || len(parts) != p.parts(p.hurt) {
		return fmt.Errorf("the answer is %v instead of %d parts", got, p.parts(p.hurt))
	}
	for i, part := range parts {
		want := map[string]any{"n": p.itemNumber(p.hurt), "part": int64(i), "value": p.value(p.hurt)}
		if fmt.Sprint(part) != fmt.Sprint(want) {
			return fmt.Errorf("part %d is %v instead of %v", i, part, want)
		}
	}
	return nil
}

// streamed returns all that comes out of a stream, in order.
func (p plan) streamed() []map[string]any {
	var all []map[string]any
	count, total := int64(0), int64(0)
	for item := range p.items {
		for part := range p.parts(item) {
			count, total = count+1, total+p.value(item)
			all = append(all, map[string]any{"n": p.itemNumber(item), "part": int64(part), "count": count, "total": total})
		}
	}
	return append(all, map[string]any{"end": count, "total": total})
}
