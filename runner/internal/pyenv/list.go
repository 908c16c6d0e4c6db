package pyenv

import (
	"cmp"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// List returns the environments in the cache folder, the last used one first.
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

// keysIn returns the keys of all environments, and of what is left of builds.
func keysIn(cache string) ([]string, error) {
	entries, err := os.ReadDir(envsDir(cache))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fileError("list the environments", err)
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

// examine looks at what is there under a key.
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

// treeSize is the size of all files in a folder, and of those that are nowhere
// else: uv links files to its own cache, where they stay.
func treeSize(dir string) (all, own int64) {
	type file struct{ device, inode uint64 }
	links := make(map[file]uint64)
	_ = filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return nil // what cannot be read counts nothing
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
