package cli

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

// settleTime is how long nothing must change any more: editors write several times.
const settleTime = 100 * time.Millisecond

// codeWatcher tells when a pipeline's Python code has changed.
type codeWatcher struct {
	pipeline *manifest.Pipeline
	watcher  *fsnotify.Watcher
	manifest string
	warn     func(message string, args ...any)
}

func watchCode(p *manifest.Pipeline, warn func(string, ...any)) (*codeWatcher, error) {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, runner.Wrap(err, runner.KindIO, "watch the code")
	}
	w := &codeWatcher{pipeline: p, watcher: watcher, warn: warn}
	w.manifest = filepath.Join(p.Base, filepath.Base(p.File))
	all, err := w.lookForFolders()
	if err != nil {
		_ = watcher.Close()
		return nil, runner.Wrap(err, runner.KindIO, "watch the code").
			WithHint("where there are too many folders for the system, let the pipeline have a folder of its own")
	}
	if !all {
		warn("there are too many folders around the pipeline: changes in some of them will not be seen")
	}
	return w, nil
}

// lookForFolders watches those that are not watched yet.
func (w *codeWatcher) lookForFolders() (all bool, err error) {
	folders, all := w.pipeline.CodeFolders()
	for _, folder := range folders {
		if err := w.watcher.Add(folder); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return all, err
		}
	}
	return all, nil
}

// run tells of changes, by the name of a file that has changed, until the context
// ends.
func (w *codeWatcher) run(ctx context.Context, changed func(file string)) {
	defer func() { _ = w.watcher.Close() }()
	var settled <-chan time.Time
	var file string
	for {
		select {
		case e := <-w.watcher.Events:
			if w.matters(e) {
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

// matters reports whether an event is a change of code.
func (w *codeWatcher) matters(e fsnotify.Event) bool {
	if e.Op == fsnotify.Chmod {
		return false
	}
	if e.Has(fsnotify.Create) {
		if info, err := os.Stat(e.Name); err == nil && info.IsDir() {
			before := len(w.watcher.WatchList())
			if _, err := w.lookForFolders(); err != nil {
				w.warn("a new folder is not watched: " + err.Error())
			}
			return len(w.watcher.WatchList()) > before // it may have come with files in it
		}
	}
	if e.Name == w.manifest && !e.Has(fsnotify.Remove) {
		w.warn(filepath.Base(w.manifest) + " has changed: that takes a new start of the command")
	}
	return strings.HasSuffix(e.Name, ".py")
}
