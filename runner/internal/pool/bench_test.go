package pool

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
)

// BenchmarkRoom is what the pool costs a call to a warm worker: to get it, and to
// give it back.
func BenchmarkRoom(b *testing.B) {
	for name, most := range map[string]int{"one": 1, "four": 4} {
		b.Run(name, func(b *testing.B) {
			f := newPool(b, most, most)
			_, err := f.Warm(b.Context())
			require.NoError(b, err)
			f.waitFor(Stats{Idle: most})
			ctx := context.Background()
			b.ReportAllocs()
			for b.Loop() {
				m, err := f.acquire(ctx, request{})
				if err != nil {
					b.Fatal(err)
				}
				f.release(m, true)
			}
		})
	}
}
