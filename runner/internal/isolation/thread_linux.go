package isolation

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync/atomic"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// onOwnThread runs a function on a thread that ends with it, so that the restrictions
// that the function puts on the thread apply to no other goroutine.
func onOwnThread(f func() error) error {
	done := make(chan error, 1)
	var run func()
	run = func() {
		runtime.LockOSThread()
		if unix.Gettid() == os.Getpid() {
			// The first thread represents the process and never ends. While it is locked
			// here, the next goroutine gets another one.
			go run()
			err := <-done
			runtime.UnlockOSThread()
			done <- err
			return
		}
		done <- f() // the goroutine ends with its thread locked, which ends the thread
	}
	go run()
	return <-done
}

// sharedMemory is the folder in which the C library keeps POSIX semaphores and named shared
// memory. Programs cannot choose another one.
const sharedMemory = "/dev/shm"

// needsSharedMemory reports whether the process gets a folder for semaphores and named
// shared memory of its own: if it may start others with which to share them, and does not ask
// for the machine's.
func (p *Profile) needsSharedMemory() bool {
	return p.Processes != 0 && !slices.ContainsFunc(p.Write, func(path string) bool {
		below, err := filepath.Rel(path, sharedMemory)
		return err == nil && filepath.IsLocal(below)
	})
}

// mountSharedMemory makes the folder of semaphores and shared memory an empty one that only
// the calling thread and the processes that it starts see. It vanishes with the last of them,
// and takes at most limit bytes, or half of the memory if that is 0. The error is that of the
// system; most often the user may not mount anything, and then nothing has changed.
func mountSharedMemory(limit int64) error {
	options := "mode=1777"
	if limit > 0 {
		options += fmt.Sprintf(",size=%d", limit)
	}
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return os.NewSyscallError("unshare", err)
	}
	// Otherwise the mount would appear in the host, too.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return os.NewSyscallError("mount", err)
	}
	err := unix.Mount("gophersnake", sharedMemory, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, options)
	return os.NewSyscallError("mount", err)
}

// restrictThread takes all rights from the calling thread that the process must not
// have.
func restrictThread(cpus unix.CPUSet, rules int, filters ...[]bpf.RawInstruction) error {
	if cpus.Count() > 0 {
		if err := unix.SchedSetaffinity(0, &cpus); err != nil {
			return os.NewSyscallError("sched_setaffinity", err)
		}
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("no_new_privs: %w", err)
	}
	if err := dropCapabilities(); err != nil {
		return err
	}
	if err := restrictFiles(rules); err != nil {
		return err
	}
	for _, filter := range filters {
		if err := restrictCalls(filter); err != nil {
			return err
		}
	}
	return nil
}

// dropCapabilities drops all capabilities of the thread, and prevents that processes
// which it starts gain any.
func dropCapabilities() error {
	for c := uintptr(0); ; c++ {
		err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0)
		if errors.Is(err, unix.EINVAL) {
			break // the kernel has no more
		}
		if errors.Is(err, unix.EPERM) {
			break // without CAP_SETPCAP; no_new_privs prevents that capabilities are gained
		}
		if err != nil {
			return fmt.Errorf("drop capability %d: %w", c, err)
		}
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	if err := unix.Capset(&header, &none[0]); err != nil {
		return fmt.Errorf("drop the capabilities: %w", err)
	}
	return nil
}

// nextCPU spreads the processes over the CPUs.
var nextCPU atomic.Uint32

// cpuSet chooses CPUs for a process. It is empty if the process may use all of them, or
// a fraction, which the cgroup enforces.
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
	first := int(nextCPU.Add(uint32(n)) - uint32(n))
	for i := range min(int(n), len(cpus)) {
		chosen.Set(cpus[(first+i)%len(cpus)])
	}
	return chosen, nil
}
