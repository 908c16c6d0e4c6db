package service

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/manifest"
)

// settleTime is how long no file may change before a change is reported, since an editor
// may write a file in several steps.
const settleTime = 100 * time.Millisecond

// codeWatcher watches the Python code of a pipeline for changes.
type codeWatcher struct {
	pipeline *manifest.Pipeline
	watcher  *fsnotify.Watcher
	manifest string // the path of the manifest
	warn     func(message string, args ...any)
}

// watchCode begins to watch the code of a pipeline. The caller must call run.
func watchCode(p *manifest.Pipeline, warn func(string, ...any)) (*codeWatcher, error) {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, runner.Wrap(err, runner.KindIO, "watch the code")
	}
	w := &codeWatcher{pipeline: p, watcher: watcher, warn: warn}
	w.manifest = filepath.Join(p.Base, filepath.Base(p.File))
	all, err := w.addFolders()
	if err != nil {
		_ = watcher.Close()
		return nil, runner.Wrap(err, runner.KindIO, "watch the code").
			WithHint("if there are too many folders for the system, put the pipeline in a folder of its own")
	}
	if !all {
		warn("there are too many folders around the pipeline: changes in some of them will not be noticed")
	}
	return w, nil
}

// addFolders watches the folders with code that are not watched yet. It reports whether
// they include all folders.
func (w *codeWatcher) addFolders() (all bool, err error) {
	folders, all := w.pipeline.CodeFolders()
	for _, folder := range folders {
		if err := w.watcher.Add(folder); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return all, err
		}
	}
	return all, nil
}

// run calls changed with the name of a file that has changed, for each group of changes,
// until the context ends.
func (w *codeWatcher) run(ctx context.Context, changed func(file string)) {
	defer func() { _ = w.watcher.Close() }()
	var settled <-chan time.Time
	var file string
	for {
		select {
		case e := <-w.watcher.Events:
			if w.changesCode(e) {
				file, settled = filepath.Base(e.Name), time.After(settleTime)
			}
		case err := <-w.watcher.Errors:
			w.warn("a change of the code may have been missed: " + err.Error())
		case <-settled:
			settled = nil
			changed(file)
		case <-ctx.Done():
			return
		}
	}
}

// changesCode reports whether an event may have changed the code. It begins to watch new
// folders.
func (w *codeWatcher) changesCode(e fsnotify.Event) bool {
	if e.Op == fsnotify.Chmod {
		return false
	}
	if e.Has(fsnotify.Create) {
		if info, err := os.Stat(e.Name); err == nil && info.IsDir() {
			before := len(w.watcher.WatchList())
			if _, err := w.addFolders(); err != nil {
				w.warn("a new folder is not watched: " + err.Error())
			}
			return len(w.watcher.WatchList()) > before // the new folder may contain code already
		}
	}
	if e.Name == w.manifest && !e.Has(fsnotify.Remove) {
		w.warn(filepath.Base(w.manifest) + " has changed: restart the command to use it")
	}
	return strings.HasSuffix(e.Name, ".py")
}
