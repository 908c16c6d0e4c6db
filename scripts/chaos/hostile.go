package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner"
)

// With --hostile, one of the nodes of a pipeline attacks the host and its two neighbors.
// All three are isolated. Whatever the attacker does, a call of a neighbor must return its
// data, of which every byte is checked, and no node may see data of another one.

const (
	attacker = "attacker"
	// dataSize is the size of the data of each node. It travels in shared memory.
	dataSize = 2 * ipc.SharedFrom
	// blockSize is the size of a block of data; see memory.py.
	blockSize = 128
)

var neighbors = []string{"left", "right"}

// attacks are those of the nodes in python/hostile. The attacker may answer, fail or end in
// any way.
var attacks = hostile(
	"releases_twice", "releases_nothing", "releases_for_others", "forgets_the_hosts",
	"shares_8_gib", "shares_64_tib", "shares_200_segments", "shares_what_can_shrink", "shares_what_it_can_change", "shares_a_file",
	"names_what_never_comes", "sends_half_a_frame", "sends_a_byte_at_a_time",
	"returns_empty_arrays", "logs_empty_arrays", "raises_empty_arrays", "reports_empty_arrays", "reports_on_another_call",
	"nests_exceptions", "raises_16_mib", "denies_the_call", "asks_for_a_retry_in_30_years",
	"answers_another_call", "floods_items", "invents_an_exit_report", "claims_to_be_a_terabyte",
	"signals_the_host", "lets_the_kernel_signal_the_host", "leases_the_code", "digs_deep", "hides_files",
	"uses_what_it_inherits", "forks", "looks_small", "keeps_its_pipe",
	"reads_its_neighbors", "writes_to_its_neighbors", "scribbles", "changes_its_result",
	"fills_a_file_in_memory", "starts_threads", "outlives_its_supervisor",
	"logs_commands", "raises_commands", "returns_commands", "logs_16_mib", "prints_a_line_without_end",
)

// anything are all outcomes but a wrong answer of a neighbor.
const anything = right | execution | vm | transport | marshaling | canceled | refused

func hostile(names ...string) []fault {
	made := make([]fault, len(names))
	for i, name := range names {
		made[i] = fault{name: name, own: anything, weight: 1}
	}
	return made
}

// newHostileTargets returns the targets of --hostile.
func newHostileTargets() []*target {
	t := &target{name: "hostile", callers: 8, weight: 1, faultWeight: 100, hostile: true, do: callHostile}
	for i := range attacks {
		t.faults = append(t.faults, &attacks[i])
	}
	return []*target{t}
}

// pattern returns the data of a node's call, whose blocks name the node and hold a secret of
// the call. Function pattern of memory.py returns the same.
func (p plan) pattern(name string) (secret, data []byte) {
	hash := sha256.Sum256(fmt.Appendf(nil, "%d %s", p.number, name))
	secret = hash[:16]
	block := append([]byte("\x93gophersnake secret\x93"), name...)
	block = append(block, make([]byte, 8-len(name))...)
	block = binary.LittleEndian.AppendUint64(block, p.number)
	block = append(block, secret...)
	block = append(block, bytes.Repeat([]byte{0x55}, blockSize-len(block))...)
	data = bytes.Repeat(block, dataSize/blockSize)
	for i := range dataSize / blockSize {
		data[i*blockSize+blockSize-1] = byte(i)
	}
	return secret, data
}

// callHostile makes a call of the attacker and of both neighbors.
func callHostile(ctx context.Context, r *runner.Runner, p plan) (items int, wrong, err error) {
	input := map[string]any{}
	attack := map[string]any{"n": int64(p.number), "file": os.DevNull, "host": os.Getpid(), "data": tensorOf(make([]byte, dataSize))}
	if p.fault != nil {
		attack["attack"] = p.fault.name
	}
	input[attacker] = attack
	for _, name := range neighbors {
		secret, data := p.pattern(name)
		input[name] = map[string]any{"n": int64(p.number), "secret": secret, "data": tensorOf(data)}
	}
	result, err := r.Run(ctx, input)
	if err != nil {
		var e *runner.Error
		isCanceled := errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
		if errors.As(err, &e) && e.Node != attacker && !isCanceled {
			return 0, fmt.Errorf("a neighbor failed: %+w", err), nil
		}
		return 0, nil, err
	}
	return 0, p.checkNeighbors(result.(map[string]any)), nil
}

func tensorOf(data []byte) *ipc.Tensor {
	return &ipc.Tensor{DType: ipc.Uint8, Shape: []int{len(data)}, Data: data}
}

// checkNeighbors returns an error if the data of a neighbor was changed, or seen by another
// node.
func (p plan) checkNeighbors(result map[string]any) error {
	for _, name := range neighbors {
		answer, ok := result[name].(map[string]any)
		if !ok {
			return fmt.Errorf("%s returned %T", name, result[name])
		}
		got, ok := answer["data"].(*ipc.Tensor)
		if _, want := p.pattern(name); !ok || !bytes.Equal(got.Data, want) {
			return fmt.Errorf("the data of %s was changed", name)
		}
		if seen, _ := answer["seen"].([]any); len(seen) > 0 {
			return fmt.Errorf("%s sees the data of %v", name, seen)
		}
	}
	if answer, ok := result[attacker].(map[string]any); ok {
		if seen, _ := answer["seen"].([]any); len(seen) > 0 {
			return fmt.Errorf("the attacker sees the data of %v", seen)
		}
	}
	return nil
}

// partOf returns a Go node that passes on the part of a run's input that is for one node.
// The input itself reaches no other node.
func partOf(name string) runner.NodeFunc {
	return func(_ context.Context, in runner.Input) (any, error) { return in.Value.(map[string]any)[name], nil }
}
