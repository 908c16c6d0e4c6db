package command

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
)

// BenchmarkCall measures one small call of a program in Go that speaks msgpack.
func BenchmarkCall(b *testing.B) {
	c := goProgram(b, "echo")
	c.Protocol = Msgpack
	benchmark(b, c)
}

// BenchmarkOnce measures the start and the end of a process.
func BenchmarkOnce(b *testing.B) {
	c := configOf(b, "cat")
	c.Protocol = Once
	benchmark(b, c)
}

func benchmark(b *testing.B, c Config) {
	n := New(c)
	defer n.Close(context.Background())
	require.NoError(b, n.Start(b.Context()))
	in := encoded(b, "a small text")
	for b.Loop() {
		_, err := n.Call(b.Context(), in)
		require.NoError(b, err)
	}
}
