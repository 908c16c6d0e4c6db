package pyenv

import (
	"fmt"
	"os"
	"path/filepath"
)

// CacheDir returns the absolute path of the cache folder: the one that is named,
// else that of GOPHERSNAKE_CACHE, else one in the user's cache folder. It makes
// none.
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

// envsDir holds the environments.
func envsDir(cache string) string { return filepath.Join(cache, "envs") }

// writeFile writes a file that appears at once, complete, or not at all.
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
