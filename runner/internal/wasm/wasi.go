package wasm

import (
	"context"
	"crypto/rand"
	"runtime"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"
	"github.com/tetratelabs/wazero/sys"
)

const wasiModule = wasi_snapshot_preview1.ModuleName

// errnoNotsup is WASI's code for an operation that is not supported.
const errnoNotsup = 58

// wasi returns the functions of WASI. proc_exit panics with an error that wazero adds the
// stack to, and fd_renumber does nothing: wazero would allocate memory for as many files as
// the number says.
func wasi(r wazero.Runtime) wazero.HostModuleBuilder {
	builder := r.NewHostModuleBuilder(wasiModule)
	wasi_snapshot_preview1.NewFunctionExporter().ExportFunctions(builder)
	i32 := api.ValueTypeI32
	builder.NewFunctionBuilder().WithGoFunction(api.GoFunc(func(_ context.Context, stack []uint64) {
		if code := uint32(stack[0]); code != 0 {
			panic(&exit{code})
		}
		panic(sys.NewExitError(0)) // without the cost of a stack: each call of a command may end so
	}), []api.ValueType{i32}, nil).Export("proc_exit")
	builder.NewFunctionBuilder().WithGoFunction(api.GoFunc(func(_ context.Context, stack []uint64) {
		stack[0] = errnoNotsup
	}), []api.ValueType{i32, i32}, []api.ValueType{i32}).Export("fd_renumber")
	return builder
}

// config returns what an instance gets from its surroundings: clocks, sleep, random bytes
// and its output.
func (i *instance) config() wazero.ModuleConfig {
	return wazero.NewModuleConfig().
		WithName(""). // many instances have no name, so that they can be together
		WithStartFunctions().
		WithStdout(i.stdout()).
		WithStderr(&i.out).
		WithSysWalltime().
		WithSysNanotime().
		WithNanosleep(i.sleep).
		WithOsyield(runtime.Gosched).
		WithRandSource(randomSource{i})
}

// sleep waits for a number of nanoseconds, or until the call is to end.
func (i *instance) sleep(ns int64) {
	timer := time.NewTimer(time.Duration(ns))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-i.ctx.Done():
	}
}

// randomSource yields random bytes, in parts that do not hold up the end of a call.
type randomSource struct{ of *instance }

// Read fills at most 64 KiB.
func (s randomSource) Read(p []byte) (int, error) {
	if err := s.of.ctx.Err(); err != nil {
		return 0, err
	}
	return rand.Read(p[:min(len(p), 64<<10)])
}
