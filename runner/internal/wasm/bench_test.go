package wasm_test

import (
	"context"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"

	"github.com/gophersnake/gophersnake/runner/internal/wasm"
)

// BenchmarkCall measures a small call, and of how much it exceeds the same call of wazero
// alone, which should be less than 5 µs.
func BenchmarkCall(b *testing.B) {
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	in := encoded(b, map[string]any{"text": "a small value", "number": 42})
	alone, functions, command := bareCall(b, ctx, in), start(b, "faults.wasm"), start(b, "command.wasm")
	through := func(m *wasm.Module) func() {
		return func() {
			if out, err := m.Call(ctx, in); err != nil || len(out) != len(in) {
				b.Fatal(err)
			}
		}
	}
	for name, call := range map[string]func(){"wazero": alone, "functions": through(functions), "command": through(command)} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				call()
			}
		})
	}
	b.Run("difference", func(b *testing.B) {
		var differences []time.Duration
		for b.Loop() { // the two take turns, so that both have the same share of the machine
			differences = append(differences, timed(through(functions))-timed(alone))
		}
		slices.Sort(differences)
		b.ReportMetric(float64(differences[len(differences)/2].Nanoseconds()), "ns-more/call")
	})
}

// timed returns the time of a call, from a number of them.
func timed(call func()) time.Duration {
	const calls = 1000
	began := time.Now()
	for range calls {
		call()
	}
	return time.Since(began) / calls
}

// bareCall returns a call of wazero alone: it writes the same bytes into a buffer that it
// keeps, calls the same function under a context that can end, and copies the result.
func bareCall(b *testing.B, ctx context.Context, in []byte) func() { //nolint:revive // b comes first
	runtime := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfig().WithCloseOnContextDone(true))
	b.Cleanup(func() { require.NoError(b, runtime.Close(context.Background())) })
	wasi_snapshot_preview1.MustInstantiate(ctx, runtime)
	module, err := os.ReadFile("testdata/faults.wasm")
	require.NoError(b, err)
	guest, err := runtime.Instantiate(ctx, module)
	require.NoError(b, err)
	at, err := guest.ExportedFunction("gophersnake_alloc").Call(ctx, uint64(len(in)))
	require.NoError(b, err)
	call := guest.ExportedFunction("gophersnake_call")
	return func() {
		guest.Memory().Write(uint32(at[0]), in)
		packed, err := call.Call(ctx, at[0], uint64(len(in)))
		if err != nil {
			b.Fatal(err)
		}
		view, ok := guest.Memory().Read(uint32(packed[0]>>32), uint32(packed[0]))
		if out := slices.Clone(view); !ok || len(out) != len(in) {
			b.Fatal("the result is wrong")
		}
	}
}
