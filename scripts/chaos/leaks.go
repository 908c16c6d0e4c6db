package main

import (
	"embed"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/gophersnake/gophersnake/scripts/internal/procs"
)

//go:embed python
var embedded embed.FS

// workspace is the folder of a run. It holds the pipelines, and a temporary folder that
// is passed to all processes of the run, so that they and their files can be found.
type workspace struct {
	pipelines, temp string
	restore         func() // sets TMPDIR back
}

// newWorkspace unpacks the pipelines below the folder, and sets TMPDIR of this process.
func newWorkspace(folder string) (*workspace, error) {
	w := &workspace{pipelines: filepath.Join(folder, "pipelines"), temp: filepath.Join(folder, "tmp")}
	if err := os.Mkdir(w.temp, 0o700); err != nil {
		return nil, err
	}
	if err := unpack(w.pipelines); err != nil {
		return nil, err
	}
	before, wasSet := os.LookupEnv("TMPDIR")
	w.restore = func() {
		if wasSet {
			_ = os.Setenv("TMPDIR", before)
		} else {
			_ = os.Unsetenv("TMPDIR")
		}
	}
	return w, os.Setenv("TMPDIR", w.temp)
}

// unpack writes the pipelines and their Python files into a folder.
func unpack(folder string) error {
	sources, err := fs.Sub(embedded, "python")
	if err != nil {
		return err
	}
	if err := os.CopyFS(folder, sources); err != nil {
		return err
	}
	return os.Mkdir(filepath.Join(folder, stateFolder), 0o700)
}

// stateFolder holds what nodes record of their calls, below the folder of the pipelines.
const stateFolder = "state"

// executedFile returns the file in which the nodes of non-idempotent targets record
// their calls.
func (w *workspace) executedFile() string {
	return filepath.Join(w.pipelines, stateFolder, "executed")
}

// checkWorkersVisible returns an error if no process is found by its temporary folder
// while workers are alive: then no leaked process would be found either.
func (w *workspace) checkWorkersVisible() error {
	if len(procs.With("TMPDIR="+w.temp)) == 0 {
		return fmt.Errorf("no process has %s as its temporary folder, although workers are running", w.temp)
	}
	return nil
}

// resources are what this process and its descendants hold at one moment.
type resources struct {
	residue    procs.Residue
	goroutines int
	processes  []int // those with the temporary folder of the workspace
	files      []string
}

// resources counts what is held now.
func (w *workspace) resources() (resources, error) {
	runtime.GC()
	residue, err := procs.Look()
	if err != nil {
		return resources{}, err
	}
	held := resources{residue: residue, goroutines: runtime.NumGoroutine(), processes: procs.With("TMPDIR=" + w.temp)}
	files, err := os.ReadDir(w.temp)
	for _, file := range files {
		held.files = append(held.files, file.Name())
	}
	return held, err
}

// since describes what is held beyond what was held before.
func (r resources) since(before resources) []string {
	var leaks []string
	if err := r.residue.Since(before.residue); err != nil {
		leaks = append(leaks, err.Error())
	}
	if r.goroutines > before.goroutines {
		leaks = append(leaks, fmt.Sprintf("%d goroutines, %d before", r.goroutines, before.goroutines))
	}
	if len(r.processes) > len(before.processes) {
		leaks = append(leaks, fmt.Sprintf("processes %v", r.processes))
	}
	if len(r.files) > len(before.files) {
		leaks = append(leaks, fmt.Sprintf("temporary files %v", r.files))
	}
	return leaks
}

// leakTimeout is how long resources may take to be freed after all pipelines are closed:
// a goroutine that read from a worker, a killed process that the kernel has yet to end.
const leakTimeout = 10 * time.Second

// leaks waits until all resources are freed, and describes those that are not.
func (w *workspace) leaks(before resources) []string {
	for deadline := time.Now().Add(leakTimeout); ; time.Sleep(10 * time.Millisecond) {
		now, err := w.resources()
		if err != nil {
			return []string{err.Error()}
		}
		leaks := now.since(before)
		if leaks == nil || time.Now().After(deadline) {
			return leaks
		}
	}
}
