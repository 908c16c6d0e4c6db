package wasm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"
	"github.com/tetratelabs/wazero/sys"

	"github.com/gophersnake/gophersnake/ipc"
)

// instance is one instance of a module, with the state of the call that it runs. Only the
// goroutine of that call uses it, but for cancel.
type instance struct {
	module *Module
	guest  api.Module
	memory memory
	out    logOutput
	result *result // of a command; nil for a module with functions

	ctx     context.Context // of the call; ends when the call is to end
	cancel  context.CancelCauseFunc
	overdue error     // the cause of the end if the call's time is over; nil without a limit
	idle    time.Time // since when it is idle; the lock of the module guards it

	alloc, call, free api.Function // free may be nil
	input             buffer
}

// buffer is a part of an instance's memory.
type buffer struct{ at, size uint32 }

// maxKeptInput is the size of an input's buffer beyond which it is freed after the call.
const maxKeptInput = 1 << 20

func (m *Module) newInstance() *instance {
	i := &instance{module: m, memory: memory{limit: m.config.Memory}}
	i.out.of, i.out.logger = i, m.config.Logger
	return i
}

// stdout returns the writer of standard output.
func (i *instance) stdout() interface{ Write([]byte) (int, error) } {
	if i.result != nil {
		return i.result
	}
	return &i.out
}

// instantiate makes the instance, and calls its start function and _initialize. Its error
// is a *[StartError].
func (i *instance) instantiate() error {
	ctx := experimental.WithMemoryAllocator(i.ctx, &i.memory)
	guest, err := i.module.runtime.InstantiateModule(ctx, i.module.compiled, i.config())
	if err != nil {
		return &StartError{i.fault(err)}
	}
	i.guest = guest
	i.alloc, i.call = guest.ExportedFunction(exportAlloc), guest.ExportedFunction(exportCall)
	i.free = guest.ExportedFunction(exportFree)
	if initialize := guest.ExportedFunction(exportInitialize); initialize != nil {
		if _, err := initialize.Call(i.ctx); err != nil {
			return &StartError{i.fault(err)}
		}
	}
	return nil
}

// close frees the instance.
func (i *instance) close() {
	if i.guest != nil {
		_ = i.guest.Close(context.WithoutCancel(i.ctx)) // it has no files, so nothing can fail
	}
}

// serve runs one call. The instance is instantiated if it is not yet.
func (i *instance) serve(in []byte) ([]byte, error) {
	if i.module.isCommand {
		return i.run(in)
	}
	if i.guest == nil {
		if err := i.instantiate(); err != nil {
			return nil, err
		}
	}
	return i.invoke(in)
}

// run runs a command with an input, and returns its standard output.
func (i *instance) run(in []byte) ([]byte, error) {
	i.result = &result{limit: i.module.config.Result}
	defer i.close()
	defer i.out.end()
	ctx := experimental.WithMemoryAllocator(i.ctx, &i.memory)
	guest, err := i.module.runtime.InstantiateModule(ctx, i.module.compiled, i.config().WithStdin(bytes.NewReader(in)))
	if err != nil {
		return nil, i.fault(err)
	}
	i.guest = guest
	_, err = guest.ExportedFunction(exportStart).Call(i.ctx)
	if exited, ok := errors.AsType[*sys.ExitError](err); ok && exited.ExitCode() == 0 {
		err = nil
	}
	if err != nil {
		return nil, i.fault(err)
	}
	if len(i.result.bytes) == 0 {
		return nil, &ipc.ValueError{Path: "result", Reason: "the module wrote nothing to its standard output"}
	}
	return i.result.bytes, nil
}

// invoke calls the module's function with an input, and returns a copy of the result. The
// instance may be used again unless the error is one of those that say that it is closed.
func (i *instance) invoke(in []byte) ([]byte, error) {
	i.memory.refused = 0
	i.out.begin()
	defer i.out.end()
	if err := i.writeInput(in); err != nil {
		return nil, err
	}
	packed, err := i.call.Call(i.ctx, uint64(i.input.at), uint64(len(in)))
	if err != nil {
		return nil, i.fault(err)
	}
	found := buffer{at: uint32(packed[0] >> 32), size: uint32(packed[0])}
	out, err := i.readResult(found)
	if err != nil {
		if _, tooLarge := errors.AsType[*ResultError](err); !tooLarge {
			return nil, err
		}
	}
	if !i.input.holds(found) {
		if freeErr := i.freeBuffer(found); freeErr != nil {
			return nil, freeErr
		}
	}
	if i.input.size > maxKeptInput {
		if err := i.freeBuffer(i.input); err != nil {
			return nil, err
		}
		i.input = buffer{}
	}
	return out, err
}

// writeInput writes the input into the instance's buffer for it, or into a larger one.
func (i *instance) writeInput(in []byte) error {
	if len(in) > 1<<32-1 {
		return &ProtocolError{fmt.Sprintf("the input takes %d bytes, and a module's memory is smaller", len(in))}
	}
	size := uint32(len(in))
	if i.input.at == 0 || size > i.input.size {
		if err := i.freeBuffer(i.input); err != nil {
			return err
		}
		found, err := i.alloc.Call(i.ctx, uint64(size))
		if err != nil {
			return i.fault(err)
		}
		i.input = buffer{at: uint32(found[0]), size: size}
		if i.input.at == 0 {
			return i.noMemory(size)
		}
	}
	if !i.guest.Memory().Write(i.input.at, in) {
		return &ProtocolError{fmt.Sprintf("%s(%d) returned %d, which is outside of the module's memory of %d bytes",
			exportAlloc, size, i.input.at, i.guest.Memory().Size())}
	}
	return nil
}

// noMemory returns the error of a module that has no buffer for an input.
func (i *instance) noMemory(size uint32) error {
	err := &ProtocolError{fmt.Sprintf("%s(%d) returned 0: the module has no buffer for the input", exportAlloc, size)}
	if i.memory.refused > 0 {
		return &MemoryError{Limit: i.memory.limit, Asked: i.memory.refused, Cause: err}
	}
	return err
}

// readResult returns a copy of a result.
func (i *instance) readResult(at buffer) ([]byte, error) {
	if limit := i.module.config.Result; int64(at.size) > limit {
		return nil, &ResultError{Size: int64(at.size), Limit: limit}
	}
	view, ok := i.guest.Memory().Read(at.at, at.size)
	if !ok {
		return nil, &ProtocolError{fmt.Sprintf("%s returned %d bytes at %d, outside of the module's memory of %d bytes",
			exportCall, at.size, at.at, i.guest.Memory().Size())}
	}
	if len(view) == 0 {
		return nil, &ipc.ValueError{Path: "result", Reason: exportCall + " returned no bytes"}
	}
	return bytes.Clone(view), nil
}

// freeBuffer gives a buffer back to the module.
func (i *instance) freeBuffer(b buffer) error {
	if i.free == nil || b.at == 0 {
		return nil
	}
	if _, err := i.free.Call(i.ctx, uint64(b.at), uint64(b.size)); err != nil {
		return i.fault(err)
	}
	return nil
}

// holds reports whether another buffer begins inside this one.
func (b buffer) holds(other buffer) bool {
	return other.at >= b.at && uint64(other.at) < uint64(b.at)+uint64(b.size)
}
