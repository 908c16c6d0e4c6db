package ipc

// Helpers for the tests in package ipc_test.

// Same reports whether two values are the same on the wire.
func Same(a, b any) bool { return same(a, b) }

// GrowForPython makes a value from the bytes of a fuzzer. Its times have microseconds, as
// Python's do.
func GrowForPython(seed []byte) any { return (&grower{b: seed, micros: true}).value(6) }
