package isolation

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The rights over files. A kernel can only refuse the rights that it knows; see
// refusableRights.
const (
	rightsToRead = unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_READ_DIR | unix.LANDLOCK_ACCESS_FS_EXECUTE
	// Execution is missing: a node must not run a program that it wrote itself.
	rightsToWrite = unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_READ_DIR |
		unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_TRUNCATE |
		unix.LANDLOCK_ACCESS_FS_MAKE_REG | unix.LANDLOCK_ACCESS_FS_MAKE_DIR | unix.LANDLOCK_ACCESS_FS_MAKE_SYM |
		unix.LANDLOCK_ACCESS_FS_MAKE_SOCK | unix.LANDLOCK_ACCESS_FS_MAKE_FIFO |
		unix.LANDLOCK_ACCESS_FS_REMOVE_FILE | unix.LANDLOCK_ACCESS_FS_REMOVE_DIR |
		unix.LANDLOCK_ACCESS_FS_REFER | unix.LANDLOCK_ACCESS_FS_IOCTL_DEV | unix.LANDLOCK_ACCESS_FS_RESOLVE_UNIX
	// rightsToFiles are the rights that apply to files; the others apply to folders only.
	rightsToFiles = unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_WRITE_FILE |
		unix.LANDLOCK_ACCESS_FS_TRUNCATE | unix.LANDLOCK_ACCESS_FS_IOCTL_DEV | unix.LANDLOCK_ACCESS_FS_RESOLVE_UNIX
)

// The versions of Landlock's interface that matter, and the kernels that provide them.
const (
	abiTruncate = 3 // Linux 6.2; before, every file could be truncated
	abiIoctl    = 5 // 6.10
	abiScope    = 6 // 6.12: signals
	abiUnix     = 9 // connecting to Unix sockets
)

// refusableRights returns the rights that a version of the interface can refuse.
func refusableRights(abi int) uint64 {
	rights := uint64(unix.LANDLOCK_ACCESS_FS_TRUNCATE<<1 - 1) // all up to those of abiTruncate, the oldest version that is supported
	if abi >= abiIoctl {
		rights |= unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
	}
	if abi >= abiUnix {
		rights |= unix.LANDLOCK_ACCESS_FS_RESOLVE_UNIX
	}
	return rights
}

// landlockRights returns the rights that this kernel can refuse. Landlock must be available.
func landlockRights() uint64 {
	abi, _ := landlockABI()
	return refusableRights(abi)
}

// landlockABI returns the version of the kernel's interface.
func landlockABI() (int, error) {
	abi, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	switch errno {
	case 0:
		return int(abi), nil
	case unix.ENOSYS:
		return 0, errors.New("this kernel is built without Landlock, or a container's seccomp profile forbids it")
	case unix.EOPNOTSUPP:
		return 0, errors.New("it is disabled: add landlock to the kernel's parameter lsm=")
	}
	return 0, fmt.Errorf("landlock_create_ruleset: %w", errno)
}

// ruleset creates the rules for files: the paths that may be read, and those that may
// be written as well. The rules apply to no thread until restrictFiles. The caller
// closes the returned descriptor.
func ruleset(read, write []string) (int, error) {
	abi, err := landlockABI()
	if err != nil {
		return -1, err
	}
	rights := refusableRights(abi)
	attr := unix.LandlockRulesetAttr{Handled_access_fs: rights}
	fd, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr), 0)
	if errno != 0 {
		return -1, os.NewSyscallError("landlock_create_ruleset", errno)
	}
	rules := int(fd)
	for _, system := range systemRead {
		if err := allow(rules, system, rightsToRead&rights); err != nil && !errors.Is(err, fs.ErrNotExist) {
			unix.Close(rules)
			return -1, err
		}
	}
	for _, each := range []struct {
		paths  []string
		rights uint64
	}{{read, rightsToRead}, {devices, rightsToWrite}, {write, rightsToWrite}} {
		for _, path := range each.paths {
			if err := allow(rules, path, each.rights&rights); err != nil {
				unix.Close(rules)
				return -1, err
			}
		}
	}
	return rules, nil
}

// allow adds rights to a file, or to a folder and everything in it.
func allow(rules int, path string, rights uint64) error {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return &fs.PathError{Op: OpIsolate, Path: path, Err: err}
	}
	defer unix.Close(fd)
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return &fs.PathError{Op: OpIsolate, Path: path, Err: err}
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFDIR {
		rights &= rightsToFiles
	}
	attr := unix.LandlockPathBeneathAttr{Allowed_access: rights, Parent_fd: int32(fd)}
	_, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(rules), unix.LANDLOCK_RULE_PATH_BENEATH, uintptr(unsafe.Pointer(&attr)), 0, 0, 0)
	if errno != 0 {
		return &fs.PathError{Op: OpIsolate, Path: path, Err: errno}
	}
	return nil
}

// restrictFiles applies the rules to the calling thread and to the processes that it
// starts.
func restrictFiles(rules int) error {
	_, _, errno := unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, uintptr(rules), 0, 0)
	if errno != 0 {
		return os.NewSyscallError("landlock_restrict_self", errno)
	}
	return nil
}
