package runner

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner/internal/isolation"
	"github.com/gophersnake/gophersnake/runner/internal/worker"
	"github.com/gophersnake/gophersnake/runner/manifest"
)

// isolatedMemory bounds the memory of an isolated node's worker where the manifest
// does not.
const isolatedMemory = 4 << 30

// isolate has a node's workers started as its isolation says, where it has one.
func (r *Runner) isolate(config *worker.Config, n *manifest.Node, py python) {
	i := n.Isolation
	if i == nil {
		return
	}
	if config.Setup.Limits.Memory == 0 {
		config.Setup.Limits.Memory = isolatedMemory
	}
	profile := &isolation.Profile{
		Read:      append(r.inBase(i.Read), r.pipeline.Base, py.pkg),
		Write:     r.inBase(i.Write),
		Network:   i.Network,
		Signals:   i.Signals,
		Processes: i.Processes,
		CPUs:      i.CPUs,
		Memory:    config.Setup.Limits.Memory,
	}
	profile.Read = append(profile.Read, pythonPlaces(py.interpreter, config.Env)...)
	config.Isolation = profile
	config.Setup.Isolation = &ipc.SetupIsolation{
		Read: profile.Read, Write: profile.Write, Network: i.Network, Signals: i.Signals, Processes: i.Processes,
	}
}

// inBase makes paths absolute that are relative to the pipeline's folder.
func (r *Runner) inBase(paths []string) []string {
	var absolute []string
	for _, path := range paths {
		if !filepath.IsAbs(path) {
			path = filepath.Join(r.pipeline.Base, path)
		}
		absolute = append(absolute, filepath.Clean(path))
	}
	return absolute
}

// pythonPlaces are the files and folders that an interpreter reads besides those of
// the system: its own, its environment's, and what variables name.
func pythonPlaces(interpreter string, env []string) []string {
	variables := make(map[string]string)
	for _, entry := range env {
		name, value, _ := strings.Cut(entry, "=")
		variables[name] = value
	}
	var places []string
	program := interpreter
	if real, err := filepath.EvalSymlinks(interpreter); err == nil {
		program = real
	}
	places = append(places, program)
	places = append(places, installed(filepath.Dir(filepath.Dir(program)))...)
	environment := filepath.Dir(filepath.Dir(interpreter))
	if home, ok := homeOf(environment); ok {
		places = append(places, environment)
		places = append(places, installed(filepath.Dir(home))...)
	} else {
		places = append(places, installed(environment)...)
		packages, _ := filepath.Glob(filepath.Join(variables["HOME"], ".local/lib/python3.*/site-packages"))
		places = append(places, packages...)
	}
	for _, name := range []string{"PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH"} {
		for _, each := range filepath.SplitList(variables[name]) {
			if filepath.IsAbs(each) {
				places = append(places, each)
			}
		}
	}
	places = slices.DeleteFunc(places, func(path string) bool {
		_, err := os.Stat(path)
		return err != nil
	})
	slices.Sort(places)
	return slices.Compact(places)
}

// installed are the folders of an installation that a program of it reads, whatever
// else lies in the same place.
func installed(prefix string) []string {
	var folders []string
	for _, name := range []string{"lib", "lib64", "share", "ssl"} {
		folders = append(folders, filepath.Join(prefix, name))
	}
	return folders
}

// homeOf returns the folder of the interpreter that a virtual environment was made
// of; it is false where the folder is no virtual environment.
func homeOf(environment string) (string, bool) {
	settings, err := os.ReadFile(filepath.Join(environment, "pyvenv.cfg"))
	if err != nil {
		return "", false
	}
	for line := range strings.Lines(string(settings)) {
		if key, value, _ := strings.Cut(line, "="); strings.TrimSpace(key) == "home" {
			home := strings.TrimSpace(value)
			if real, err := filepath.EvalSymlinks(home); err == nil {
				home = real
			}
			return home, true
		}
	}
	return "", true
}
