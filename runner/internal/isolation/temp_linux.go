package isolation

import (
	"os"
	"path/filepath"
	"sync"

	"github.com/gophersnake/gophersnake/runner/internal/scratch"
)

// tempName is how the temporary folders are named.
const tempName = "gophersnake-temp-"

// temp is the temporary folder of one process. It is locked as long as its
// supervisor lives, so that others can tell what a killed one has left.
type temp struct {
	dir  string
	lock *os.File
}

// swept is when this process has looked for what others have left.
var swept sync.Once

// newTemp makes a temporary folder.
func newTemp() (*temp, error) {
	swept.Do(func() { sweep(os.TempDir()) })
	dir, lock, err := scratch.New("", tempName)
	if err != nil {
		return nil, err
	}
	return &temp{dir, lock}, nil
}

func (t *temp) remove() {
	_ = os.RemoveAll(t.dir)
	_ = t.lock.Close()
}

// sweep removes the folders of supervisors that were killed.
func sweep(root string) {
	left, _ := filepath.Glob(filepath.Join(root, tempName+"*"))
	for _, dir := range left {
		if lock, err := scratch.Lock(dir); err == nil {
			(&temp{dir, lock}).remove()
		}
	}
}
