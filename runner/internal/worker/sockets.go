package worker

import (
	"os"
	"path/filepath"
	"regexp"
	"sync"

	"github.com/gophersnake/gophersnake/runner/internal/scratch"
)

// sockets manages the folder in which go-plugin makes the folders of the workers'
// sockets. The folder belongs to this process and exists while workers start. It is
// locked, so that the next supervisor can tell a folder in use from one that a
// supervisor left behind when it was killed, and removes the latter.
type sockets struct {
	mu    sync.Mutex             // guards the fields below
	roots map[string]*socketRoot // by the folder that they are in
	swept map[string]bool        // the folders in which leftovers were removed
}

// socketRoot is one such folder.
type socketRoot struct {
	path   string
	parent string
	lock   *os.File
	users  int
}

// socketFolders are those of this process.
var socketFolders = sockets{roots: make(map[string]*socketRoot), swept: make(map[string]bool)}

const socketsPrefix = "gophersnake-"

// maxSocketRoot leaves room for our folder, go-plugin's and the socket's name in the
// 104 bytes that the path of a socket may have on every system.
const maxSocketRoot = 52

// temporaryFolder returns the absolute path of the system's folder for temporary files, or
// /tmp if the path of a socket in that folder would be too long. Workers run in another
// folder, so a relative path would mislead them.
func temporaryFolder() string {
	folder, err := filepath.Abs(os.TempDir())
	if err != nil || len(folder) > maxSocketRoot {
		return "/tmp"
	}
	return folder
}

// acquire returns the folder, and creates it if necessary. It must be released.
func (s *sockets) acquire() (*socketRoot, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	parent := temporaryFolder()
	if !s.swept[parent] {
		s.swept[parent] = true
		sweep(parent)
	}
	root := s.roots[parent]
	if root == nil {
		path, lock, err := scratch.New(parent, socketsPrefix)
		if err != nil {
			return nil, &TemporaryFolderError{Folder: parent, Cause: err}
		}
		root = &socketRoot{path: path, parent: parent, lock: lock}
		s.roots[parent] = root
	}
	root.users++
	return root, nil
}

// release removes the folder after its last use.
func (s *sockets) release(root *socketRoot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if root.users--; root.users > 0 {
		return
	}
	delete(s.roots, root.parent)
	_ = os.Remove(root.path) // fails if another program put a file there
	_ = root.lock.Close()
}

var socketsName = regexp.MustCompile(`^` + socketsPrefix + `[0-9]+$`)

// sweep removes the folders that killed supervisors left behind in a folder: those
// that no process has locked. It removes nothing from them but go-plugin's folders and
// the sockets in these.
func sweep(parent string) {
	entries, _ := os.ReadDir(parent) // an error leaves those that were read
	for _, entry := range entries {
		if !entry.IsDir() || !socketsName.MatchString(entry.Name()) {
			continue
		}
		path := filepath.Join(parent, entry.Name())
		lock, err := scratch.Lock(path)
		if err != nil {
			continue // it is in use, or belongs to another user
		}
		folders, _ := filepath.Glob(filepath.Join(path, "plugin-dir*"))
		for _, folder := range folders {
			socket := filepath.Join(folder, "worker")
			if info, err := os.Lstat(socket); err == nil && info.Mode().Type() == os.ModeSocket {
				_ = os.Remove(socket)
			}
			_ = os.Remove(folder) // fails, like all of these, if it holds anything else
		}
		_ = os.Remove(path)
		_ = lock.Close()
	}
}
