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

// callMessage returns the part of an input that all nodes expect: a number and the fault.
func (p plan) callMessage(number int64) map[string]any {
	call := map[string]any{"n": number}
	if p.fault != nil {
		call["fault"], call["once"] = p.fault.name, p.firstOnly
		if p.at != "" {
			call["at"] = p.at
		}
	}
	return call
}

// message returns an input of plain values.
func (p plan) message() any {
	call := p.callMessage(int64(p.number))
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

// data returns p.size bytes that differ from call to call.
func (p plan) data() []byte {
	data := make([]byte, p.size)
	pattern := binary.LittleEndian.AppendUint64(nil, p.number*0x9e3779b97f4a7c15|1)
	for i := range data {
		data[i] = pattern[i%8] + byte(i>>3)
	}
	return data
}

// checkMessage returns an error if an answer is not the right one for message.
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

// checkGraph is checkMessage for answers to which a Go node contributes.
func (p plan) checkGraph(got any) error {
	if err := p.checkMessage(got); err != nil {
		return err
	}
	if in := got.(map[string]any)["right"]; in != p.sum() {
		return fmt.Errorf("the sum made in Go is %v instead of %d", in, p.sum())
	}
	return nil
}

// sumInGo is a Go node between Python nodes. It passes the fault on.
func sumInGo(_ context.Context, in runner.Input) (any, error) {
	call := in.Value.(map[string]any) // panics if a fault made the node before return something else
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

// elements returns the length of a call's array, which is up to 2 MiB of int64.
func (p plan) elements() int { return 8 + p.size }

// arrayMessage returns an input with an array.
func (p plan) arrayMessage() any {
	elements := make([]int64, p.elements())
	for i := range elements {
		elements[i] = int64(p.number) + int64(i)
	}
	array, err := ipc.NewTensor(elements, len(elements))
	if err != nil {
		panic(err) // impossible: the shape is that of the elements
	}
	call := p.callMessage(int64(p.number))
	call["array"] = array
	return call
}

// checkArray returns an error if an answer is not the right one for arrayMessage.
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

// chainMessage returns an input from which the first node makes an array.
func (p plan) chainMessage() any {
	call := p.callMessage(int64(p.number))
	call["size"] = p.elements()
	return call
}

// checkChain returns an error if an answer is not the right one for chainMessage.
func (p plan) checkChain(got any) error {
	n := int64(p.elements())
	total := n*int64(p.number) + n*(n-1)/2
	want := map[string]any{"n": int64(p.number), "same": true, "total": total}
	if answer, ok := got.(map[string]any); !ok || fmt.Sprint(answer) != fmt.Sprint(want) {
		return fmt.Errorf("the answer is %v instead of %v", got, want)
	}
	return nil
}

// burstMessage returns an input of a generator, which yields several parts. Only the item
// p.faultItem has the fault.
func (p plan) burstMessage(item int) map[string]any {
	call := p.callMessage(p.itemNumber(item))
	if item != p.faultItem {
		call = map[string]any{"n": p.itemNumber(item)}
	}
	call["parts"], call["value"] = p.parts(item), p.value(item)
	return call
}

// oneBurst returns the item with the fault as the input of a whole run.
func (p plan) oneBurst() any { return p.burstMessage(p.faultItem) }

func (p plan) itemNumber(item int) int64 { return int64(p.number)*1000 + int64(item) }

func (p plan) parts(item int) int { return 1 + int(p.number+uint64(item))%4 }

func (p plan) value(item int) int64 { return int64(p.number)%1000 + int64(item) }

// checkMany returns an error if the parts that a generator yielded are not the right ones
// for oneBurst.
func (p plan) checkMany(got any) error {
	parts, ok := got.([]any)
	if !ok || len(parts) != p.parts(p.faultItem) {
		return fmt.Errorf("the answer is %v instead of %d parts", got, p.parts(p.faultItem))
	}
	for i, part := range parts {
		want := map[string]any{"n": p.itemNumber(p.faultItem), "part": int64(i), "value": p.value(p.faultItem)}
		if fmt.Sprint(part) != fmt.Sprint(want) {
			return fmt.Errorf("part %d is %v instead of %v", i, part, want)
		}
	}
	return nil
}

// expectedItems returns what a stream of all items yields, in order.
func (p plan) expectedItems() []map[string]any {
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
