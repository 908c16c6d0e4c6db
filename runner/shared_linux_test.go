package runner_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner"
)

// arrays is a pipeline of nodes that need NumPy.
func arrays(text string) string {
	return "requirements: [numpy==2.2.6]\n" + strings.ReplaceAll(text, "TYPE", "python: arrays.py, node_type")
}

func floats(t testing.TB, n int) *ipc.Tensor {
	t.Helper()
	data := make([]float32, n)
	for i := range data {
		data[i] = float32(i % 1000)
	}
	tensor, err := ipc.NewTensor(data, n)
	require.NoError(t, err)
	return tensor
}

// segments counts the shared memory that a process has mapped.
func segments(t *testing.T, pid int) int {
	t.Helper()
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	require.NoError(t, err)
	return bytes.Count(maps, []byte("memfd:gophersnake"))
}

func TestALargeTensorGoesThroughSharedMemory(t *testing.T) {
	r := start(t, arrays(`nodes: [{id: a, TYPE: double}, {id: b, TYPE: double_in_place_of}]
connections: [{from: a, to: b}]`))
	for _, n := range []int{0, 1, 1000, ipc.SharedFrom/4 - 1, ipc.SharedFrom / 4, 1 << 20, 1 << 24} {
		in := floats(t, n)
		out, err := r.Run(t.Context(), in)
		require.NoError(t, err)
		tensor := out.(*ipc.Tensor)
		require.Equal(t, in.Shape, tensor.Shape)
		got, err := ipc.Elements[float32](tensor)
		require.NoError(t, err)
		for i := 0; i < n; i += 1 + n/1000 {
			require.InDelta(t, 4*float32(i%1000), got[i], 0)
		}
	}
	assert.Positive(t, segments(t, os.Getpid()), "it was shared memory")
}

func TestManyLargeBuffersInOneValue(t *testing.T) {
	r := start(t, arrays(`nodes: [{id: a, TYPE: each}, {id: b, TYPE: each}]
connections: [{from: a, to: b}]`))
	in := make([]any, 400)
	for i := range in {
		in[i] = floats(t, ipc.SharedFrom/4)
	}
	out, err := r.Run(t.Context(), in)
	require.NoError(t, err)
	require.Len(t, out, len(in))
	for _, v := range out.([]any) {
		got, err := ipc.Elements[float32](v.(*ipc.Tensor))
		require.NoError(t, err)
		require.InDelta(t, 4*999, got[999], 0)
	}
}

func TestFanOutSharesOneCopy(t *testing.T) {
	r := start(t, arrays(`
nodes: [{id: source, TYPE: double}, {id: a, TYPE: where}, {id: b, TYPE: where}, {id: c, TYPE: same}]
connections: [{from: source, to: a}, {from: source, to: b}, {from: source, to: c}]`))
	in := floats(t, 1<<20)
	out, err := r.Run(t.Context(), in)
	require.NoError(t, err)
	all := out.(map[string]any)
	assert.Equal(t, all["a"], all["b"], "the same file, mapped by both")
	assert.Contains(t, all["a"], "memfd:gophersnake")
	assert.Equal(t, in.Shape, all["c"].(*ipc.Tensor).Shape)
}

func TestAnInputThatANodeKeepsStaysAsItWas(t *testing.T) {
	r := start(t, arrays(`nodes: [{id: keep, TYPE: Keep}]`))
	for i := range 8 {
		tensor := floats(t, 1<<20)
		tensor.Data[0] = byte(i)
		out, err := r.Run(t.Context(), tensor)
		require.NoError(t, err)
		require.Len(t, out, i+1)
		for j, first := range out.([]any) {
			require.Equal(t, int64(j), first, "the memory was not used again")
		}
	}
}

func TestAResultInPlaceUntilItsRelease(t *testing.T) {
	r := start(t, arrays(`nodes: [{id: a, TYPE: double}]`))
	shared, err := r.RunShared(t.Context(), floats(t, 1<<20))
	require.NoError(t, err)
	got, err := ipc.Elements[float32](shared.Value.(*ipc.Tensor))
	require.NoError(t, err)
	assert.InDelta(t, 2*999, got[999], 0)
	other, err := r.Run(t.Context(), floats(t, 1<<20))
	require.NoError(t, err)
	assert.NotNil(t, other)
	assert.InDelta(t, 2*999, got[999], 0, "nobody wrote over it")
	shared.Release()
	shared.Release()
	assert.Nil(t, shared.Value)
}

func TestSharedMemoryStaysFlat(t *testing.T) {
	ownTMPDIR(t)
	events := &recorder{}
	r := start(t, arrays(`nodes: [{id: a, TYPE: double}, {id: b, TYPE: double}]
connections: [{from: a, to: b}]`), runner.WithEvents(events.record))
	in := floats(t, 1<<18)
	run := func(times int) {
		for range times {
			_, err := r.Run(t.Context(), in)
			require.NoError(t, err)
		}
	}
	run(20)
	before, mapped := holding(t), segments(t, os.Getpid())
	run(1000)
	before.descriptors += 4 // how many segments are on their way at once varies
	assertHolding(t, before)
	assert.LessOrEqual(t, segments(t, os.Getpid()), mapped+4)
	for _, w := range of[runner.WorkerStarted](events) {
		assert.LessOrEqual(t, segments(t, w.PID), mapped+4)
	}
	require.NoError(t, r.Close(t.Context()))
	assert.Zero(t, segments(t, os.Getpid()), "Close leaves none")
}

func TestADeathLeavesNoSharedMemory(t *testing.T) {
	t.Setenv("GOPHERSNAKE_TEST_MARKER", filepath.Join(t.TempDir(), "once"))
	before := segments(t, os.Getpid())
	r := start(t, arrays(`
nodes: [{id: produce, TYPE: double}, {id: die, TYPE: die_once, pass_env: [GOPHERSNAKE_TEST_MARKER], retry: {fixed: 1ms, max_attempts: 2}}]
connections: [{from: produce, to: die}]`))
	for i := range 5 {
		out, err := r.Run(t.Context(), floats(t, 1<<20))
		require.NoError(t, err, i)
		got, err := ipc.Elements[float32](out.(*ipc.Tensor))
		require.NoError(t, err)
		assert.InDelta(t, 2*999, got[999], 0, "the retry got the same input")
	}
	require.NoError(t, r.Close(t.Context()))
	assert.Equal(t, before, segments(t, os.Getpid()))
}

func TestAResultOutlivesTheWorkerThatMadeIt(t *testing.T) {
	r := start(t, arrays(`
nodes: [{id: produce, TYPE: Mortal}, {id: next, TYPE: double}]
connections: [{from: produce, to: next}]`))
	for range 3 {
		out, err := r.Run(t.Context(), floats(t, 1<<20))
		require.NoError(t, err)
		got, err := ipc.Elements[float32](out.(*ipc.Tensor))
		require.NoError(t, err)
		assert.InDelta(t, 4*999, got[999], 0)
	}
}

func TestTheLimitOfSharedMemoryIsNamed(t *testing.T) {
	r := start(t, arrays(`nodes: [{id: a, TYPE: double, retry: none}]`), runner.WithSharedMemory(16<<20))
	_, err := r.Run(t.Context(), floats(t, 8<<20))
	require.ErrorIs(t, err, runner.KindMarshaling)
	assert.ErrorContains(t, err, "more than the limit of 16 MiB")
	out, err := r.Run(t.Context(), floats(t, 1<<20))
	require.NoError(t, err, "what fits goes on")
	assert.NotNil(t, out)
}

func TestWithoutSharedMemoryTheSocketCarriesAll(t *testing.T) {
	r := start(t, arrays(`nodes: [{id: a, TYPE: double}]`), runner.WithSharedMemory(0))
	before := segments(t, os.Getpid())
	_, err := r.Run(t.Context(), floats(t, 1<<20))
	require.NoError(t, err)
	assert.Equal(t, before, segments(t, os.Getpid()))
	_, err = load(t, single("echo"), runner.WithSharedMemory(-1))
	assert.ErrorIs(t, err, runner.KindManifest)
}

func TestTwoGiBGoThrough(t *testing.T) {
	if free := available(t); free < 8<<30 {
		t.Skipf("takes 5 GiB, and %d MiB are available", free>>20)
	}
	r := start(t, arrays(`nodes: [{id: a, TYPE: last}]`))
	data := make([]byte, 2<<30)
	data[len(data)-1] = 7
	tensor, err := ipc.NewTensor(data, len(data))
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	out, err := r.Run(ctx, tensor)
	require.NoError(t, err)
	assert.Equal(t, int64(7), out)
}

// available is the memory that the machine has to give, in bytes.
func available(t *testing.T) int64 {
	t.Helper()
	info, err := os.ReadFile("/proc/meminfo")
	require.NoError(t, err)
	_, after, found := strings.Cut(string(info), "MemAvailable:")
	require.True(t, found)
	kib, err := strconv.ParseInt(strings.Fields(after)[0], 10, 64)
	require.NoError(t, err)
	return kib << 10
}

// isShared reports whether data is in the shared memory of a worker or of the runner.
func isShared(t *testing.T, data []byte) bool {
	t.Helper()
	maps, err := os.ReadFile("/proc/self/maps")
	require.NoError(t, err)
	at := uint64(uintptr(unsafe.Pointer(&data[0])))
	for line := range strings.Lines(string(maps)) {
		var from, to uint64
		_, err := fmt.Sscanf(line, "%x-%x", &from, &to)
		require.NoError(t, err)
		if from <= at && at < to {
			return strings.Contains(line, "memfd:gophersnake")
		}
	}
	return false
}

var errUnused = errors.New("the function does not like the value")

// There is room for four results, so a view that is not released makes a later run fail.
func TestAViewOfAResultIsReleasedHoweverItsFunctionEnds(t *testing.T) {
	r := start(t, arrays(`nodes: [{id: a, TYPE: double}]`), runner.WithSharedMemory(16<<20))
	in := floats(t, 1<<20)
	for i := range 12 {
		seen := false
		use := func(tensor *ipc.Tensor) error {
			seen = isShared(t, tensor.Data)
			switch i % 3 {
			case 0:
				return errUnused
			case 1:
				panic(errUnused)
			}
			return nil
		}
		call := func() (err error) {
			defer func() {
				if found := recover(); found != nil {
					err = found.(error)
				}
			}()
			if i%2 == 0 {
				return r.RunView(t.Context(), in, func(v any) error { return use(v.(*ipc.Tensor)) })
			}
			return runner.CallView(t.Context(), r, in, use)
		}
		err := call()
		assert.True(t, seen, "run %d: %v", i, err)
		if i%3 == 2 {
			require.NoError(t, err)
		} else {
			require.ErrorIs(t, err, errUnused)
		}
	}
	err := runner.CallView(t.Context(), r, in, func(string) error { return nil })
	require.ErrorIs(t, err, runner.KindMarshaling)
	err = runner.CallView(t.Context(), r, any("text"), func(any) error { return nil })
	require.ErrorIs(t, err, runner.KindExecution)
}

func TestAStreamLendsItsItems(t *testing.T) {
	r := start(t, arrays(`nodes: [{id: a, TYPE: double}]`), runner.WithSharedMemory(64<<20))
	s, err := runner.OpenStream[*ipc.Tensor, *ipc.Tensor](t.Context(), r)
	require.NoError(t, err)
	go func() {
		for range 40 {
			if s.Send(floats(t, 1<<20)) != nil {
				return
			}
		}
		s.CloseSend()
	}()
	for i := range 40 {
		err := s.RecvView(func(tensor *ipc.Tensor) error {
			assert.True(t, isShared(t, tensor.Data), i)
			if i%2 == 0 {
				return errUnused // does not end the stream
			}
			return nil
		})
		if i%2 == 0 {
			require.ErrorIs(t, err, errUnused)
		} else {
			require.NoError(t, err)
		}
	}
	require.Equal(t, io.EOF, s.RecvView(func(*ipc.Tensor) error { panic("there is no item") }))

	wrong, err := runner.OpenStream[*ipc.Tensor, string](t.Context(), r)
	require.NoError(t, err)
	require.NoError(t, wrong.Send(floats(t, 1<<20)))
	require.ErrorIs(t, wrong.RecvView(func(string) error { panic("it is no string") }), runner.KindMarshaling)
	_, err = wrong.Recv()
	require.ErrorIs(t, err, runner.KindMarshaling, "the stream has ended")
}

// A worker that was busy once must not keep the memory forever.
func TestSharedMemoryThatNobodyNeedsIsGivenBack(t *testing.T) {
	r := start(t, arrays(`nodes: [{id: a, TYPE: double, workers: {min: 1, max: 1}}]`))
	require.NoError(t, r.Start(t.Context()))
	worker := r.Health().Nodes[0].Pool.Workers[0].PID
	own := segments(t, worker) // it counts its calls in one
	in := floats(t, 1<<20)
	var outs []*runner.Shared
	for range 4 {
		out, err := r.RunShared(t.Context(), in)
		require.NoError(t, err)
		outs = append(outs, out)
	}
	for _, out := range outs {
		out.Release()
	}
	assert.GreaterOrEqual(t, segments(t, worker), own+4)
	assert.GreaterOrEqual(t, segments(t, os.Getpid()), 4)
	none := func() bool { return segments(t, worker) == own && segments(t, os.Getpid()) == 0 }
	require.Eventually(t, none, settling, 10*time.Millisecond)
	_, err := r.Run(t.Context(), in)
	require.NoError(t, err)
	assert.Equal(t, worker, r.Health().Nodes[0].Pool.Workers[0].PID)
}
