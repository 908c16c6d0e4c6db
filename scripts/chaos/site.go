package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/gophersnake/gophersnake/scripts/internal/procs"
)

// site is the folder of a run: the pipelines, and the temporary folder of all that
// is started, by which its processes and files can be told from others.
type site struct {
	pipelines, temp string
	leave           func() // sets the temporary folder back
}

func newSite(folder string) (*site, error) {
	s := &site{pipelines: filepath.Join(folder, "pipelines"), temp: filepath.Join(folder, "tmp")}
	if err := os.Mkdir(s.temp, 0o700); err != nil {
		return nil, err
	}
	if err := unpack(s.pipelines); err != nil {
		return nil, err
	}
	before, was := os.LookupEnv("TMPDIR")
	s.leave = func() {
		if was {
			os.Setenv("TMPDIR", before)
		} else {
			os.Unsetenv("TMPDIR")
		}
	}
	return s, os.Setenv("TMPDIR", s.temp)
}

// canTell says whether the workers, of which some live now, are found by their
// temporary folder: otherwise none would be found that is left behind.
func (s *site) canTell() error {
	if len(procs.With("TMPDIR="+s.temp)) == 0 {
		return fmt.Errorf("no process has %s for its temporary folder, though workers live", s.temp)
	}
	return nil
}

// holdings are what there is at one moment.
type holdings struct {
	residue    procs.Residue
	goroutines int
	related    []int // processes that have the site's temporary folder
	files      []string
}

func (s *site) look() (holdings, error) {
	runtime.GC()
	residue, err := procs.Look()
	if err != nil {
		return holdings{}, err
	}
	h := holdings{residue: residue, goroutines: runtime.NumGoroutine(), related: procs.With("TMPDIR=" + s.temp)}
	files, err := os.ReadDir(s.temp)
	for _, file := range files {
		h.files = append(h.files, file.Name())
	}
	return h, err
}

// since says what there is that was not there before.
func (h holdings) since(before holdings) []string {
	var left []string
	if err := h.residue.Since(before.residue); err != nil {
		left = append(left, err.Error())
	}
	if h.goroutines > before.goroutines {
		left = append(left, fmt.Sprintf("%d goroutines, before it were %d", h.goroutines, before.goroutines))
	}
	if len(h.related) > len(before.related) {
		left = append(left, fmt.Sprintf("the processes %v", h.related))
	}
	if len(h.files) > len(before.files) {
		left = append(left, fmt.Sprintf("the temporary files %v", h.files))
	}
	return left
}

// patience is how long what is on its way out may take: a goroutine that a closed
// process was read by, a killed process that the kernel still has to end.
const patience = 10 * time.Second

// left says what is left behind for good.
func (s *site) left(before holdings) []string {
	for until := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		now, err := s.look()
		if err != nil {
			return []string{err.Error()}
		}
		left := now.since(before)
		if left == nil || time.Now().After(until) {
			return left
		}
	}
}
