package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// longestSocketName is what a worker's socket adds to the folder of temporary
// files: /plugin-dirNNNNNNNNNN/pluginNNNNNNNNNN.
const longestSocketName = 48

// checkSockets makes a socket where the workers would.
func checkSockets() check {
	c := check{Name: "sockets"}
	root := os.TempDir()
	var address unix.RawSockaddrUnix
	if room := len(address.Path) - 1 - longestSocketName; len(root) > room {
		return c.fail("the folder for temporary files has a path of %d bytes; a socket's leaves room for %d: %s", len(root), room, root).
			mend("set TMPDIR to a shorter path, such as /tmp")
	}
	dir, err := os.MkdirTemp(root, "gophersnake-doctor-")
	if err != nil {
		return c.fail("%v", err).mend("make the folder writable, or set TMPDIR to one that is")
	}
	defer os.RemoveAll(dir)
	listener, err := net.Listen("unix", filepath.Join(dir, "socket"))
	if err != nil {
		return c.fail("a Unix socket in %s: %v", root, err).mend("set TMPDIR to a folder of a file system that holds sockets")
	}
	_ = listener.Close()
	return c.ok("Unix sockets in %s", root)
}

// checkFiles looks at how many descriptors may be open: a worker takes about
// eight of the supervisor's.
func checkFiles() check {
	c := check{Name: "open files"}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return c.warn("the limit is not known: %v", err)
	}
	switch {
	case limit.Cur < 64:
		return c.fail("a process may have %d open", limit.Cur).mend("raise the limit: ulimit -n 4096")
	case limit.Cur < 1024:
		return c.warn("a process may have %d open, which is little for many workers", limit.Cur).mend("raise the limit: ulimit -n 4096")
	}
	return c.ok("a process may have %s open", limitText(uint64(limit.Cur)))
}

func limitText(n uint64) string {
	if n >= 1<<62 {
		return "any number"
	}
	return fmt.Sprint(n)
}

// checkCache writes to the cache folder.
func checkCache(dir string) check {
	c := check{Name: "cache"}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return c.fail("%v", err).mend("name another folder with --cache-dir")
	}
	f, err := os.CreateTemp(dir, ".doctor-")
	if err != nil {
		return c.fail("%v", err).mend("make the folder writable, or name another one with --cache-dir")
	}
	defer os.Remove(f.Name())
	defer f.Close()
	var space unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &space); err != nil {
		return c.ok("%s", dir)
	}
	free := int64(space.Bavail) * int64(space.Bsize)
	if free < 1<<30 {
		return c.warn("%s, of which %s are free", dir, byteCount(free)).mend("make room: gophersnake env prune")
	}
	return c.ok("%s, %s free", dir, byteCount(free))
}

// checkSpawn starts a process as workers are started.
func checkSpawn() check {
	c := check{Name: "processes"}
	cmd := exec.Command("sh", "-c", "exit 0")
	pidfd := spawnAttributes(cmd)
	if err := cmd.Run(); err != nil {
		return c.fail("a process group of its own: %v", err).
			mend("allow clone and setpgid in the container's seccomp profile")
	}
	if *pidfd >= 0 {
		_ = syscall.Close(*pidfd)
		return c.ok("process groups, pidfd")
	}
	return c.withoutPidfd()
}

// firstWords runs a program and returns the first line that it prints.
func firstWords(program string, args ...string) (string, error) {
	out, err := exec.Command(program, args...).CombinedOutput()
	if err != nil {
		return "", err
	}
	return firstLine(string(out)), nil
}

// checkUV looks for the installer.
func checkUV() check {
	c := check{Name: "uv"}
	path, err := exec.LookPath("uv")
	if err != nil {
		return c.warn("not found: environments are made with venv and pip, which takes longer").mend("install it: pip install uv")
	}
	version, err := firstWords(path, "--version")
	if err != nil {
		return c.warn("%s does not run: %v", path, err).mend("install it again: pip install --force-reinstall uv")
	}
	return c.ok("%s (%s)", strings.TrimPrefix(version, "uv "), path)
}
