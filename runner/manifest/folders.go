package manifest

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// maxFolders bounds the folders of code. A pipeline may lie in a folder of all sorts.
const maxFolders = 1000

// CodeFolders returns the folders that the pipeline's own Python code may lie in: the
// manifest's, those of the files that the nodes name, and all below them, but for
// hidden ones, virtual environments, __pycache__ and node_modules. Packages that are
// installed are not among them. Where there are more than 1000, all is false, and
// they are the first 1000.
func (p *Pipeline) CodeFolders() (folders []string, all bool) {
	roots := []string{resolvePath(p.Base, ".")}
	for _, n := range p.Nodes {
		roots = append(roots, n.Python)
	}
	roots = append(roots, p.Python)
	for i, source := range roots[1:] {
		code, _, _, isFile := splitSource(source)
		if roots[i+1] = ""; isFile {
			roots[i+1] = filepath.Dir(resolvePath(p.Base, code))
		}
	}
	all = true
	for _, root := range roots {
		if root == "" || slices.Contains(folders, root) {
			continue
		}
		_ = filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return fs.SkipDir // Python does not read what is in it either
			case !entry.IsDir():
				return nil
			case path != root && !mayHoldCode(path):
				return fs.SkipDir
			case len(folders) == maxFolders:
				all = false
				return fs.SkipAll
			}
			if !slices.Contains(folders, path) {
				folders = append(folders, path)
			}
			return nil
		})
	}
	return folders, all
}

// mayHoldCode leaves out the folders that people do not write code in.
func mayHoldCode(path string) bool {
	name := filepath.Base(path)
	if strings.HasPrefix(name, ".") || name == "__pycache__" || name == "node_modules" {
		return false
	}
	_, err := os.Stat(filepath.Join(path, "pyvenv.cfg"))
	return err != nil
}
