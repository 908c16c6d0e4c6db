package pyenv

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"
)

// PruneOptions say which environments [Prune] removes. What interrupted processes
// left half-built goes in any case.
type PruneOptions struct {
	// OlderThan is how long ago the last use of an environment has to be.
	OlderThan time.Duration
	// All removes all environments, however new.
	All bool
	// DryRun removes nothing, and tells what would be removed.
	DryRun bool
}

// Pruned is what [Prune] did.
type Pruned struct {
	Removed []Environment
	// Kept are those that had to go, but are being made or used by a process.
	Kept []Environment
	// Freed is the number of bytes. What uv shares with its own cache is not
	// freed and does not count.
	Freed int64
}

// Prune removes environments. It leaves alone what a process makes at the moment,
// or runs workers in.
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

// prune removes one environment, if it has to go.
func (p *Pruned) prune(cache, key string, o PruneOptions, used map[string]bool) error {
	if !o.applies(cache, key) {
		return nil
	}
	lock := lockOf(cache, key)
	if err := os.MkdirAll(filepath.Dir(lock.Path()), 0o777); err != nil {
		return fileError("lock the environment", err)
	}
	locked, err := lock.TryLock()
	if err != nil {
		return fileError("lock the environment", err)
	}
	if locked {
		defer lock.Close()
	}
	env, there := examine(cache, key)
	env.Size, _ = treeSize(env.Dir)
	switch {
	case !there || locked && !o.applies(cache, key): // removed or used meanwhile
		return nil
	case !locked || used[env.Python]:
		p.Kept = append(p.Kept, env)
		return nil
	}
	_, freed := treeSize(env.Dir)
	_, work := treeSize(env.Dir + workSuffix)
	if !o.DryRun {
		if err := remove(env.Dir); err != nil {
			return fileError("remove the environment", err)
		}
	}
	p.Removed = append(p.Removed, env)
	p.Freed += freed + work
	return nil
}

// applies reports whether an environment has to go.
func (o PruneOptions) applies(cache, key string) bool {
	env, there := examine(cache, key)
	return there && (o.All || !env.Complete || time.Since(env.LastUsed) >= o.OlderThan)
}

// remove removes an environment, the record first: what is left if it does not
// come to its end is then half-built.
func remove(dir string) error {
	err := os.Remove(filepath.Join(dir, recordName))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return errors.Join(os.RemoveAll(dir), os.RemoveAll(dir+workSuffix))
}
