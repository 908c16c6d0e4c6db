// Package wasm runs nodes that are WebAssembly modules, inside the process of the
// supervisor, with [wazero]. It does not know pipelines, policies or manifests.
//
// # Two forms of a module
//
// A module is a WASI command if it exports _start. Each call has an instance of its own:
// the input is on its standard input, and what it writes to its standard output is the
// result. A call succeeds if _start returns, or exits with code 0.
//
// A module has functions if it exports these instead:
//
//	memory             the linear memory that holds inputs and results
//	gophersnake_alloc  (size i32) → ptr i32: a buffer of size bytes; 0 if there is none
//	gophersnake_call   (ptr i32, size i32) → i64: the result of the input at ptr, as ptr<<32 | size
//	gophersnake_free   (ptr i32, size i32): optional; gives a buffer back
//	_initialize        () : optional; called once before all others, as WASI says of reactors
//
// An instance runs one call at a time and is used for many calls, so what it keeps in its
// memory is seen by later calls, and different calls may have different instances. The
// buffer of an input belongs to the supervisor, which fills it again for later calls and
// frees it if a larger one is needed. The result is read before any other function of the
// instance is called, and is then freed, unless it is inside the input's buffer.
//
// An input and a result are one value, as msgpack (the specification is that of package
// ipc; buffers are inside the value) or as JSON. JSON carries null, booleans, numbers,
// strings, lists and objects; other values are refused.
//
// # What a module may do
//
// It computes, and calls the functions of wasi_snapshot_preview1. There are no arguments,
// environment variables, files or sockets. It reads the time, sleeps, and gets random
// bytes, because the runtimes of most languages do not work without. Standard error, and
// the standard output of a module with functions, become log records. Other imports are
// refused.
//
// The memory of an instance, the number of instances, the size of a result and the size of
// the log of a call are bounded. The end of a call's context interrupts the module,
// whatever it does. An instance that trapped, exited or was interrupted is not used again.
//
// Outside of these bounds are the stack of an instance, which the engine bounds at 100 MB,
// and pauses: a single instruction that fills or copies the whole memory holds up the
// garbage collector of the process until it is done.
//
// [wazero]: https://wazero.io
package wasm
