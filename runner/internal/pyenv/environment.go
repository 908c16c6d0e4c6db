package pyenv

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Environment is a virtual environment that gophersnake created.
type Environment struct {
	// Key is the name of its folder: a hash of the interpreter and the requirements.
	Key string
	Dir string
	// Python is the environment's interpreter.
	Python string
	// Requirements are the lines that were installed, without passwords.
	Requirements []string
	// Interpreter is the interpreter that it was created with.
	Interpreter Interpreter
	// Installer is "uv" or "pip".
	Installer string
	Created   time.Time
	LastUsed  time.Time
	// Complete says that it can be used. An incomplete one is being created, was left by
	// a process that was interrupted, has lost its interpreter, or is damaged.
	Complete bool
	// Damage says which file is missing or damaged; empty if none is.
	Damage string
	// Repaired is when it was built again because it was damaged.
	Repaired time.Time
	// Size is the size of its files in bytes, including those that uv shares with its
	// own cache. Only [List] and [Prune] set it.
	Size int64
}

// recordName is the file that makes an environment complete. Its modification time is
// the time of the last use.
const recordName = "gophersnake.json"

// record is the content of that file.
type record struct {
	Format       int         `json:"format"`
	Key          string      `json:"key"`
	Created      time.Time   `json:"created"`
	Installer    string      `json:"installer"`
	Requirements []string    `json:"requirements"`
	Interpreter  Interpreter `json:"interpreter"`
	// Files is the size of the list of its files. Older environments have no list.
	Files    int64     `json:"files,omitempty"`
	Repaired time.Time `json:"repaired,omitzero"`
}

// open returns the environment of a key. It is incomplete if its record is missing or
// invalid, if its interpreter is missing, or if a file is damaged.
func open(cache, key string) Environment {
	dir := filepath.Join(envsDir(cache), key)
	env := Environment{Key: key, Dir: dir, Python: pythonOf(dir)}
	r, ok := readRecord(dir)
	if !ok {
		return env
	}
	env.Requirements, env.Interpreter, env.Installer, env.Created = r.Requirements, r.Interpreter, r.Installer, r.Created
	// If the interpreter was removed, the link dangles.
	_, err := os.Stat(env.Python)
	env.Complete, env.Repaired = err == nil, r.Repaired
	if env.Complete && r.Files > 0 {
		env.Damage = findDamage(dir, r.Files)
		env.Complete = env.Damage == ""
	}
	return env
}

// readRecord returns the record in the folder of an environment, and whether it is valid.
func readRecord(dir string) (r record, ok bool) {
	content, err := os.ReadFile(filepath.Join(dir, recordName))
	if err != nil || json.Unmarshal(content, &r) != nil {
		return r, false
	}
	return r, r.Format == envFormat && r.Key == filepath.Base(dir)
}

// touch records the time of use. It ignores errors, since a cache that cannot be
// written can still be used.
func (e *Environment) touch() {
	e.LastUsed = time.Now()
	_ = os.Chtimes(filepath.Join(e.Dir, recordName), e.LastUsed, e.LastUsed)
}

// complete writes the list of files and the record, which makes the environment complete.
func (e *Environment) complete() error {
	files, err := writeList(e.Dir)
	if err != nil {
		return err
	}
	content, err := json.MarshalIndent(record{
		Format: envFormat, Key: e.Key, Created: e.Created, Installer: e.Installer,
		Requirements: e.Requirements, Interpreter: e.Interpreter, Files: files, Repaired: e.Repaired,
	}, "", "  ")
	if err != nil {
		return err
	}
	if err := writeFile(filepath.Join(e.Dir, recordName), append(content, '\n')); err != nil {
		return err
	}
	e.Complete = true
	return nil
}

// CacheDir returns the absolute path of the cache folder: the explicit one, otherwise
// that of GOPHERSNAKE_CACHE, otherwise one in the user's cache folder. It does not
// create the folder.
func CacheDir(explicit string) (string, error) {
	dir := explicit
	if dir == "" {
		dir = os.Getenv("GOPHERSNAKE_CACHE")
	}
	if dir == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			return "", &Error{Op: "find the user's cache folder", Hint: "set HOME, or " + otherFolder, Cause: err}
		}
		dir = filepath.Join(user, "gophersnake")
	}
	absolute, err := filepath.Abs(dir)
	if err != nil {
		return "", &Error{Op: "find the cache folder", Hint: "name it with an absolute path", Cause: err}
	}
	return absolute, nil
}

// envsDir returns the folder of the environments.
func envsDir(cache string) string { return filepath.Join(cache, "envs") }

// writeFile writes a file atomically.
func writeFile(path string, content []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if closing := f.Close(); err == nil {
		err = closing
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// List returns the environments in the cache folder, the most recently used first.
func List(cache string) ([]Environment, error) {
	keys, err := keysIn(cache)
	if err != nil {
		return nil, err
	}
	var found []Environment
	for _, key := range keys {
		if env, ok := examine(cache, key); ok {
			env.Size, _ = treeSize(env.Dir)
			found = append(found, env)
		}
	}
	slices.SortStableFunc(found, func(a, b Environment) int { return b.LastUsed.Compare(a.LastUsed) })
	return found, nil
}

// keysIn returns the keys of all environments and of all unfinished builds.
func keysIn(cache string) ([]string, error) {
	entries, err := os.ReadDir(envsDir(cache))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, FileError("list the environments", err)
	}
	var keys []string
	for _, entry := range entries {
		if entry.IsDir() && !strings.HasPrefix(entry.Name(), ".") {
			keys = append(keys, strings.TrimSuffix(entry.Name(), workSuffix))
		}
	}
	slices.SortFunc(keys, cmp.Compare)
	return slices.Compact(keys), nil
}

// examine returns the environment of a key, and whether it or an unfinished build
// exists.
func examine(cache, key string) (Environment, bool) {
	env := open(cache, key)
	for _, path := range []string{filepath.Join(env.Dir, recordName), env.Dir, env.Dir + workSuffix} {
		if info, err := os.Stat(path); err == nil {
			env.LastUsed = info.ModTime()
			return env, true
		}
	}
	return env, false
}

// treeSize returns the size of all files in a folder, and the size of those without a
// hard link in another folder: uv links files to its own cache, which keeps them.
func treeSize(dir string) (all, own int64) {
	type file struct{ device, inode uint64 }
	links := make(map[file]uint64)
	_ = filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return nil // unreadable files do not count
		}
		info, err := entry.Info()
		if err != nil {
			return nil
		}
		stat, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			return nil
		}
		f := file{uint64(stat.Dev), stat.Ino}
		if links[f]++; links[f] == 1 {
			all += info.Size()
		}
		if links[f] == uint64(stat.Nlink) {
			own += info.Size()
		}
		return nil
	})
	return all, own
}
