package ipc

// What the tests in package ipc_test use of this package's.

// Same reports whether two values are the same on the wire.
func Same(a, b any) bool { return same(a, b) }

// GrowForPython makes a value of a fuzzer's bytes. Python's times have microseconds.
func GrowForPython(seed []byte) any { return (&grower{b: seed, micros: true}).value(6) }
