package doctor

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/gophersnake/gophersnake/runner/internal/container"
	"github.com/gophersnake/gophersnake/runner/internal/pyenv"
)

// socketNameBytes is the length that a worker's socket adds to the path of the
// temporary folder: /plugin-dirNNNNNNNNNN/pluginNNNNNNNNNN.
const socketNameBytes = 48

// checkSockets creates a socket in the folder in which workers create theirs.
func checkSockets() Finding {
	f := Finding{Name: "sockets"}
	root := os.TempDir()
	var address unix.RawSockaddrUnix
	if longest := len(address.Path) - 1 - socketNameBytes; len(root) > longest {
		return f.fail("the path of the temporary folder has %d bytes, and a socket's path leaves room for %d: %s", len(root), longest, root).
			hint("set TMPDIR to a shorter path, such as /tmp")
	}
	dir, err := os.MkdirTemp(root, "gophersnake-doctor-")
	if err != nil {
		return f.fail("%v", err).hint("set TMPDIR to a folder that exists, can be written, and has free space and inodes, such as /tmp")
	}
	defer os.RemoveAll(dir)
	listener, err := net.Listen("unix", filepath.Join(dir, "socket"))
	if err != nil {
		return f.fail("a Unix socket in %s: %v", root, err).hint("set TMPDIR to a folder on a file system that supports sockets")
	}
	_ = listener.Close()
	return f.ok("Unix sockets in %s", root)
}

// checkFiles checks how many descriptors a process may have open. A worker takes
// about eight of the supervisor's.
func checkFiles() Finding {
	f := Finding{Name: "open files"}
	const raise = "raise the limit: ulimit -n 4096"
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return f.warn("cannot read the limit: %v", err)
	}
	switch {
	case limit.Cur < 64:
		return f.fail("a process may have %d open", limit.Cur).hint(raise)
	case limit.Cur < 1024:
		return f.warn("a process may have %d open, which is little for many workers", limit.Cur).hint(raise)
	}
	return f.ok("a process may have %s open", limitText(uint64(limit.Cur)))
}

func limitText(n uint64) string {
	if n >= 1<<62 {
		return "any number"
	}
	return fmt.Sprint(n)
}

// checkCache writes to the cache folder, which it creates if needed.
func checkCache(dir string) Finding {
	f := Finding{Name: "cache"}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return failure(f.Name, pyenv.FileError("create the cache folder", err))
	}
	file, err := os.CreateTemp(dir, ".doctor-")
	if err != nil {
		return failure(f.Name, pyenv.FileError("write to the cache folder", err))
	}
	defer os.Remove(file.Name())
	defer file.Close()
	var space unix.Statfs_t
	if err := unix.Fstatfs(int(file.Fd()), &space); err != nil {
		return f.ok("%s", dir)
	}
	free := int64(space.Bavail) * int64(space.Bsize)
	if free < 1<<30 {
		return f.warn("%s, of which %d MiB are free", dir, free>>20).hint("make room: gophersnake env prune")
	}
	return f.ok("%s, %.1f GiB free", dir, float64(free)/(1<<30))
}

// checkSpawn starts a process with the attributes that workers are started with.
func checkSpawn() Finding {
	f := Finding{Name: "processes"}
	cmd := exec.Command("sh", "-c", "exit 0")
	pidfd := spawnAttributes(cmd)
	if err := cmd.Run(); err != nil {
		return f.fail("cannot start a process in a group of its own: %v", err).
			hint("allow clone and setpgid in the container's seccomp profile")
	}
	if *pidfd >= 0 {
		_ = syscall.Close(*pidfd)
		return f.ok("process groups, pidfd")
	}
	return f.withoutPidfd()
}

// checkContainers reports whether nodes can run in containers. Without podman that is only a
// warning, because other nodes run.
func checkContainers() Finding {
	f := Finding{Name: "containers"}
	podman, err := container.Find()
	if err != nil {
		return f.warn("%v: nodes with container or docker do not run", err).hint(container.Hint)
	}
	out, err := exec.Command(podman, "--version").CombinedOutput()
	if err != nil {
		return f.warn("%s does not run: %v", podman, err).hint("run `podman info`, which says what it lacks")
	}
	return f.ok("%s (%s)", strings.TrimSpace(string(out)), podman)
}

// checkUV looks for the installer.
func checkUV() Finding {
	f := Finding{Name: "uv"}
	path, err := exec.LookPath("uv")
	if err != nil {
		return f.warn("not found: environments are built with venv and pip, which is slower").hint("install it: pip install uv")
	}
	out, err := exec.Command(path, "--version").CombinedOutput()
	if err != nil {
		return f.warn("%s does not run: %v", path, err).hint("install it again: pip install --force-reinstall uv")
	}
	line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	return f.ok("%s (%s)", strings.TrimPrefix(line, "uv "), path)
}
