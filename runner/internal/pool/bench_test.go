package pool

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
)

// BenchmarkAcquire measures the pool's share of a call to a warm worker: acquire and
// release.
func BenchmarkAcquire(b *testing.B) {
	for name, most := range map[string]int{"one": 1, "four": 4} {
		b.Run(name, func(b *testing.B) {
			f := newPool(b, most, most)
			_, err := f.Warm(b.Context())
			require.NoError(b, err)
			f.waitFor(Stats{Idle: most})
			ctx := context.Background()
			b.ReportAllocs()
			for b.Loop() {
				m, err := f.acquire(ctx, &request{})
				if err != nil {
					b.Fatal(err)
				}
				f.release(m)
			}
		})
	}
}
