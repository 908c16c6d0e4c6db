package isolation

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// onOwnThread runs a function on a thread that ends with it, so that whatever the
// function does to the thread binds nothing else.
func onOwnThread(f func() error) error {
	done := make(chan error, 1)
	var run func()
	run = func() {
		runtime.LockOSThread()
		if unix.Gettid() == os.Getpid() {
			// The first thread stands for the process, and never ends. As long as it is
			// held here, it is not the one that is taken instead.
			go run()
			err := <-done
			runtime.UnlockOSThread()
			done <- err
			return
		}
		done <- f() // the goroutine ends locked, and its thread with it
	}
	go run()
	return <-done
}

// restrictThread takes from the calling thread what the process is not to have.
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

// dropCapabilities leaves the thread none, and what it starts no way to any.
func dropCapabilities() error {
	for c := uintptr(0); ; c++ {
		err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0)
		if errors.Is(err, unix.EINVAL) {
			break // the kernel has no more
		}
		if errors.Is(err, unix.EPERM) {
			break // without CAP_SETPCAP there is nothing to drop that could be had again: see no_new_privs
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
