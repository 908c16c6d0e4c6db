package manifest

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

const identifier = `[\pL_][\pL\d_]*`

// dottedName matches the name of a module, or of an object in one.
var dottedName = regexp.MustCompile(`^` + identifier + `(\.` + identifier + `)*$`)

// splitSource splits path.py[:Object] or package.module[:Object].
func splitSource(source string) (code, object string, hasObject, isFile bool) {
	code = source
	if i := strings.LastIndexByte(source, ':'); i >= 0 {
		code, object, hasObject = source[:i], source[i+1:], true
	}
	isFile = strings.HasSuffix(code, ".py") || strings.Contains(code, "/")
	return code, object, hasObject, isFile
}

// checkSource checks the name of Python code: that a file exists, and that a module
// could. Only the interpreter can find out whether a module exists.
func checkSource(r *report, base folder, path, source string) {
	if source == "" {
		return
	}
	code, object, hasObject, isFile := splitSource(source)
	switch {
	case hasObject && !dottedName.MatchString(object):
		r.problem(path, "%q does not name a Python object after the colon; write nodes.py:Object", shorten(source))
	case strings.ContainsAny(code, "\x00\r\n"), !isFile && !dottedName.MatchString(code):
		r.problem(path, "%q is neither a Python file (nodes.py) nor a module (package.module)", shorten(source))
	case isFile && !strings.HasSuffix(code, ".py"):
		r.problem(path, "%q is not a Python file: its name does not end in .py", shorten(code))
	case isFile:
		if err := base.checkRegular(code); err != nil {
			var meant string
			if !r.full() && errors.Is(err, fs.ErrNotExist) {
				meant = base.nearestFile(code)
			}
			r.problemSuggesting(path, meant, "%v", err)
		}
	}
}

func resolvePath(base, file string) string {
	if filepath.IsAbs(file) {
		return file
	}
	return filepath.Join(base, file)
}

// folder is the folder that the relative paths of a manifest start from: one of the
// operating system's, or one in a file system of a program.
type folder struct {
	files fs.FS // nil for the operating system's
	path  string
}

func (p *Pipeline) folder() folder { return folder{p.Files, p.Base} }

// find returns the file system that a path leads to, and its name there. The file system is
// nil if it is the operating system's, as that of an absolute path always is.
func (f folder) find(file string) (fs.FS, string) {
	if f.files == nil || filepath.IsAbs(file) {
		return nil, resolvePath(f.path, file)
	}
	return f.files, path.Join(f.path, filepath.ToSlash(file))
}

// checkRegular returns an error if a file that the manifest names is not a regular
// file.
func (f folder) checkRegular(file string) error {
	files, name := f.find(file)
	var info fs.FileInfo
	var err error
	switch {
	case files == nil:
		info, err = os.Stat(name)
	case !fs.ValidPath(name):
		return fmt.Errorf("%s is outside of the file system that the pipeline is in", file)
	default:
		info, err = fs.Stat(files, name)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return &missingFile{name}
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s is not a file", name)
	}
	return nil
}

// read reads a file, but at most one byte more than maxSize, so that the caller can detect a
// file that is too large and even an endless file ends.
func (f folder) read(file string, maxSize int64) ([]byte, error) {
	files, name := f.find(file)
	var from fs.File
	var err error
	if files == nil {
		from, err = os.Open(name)
	} else {
		from, err = files.Open(name)
	}
	if err != nil {
		return nil, err
	}
	defer from.Close()
	return io.ReadAll(io.LimitReader(from, maxSize+1))
}

// missingFile is the error for a file that does not exist. It wraps [fs.ErrNotExist].
type missingFile struct{ name string }

func (e *missingFile) Error() string { return "there is no file " + e.name }
func (e *missingFile) Unwrap() error { return fs.ErrNotExist }

// nearestFile returns the name most similar to that of a missing file, of the files
// with the same extension in the same folder. The name is relative if written is.
func (f folder) nearestFile(written string) string {
	files, file := f.find(written)
	pattern := filepath.Join(filepath.Dir(file), "*"+filepath.Ext(file))
	var siblings []string
	if files == nil {
		siblings, _ = filepath.Glob(pattern)
	} else {
		siblings, _ = fs.Glob(files, filepath.ToSlash(pattern))
	}
	for i, sibling := range siblings {
		siblings[i] = filepath.Base(sibling)
	}
	name := nearest(filepath.Base(file), siblings)
	if name == "" {
		return ""
	}
	return strings.TrimSuffix(written, filepath.Base(written)) + name
}

// maxFolders is the most folders that CodeFolders returns: the pipeline may be in a
// folder with many others.
const maxFolders = 1000

// CodeFolders returns the folders that may contain the pipeline's own Python code: the
// manifest's folder, those of the Python files that the nodes name, and their
// subfolders. Hidden folders, virtual environments, __pycache__ and node_modules are
// left out, and so are installed packages. If there are more than 1000 folders, it
// returns the first 1000 and complete is false. It walks the file system on each call
// and ignores folders that it cannot read. A pipeline of [LoadFS] has none.
func (p *Pipeline) CodeFolders() (folders []string, complete bool) {
	complete = true
	if p.Files != nil {
		return nil, true
	}
	for _, root := range p.codeRoots() {
		if slices.Contains(folders, root) {
			continue
		}
		_ = filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return fs.SkipDir // Python cannot read it either
			case !entry.IsDir():
				return nil
			case path != root && !mayHoldCode(path):
				return fs.SkipDir
			case len(folders) == maxFolders:
				complete = false
				return fs.SkipAll
			}
			if !slices.Contains(folders, path) {
				folders = append(folders, path)
			}
			return nil
		})
	}
	return folders, complete
}

// codeRoots returns the manifest's folder and those of the Python files that the nodes
// and the pipeline name.
func (p *Pipeline) codeRoots() []string {
	roots := []string{resolvePath(p.Base, ".")}
	add := func(source string) {
		if code, _, _, isFile := splitSource(source); isFile {
			roots = append(roots, filepath.Dir(resolvePath(p.Base, code)))
		}
	}
	for _, n := range p.Nodes {
		add(n.Python)
	}
	add(p.Python)
	return roots
}

// mayHoldCode reports whether a subfolder may contain code of the pipeline's author.
func mayHoldCode(path string) bool {
	name := filepath.Base(path)
	if strings.HasPrefix(name, ".") || name == "__pycache__" || name == "node_modules" {
		return false
	}
	_, err := os.Stat(filepath.Join(path, "pyvenv.cfg"))
	return err != nil
}
