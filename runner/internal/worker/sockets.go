package worker

import (
	"os"
	"path/filepath"
	"regexp"
	"sync"

	"github.com/gophersnake/gophersnake/runner/internal/scratch"
)

// sockets is where go-plugin makes the folders of the sockets: a folder of this
// process's own, which is there while workers start. It is locked, so that what a
// supervisor leaves behind that is killed meanwhile can be told from what is in
// use, by the next one, which takes it away.
type sockets struct {
	mu    sync.Mutex
	roots map[string]*socketRoot // by the folder that they are in
	swept map[string]bool
}

type socketRoot struct {
	path  string
	lock  *os.File
	users int
}

var socketFolders = sockets{roots: make(map[string]*socketRoot), swept: make(map[string]bool)}

const socketsPrefix = "gophersnake-"

// maxSocketRoot leaves room for our folder, go-plugin's and the socket's name
// within the 104 bytes that a socket's path may have everywhere.
const maxSocketRoot = 52

// temporary is the folder for all of that: the temporary one, unless its name is
// too long for a socket's path.
func temporary() string {
	if root := os.TempDir(); len(root) <= maxSocketRoot {
		return root
	}
	return "/tmp"
}

// enter returns the folder, and what lets go of it.
func (s *sockets) enter() (string, func(), error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	in := temporary()
	if !s.swept[in] {
		s.swept[in] = true
		sweep(in)
	}
	root := s.roots[in]
	if root == nil {
		path, lock, err := scratch.New(in, socketsPrefix)
		if err != nil {
			return "", nil, err
		}
		root = &socketRoot{path: path, lock: lock}
		s.roots[in] = root
	}
	root.users++
	return root.path, func() { s.leave(in, root) }, nil
}

func (s *sockets) leave(in string, root *socketRoot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if root.users--; root.users > 0 {
		return
	}
	delete(s.roots, in)
	_ = os.Remove(root.path) // it is empty, unless somebody put something there
	_ = root.lock.Close()
}

var socketsName = regexp.MustCompile(`^` + socketsPrefix + `[0-9]+$`)

// sweep removes what supervisors left behind that were killed: those of its folders
// that nobody has locked, and nothing in them but go-plugin's folders and a socket.
func sweep(in string) {
	entries, _ := os.ReadDir(in) // those that can be seen
	for _, entry := range entries {
		if !entry.IsDir() || !socketsName.MatchString(entry.Name()) {
			continue
		}
		path := filepath.Join(in, entry.Name())
		lock, err := scratch.Lock(path)
		if err != nil {
			continue // it is in use, or not ours
		}
		folders, _ := filepath.Glob(filepath.Join(path, "plugin-dir*"))
		for _, folder := range folders {
			socket := filepath.Join(folder, "worker")
			if info, err := os.Lstat(socket); err == nil && info.Mode().Type() == os.ModeSocket {
				_ = os.Remove(socket)
			}
			_ = os.Remove(folder) // as all of these, if nothing else is in it
		}
		_ = os.Remove(path)
		_ = lock.Close()
	}
}
