package isolation

import (
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// cpuTurn spreads the processes over the CPUs.
var cpuTurn atomic.Uint32

// cpuSet chooses CPUs for a process. It is empty where the number needs no set: all
// of them, or a fraction, which the cgroup bounds.
func cpuSet(n float64) (unix.CPUSet, error) {
	var own, chosen unix.CPUSet
	if n == 0 || !wholeNumber(n) {
		return chosen, nil
	}
	if err := unix.SchedGetaffinity(0, &own); err != nil {
		return chosen, err
	}
	var cpus []int
	for cpu := 0; len(cpus) < own.Count(); cpu++ {
		if own.IsSet(cpu) {
			cpus = append(cpus, cpu)
		}
	}
	first := int(cpuTurn.Add(uint32(n)) - uint32(n))
	for i := range min(int(n), len(cpus)) {
		chosen.Set(cpus[(first+i)%len(cpus)])
	}
	return chosen, nil
}
