package service

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/fsnotify/fsnotify"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/runner/manifest"
)

func newWatcher(t *testing.T, p *manifest.Pipeline) (w *codeWatcher, warnings *[]string) {
	t.Helper()
	warnings = new([]string)
	w, err := watchCode(p, func(message string, _ ...any) { *warnings = append(*warnings, message) })
	require.NoError(t, err)
	return w, warnings
}

func TestAWatcherReportsChangesOfCode(t *testing.T) {
	base := t.TempDir()
	w, warnings := newWatcher(t, &manifest.Pipeline{Base: base, File: "pipeline.yaml"})
	defer func() { _ = w.watcher.Close() }()
	in := func(name string) string { return filepath.Join(base, name) }
	for _, folder := range []string{"new", "__pycache__"} {
		require.NoError(t, os.Mkdir(in(folder), 0o755))
	}
	assert.True(t, w.changesCode(fsnotify.Event{Name: in("a.py"), Op: fsnotify.Write}))
	assert.True(t, w.changesCode(fsnotify.Event{Name: in("a.py"), Op: fsnotify.Remove}))
	assert.False(t, w.changesCode(fsnotify.Event{Name: in("a.py"), Op: fsnotify.Chmod}))
	assert.False(t, w.changesCode(fsnotify.Event{Name: in("a.py~"), Op: fsnotify.Create}))
	assert.True(t, w.changesCode(fsnotify.Event{Name: in("new"), Op: fsnotify.Create}))
	assert.False(t, w.changesCode(fsnotify.Event{Name: in("__pycache__"), Op: fsnotify.Create}))
	assert.Empty(t, *warnings)
	assert.False(t, w.changesCode(fsnotify.Event{Name: in("pipeline.yaml"), Op: fsnotify.Write}))
	assert.Len(t, *warnings, 1)
	require.NoError(t, w.watcher.Close())
	assert.False(t, w.changesCode(fsnotify.Event{Name: in("new"), Op: fsnotify.Create}))
	assert.Len(t, *warnings, 2, "the watcher is closed")
}

func TestAWatcherWarnsOfChangesItMayHaveMissed(t *testing.T) {
	w, warnings := newWatcher(t, &manifest.Pipeline{Base: t.TempDir()})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.run(ctx, func(string) {})
	}()
	w.watcher.Errors <- errors.New("queue overflow")
	w.watcher.Errors <- errors.New("again") // received after the first was reported
	cancel()
	<-done
	assert.Contains(t, (*warnings)[0], "a change of the code may have been missed: queue overflow")
}

func TestAWatcherWarnsOfTooManyFolders(t *testing.T) {
	base := t.TempDir()
	for i := range 1001 {
		require.NoError(t, os.Mkdir(filepath.Join(base, "d"+string(rune('a'+i%26))+string(rune('a'+i/26%26))+string(rune('a'+i/676))), 0o755))
	}
	w, warnings := newWatcher(t, &manifest.Pipeline{Base: base})
	defer func() { _ = w.watcher.Close() }()
	require.Len(t, *warnings, 1)
	assert.Contains(t, (*warnings)[0], "too many folders")
}
