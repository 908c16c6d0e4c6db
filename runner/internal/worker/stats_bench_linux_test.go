package worker

import (
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// cpuTime returns the CPU time of this process, which other load on the machine affects
// less than the time that passes.
func cpuTime(b *testing.B) time.Duration {
	var usage unix.Rusage
	require.NoError(b, unix.Getrusage(unix.RUSAGE_SELF, &usage))
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// BenchmarkSampling measures what the sampler does for a worker: it counts threads, takes
// a sample, and reads the descriptors.
func BenchmarkSampling(b *testing.B) {
	for range 30 {
		f, err := os.Open(os.DevNull)
		require.NoError(b, err)
		defer f.Close()
	}
	pid := os.Getpid()
	for name, do := range map[string]func(){
		"threads":       func() { countThreads(pid) },
		"usage":         func() { groupUsage(pid, time.Now()) },
		"descriptors":   func() { countOpenFiles(pid) },
		"files":         func() { make(memoryFiles).addOpen(pid, [2]uint64{}) },
		"mapped files":  func() { make(memoryFiles).addMapped(pid) },
		"exact memory":  func() { exactMemory(pid, time.Now(), true, true) },
		"shared memory": func() { exactMemory(pid, time.Now(), false, false) },
	} {
		b.Run(name, func(b *testing.B) {
			before := cpuTime(b)
			for b.Loop() {
				do()
			}
			b.ReportMetric(float64(cpuTime(b)-before)/float64(b.N), "cpu-ns/op")
		})
	}
}
