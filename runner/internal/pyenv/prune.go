package pyenv

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// PruneOptions say which environments [Prune] removes. It always removes the incomplete
// environments of interrupted processes.
type PruneOptions struct {
	// OlderThan removes the environments that have not been used for this long.
	OlderThan time.Duration
	// All removes all environments, however recently used.
	All bool
	// Keys, if there are any, are the only environments that are removed, however recently
	// used.
	Keys []string
	// DryRun reports the environments that would be removed, and removes none.
	DryRun bool
}

// Pruned is the result of [Prune].
type Pruned struct {
	Removed []Environment
	// Kept are the environments that were due, but that a process creates or uses.
	Kept []Environment
	// Freed is the number of bytes that were freed. Files that uv shares with its own
	// cache are not freed and do not count.
	Freed int64
}

// Prune removes environments. It keeps those that a process creates, or runs workers
// in, at the moment. It goes on after an error, and returns all errors joined.
func Prune(ctx context.Context, cache string, o PruneOptions) (Pruned, error) {
	var done Pruned
	keys, err := keysIn(cache)
	if err != nil {
		return done, err
	}
	used := pythonsInUse()
	var faults []error
	for _, key := range keys {
		if ctx.Err() != nil {
			return done, canceled(ctx, "remove environments")
		}
		if err := done.prune(cache, key, o, used); err != nil {
			faults = append(faults, err)
		}
	}
	return done, errors.Join(faults...)
}

// prune removes one environment if it is due.
func (p *Pruned) prune(cache, key string, o PruneOptions, used map[string]bool) error {
	if !o.applies(cache, key) {
		return nil
	}
	lock := lockOf(cache, key)
	if err := os.MkdirAll(filepath.Dir(lock.Path()), 0o777); err != nil {
		return FileError("lock the environment", err)
	}
	locked, err := lock.TryLock()
	if err != nil {
		return FileError("lock the environment", err)
	}
	if locked {
		defer lock.Close()
	}
	env, exists := examine(cache, key)
	env.Size, _ = treeSize(env.Dir)
	switch {
	case !exists || locked && !o.applies(cache, key): // removed or used in the meantime
		return nil
	case !locked || used[env.Python] || inUse(env.Dir+workSuffix):
		p.Kept = append(p.Kept, env)
		return nil
	}
	_, freed := treeSize(env.Dir)
	_, work := treeSize(env.Dir + workSuffix)
	if !o.DryRun {
		if err := remove(env.Dir); err != nil {
			return FileError("remove the environment", err)
		}
	}
	p.Removed = append(p.Removed, env)
	p.Freed += freed + work
	return nil
}

// applies reports whether an environment is due for removal.
func (o PruneOptions) applies(cache, key string) bool {
	env, exists := examine(cache, key)
	if len(o.Keys) > 0 {
		return exists && slices.Contains(o.Keys, key)
	}
	return exists && (o.All || !env.Complete || time.Since(env.LastUsed) >= o.OlderThan)
}

// remove removes an environment, its record first, so that an interrupted removal
// leaves an incomplete environment.
func remove(dir string) error {
	err := os.Remove(filepath.Join(dir, recordName))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return errors.Join(os.RemoveAll(dir), os.RemoveAll(dir+workSuffix))
}
