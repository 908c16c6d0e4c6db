package runner

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/gophersnake/gophersnake/pyworker"
	"github.com/gophersnake/gophersnake/runner/internal/doctor"
	"github.com/gophersnake/gophersnake/runner/internal/pyenv"
	"github.com/gophersnake/gophersnake/runner/manifest"
)

// Environment is a virtual environment that gophersnake built and keeps in the cache
// folder. Pipelines with the same requirements and interpreter share one.
type Environment struct {
	// Key identifies the environment in its cache folder. It is derived from the
	// interpreter and the requirements.
	Key string
	// Dir is the environment's folder.
	Dir string
	// Python is the path of the environment's interpreter.
	Python string
	// PythonVersion is the version of the interpreter, for instance "3.12.4". It is
	// empty if the environment is not built.
	PythonVersion string
	// Requirements are the requirement lines that the environment was built for,
	// without passwords. The worker's own requirements are not listed.
	Requirements []string
	// Created is when the environment was built. It is zero if the build is under
	// way or was interrupted.
	Created  time.Time
	LastUsed time.Time
	// Complete reports whether the environment can be used. If it is false and
	// Created is set, the interpreter that it was built with is gone, or a file is damaged.
	Complete bool
	// Damage says which file is missing or damaged; it is empty if none is. A runner that
	// needs the environment builds it again.
	Damage string
	// Size is the size of its files in bytes, including files that uv shares with
	// its own cache. Only [Environments] and [PruneEnvironments] set it.
	Size int64
}

// BuildProgress is the state of the build of an environment; see
// [WithBuildProgress].
type BuildProgress struct {
	// Stage is the current step, for instance "installing numpy, soxr and 2 more".
	Stage string
	// Line is the last line that the installer printed. It may be empty.
	Line string
}

// CacheDir returns the absolute path of the cache folder: dir if it is not empty,
// else the value of the environment variable GOPHERSNAKE_CACHE, else a folder in the
// user's cache folder. It does not create the folder.
func CacheDir(dir string) (string, error) {
	dir, err := pyenv.CacheDir(dir)
	if err != nil {
		return "", environmentError(err)
	}
	return dir, nil
}

// Environments lists the environments in a cache folder, most recently used first,
// including those whose build was interrupted. An empty cacheDir means the default
// one; see [CacheDir]. A folder that does not exist holds no environments. The sizes
// are computed from all files, which takes a moment for large environments.
func Environments(cacheDir string) ([]Environment, error) {
	cache, err := CacheDir(cacheDir)
	if err != nil {
		return nil, err
	}
	envs, err := pyenv.List(cache)
	if err != nil {
		return nil, environmentError(err)
	}
	return environmentsOf(envs), nil
}

// EnsureEnvironment returns a complete environment for the requirements, which are
// lines of a pip requirements file; paths in them are relative to the current folder.
// It builds the environment unless the cache folder has it, which may take minutes
// and use the network. If several processes ask for the same environment, one builds
// it and the others wait. If the build fails, or ctx ends, nothing is left behind.
//
// [WithPython], [WithCacheDir], [WithBuildProgress] and [WithLogger] apply; other
// options are ignored. A pipeline needs no call of this function: a [Runner] builds
// the environment of its pipeline.
func EnsureEnvironment(ctx context.Context, requirements []string, opts ...Option) (Environment, error) {
	o, base, err := findInterpreter(ctx, opts)
	if err != nil {
		return Environment{}, err
	}
	env, err := pyenv.Ensure(ctx, pyenv.Spec{
		Interpreter:  base,
		Requirements: requirements,
		CacheDir:     o.cacheDir,
		Progress:     o.progress,
		Logger:       o.logger.Named("environment"),
	})
	if err != nil {
		return Environment{}, classify(err)
	}
	return environmentOf(env), nil
}

// Interpreter is a Python interpreter on this machine.
type Interpreter struct {
	// Path is the absolute path of the program.
	Path string
	// Version is the version, for instance "3.12.4".
	Version string
	// Source says why the interpreter was chosen, for instance "--python" or
	// "python3 on PATH".
	Source string
}

// FindInterpreter returns the interpreter that a runner with the same options uses
// for a pipeline whose manifest names none: that of [WithPython], else that of the
// environment variable GOPHERSNAKE_PYTHON, else that of the active virtual
// environment, else the first one on PATH that is supported. It starts the
// interpreter unless the cache folder has its version already.
func FindInterpreter(ctx context.Context, opts ...Option) (Interpreter, error) {
	_, found, err := findInterpreter(ctx, opts)
	if err != nil {
		return Interpreter{}, err
	}
	return Interpreter{Path: found.Path, Version: found.Version.String(), Source: found.Source}, nil
}

// findInterpreter also returns the options, with the cache folder filled in.
func findInterpreter(ctx context.Context, opts []Option) (*options, pyenv.Interpreter, error) {
	o, err := newOptions(opts)
	if err != nil {
		return nil, pyenv.Interpreter{}, err
	}
	if o.cacheDir, err = CacheDir(o.cacheDir); err != nil {
		return nil, pyenv.Interpreter{}, err
	}
	found, err := pyenv.Find(ctx, pyenv.FindOptions{Explicit: o.python, CacheDir: o.cacheDir})
	if err != nil {
		return nil, pyenv.Interpreter{}, classify(err)
	}
	return o, found, nil
}

// PruneOptions says which environments [PruneEnvironments] removes. Without Keys, remains of
// interrupted builds are removed in any case.
type PruneOptions struct {
	// OlderThan is the least time since the last use of an environment. Zero
	// selects all environments, as All does.
	OlderThan time.Duration
	// All selects all environments, however recently used.
	All bool
	// Keys, if there are any, select these environments and no others, however recently
	// used; see [Runner.EnvironmentKeys].
	Keys []string
	// DryRun reports what would be removed, and removes nothing.
	DryRun bool
}

// PruneResult is what [PruneEnvironments] removed.
type PruneResult struct {
	// Removed are the environments that were removed or, in a dry run, would be.
	Removed []Environment
	// Kept are environments that were selected, but that a process is building or
	// runs workers in.
	Kept []Environment
	// Freed is the number of bytes that became free. It is less than the sum of the
	// sizes if uv's own cache still holds some of the files.
	Freed int64
}

// PruneEnvironments removes environments from a cache folder; an empty cacheDir means
// the default one. It keeps environments that a process is building or runs workers
// in. An environment that cannot be removed does not stop the others: the result is
// valid even if the error is not nil.
func PruneEnvironments(ctx context.Context, cacheDir string, o PruneOptions) (PruneResult, error) {
	cache, err := CacheDir(cacheDir)
	if err != nil {
		return PruneResult{}, err
	}
	done, err := pyenv.Prune(ctx, cache, pyenv.PruneOptions{OlderThan: o.OlderThan, All: o.All, Keys: o.Keys, DryRun: o.DryRun})
	result := PruneResult{Removed: environmentsOf(done.Removed), Kept: environmentsOf(done.Kept), Freed: done.Freed}
	if err != nil {
		return result, environmentError(err)
	}
	return result, nil
}

func environmentsOf(envs []pyenv.Environment) []Environment {
	converted := make([]Environment, len(envs))
	for i, env := range envs {
		converted[i] = environmentOf(env)
	}
	return converted
}

func environmentOf(env pyenv.Environment) Environment {
	e := Environment{
		Key: env.Key, Dir: env.Dir, Python: env.Python, Requirements: env.Requirements,
		Created: env.Created, LastUsed: env.LastUsed, Complete: env.Complete, Damage: env.Damage, Size: env.Size,
	}
	if !env.Created.IsZero() {
		e.PythonVersion = env.Interpreter.Version.String()
	}
	return e
}

// environmentError classifies an error of package pyenv, which may be a join of
// several: then the hint and the output are those of the first.
func environmentError(err error) *Error {
	kind := KindIO
	if isContextEnd(err) {
		kind = KindOther
	}
	e := Wrap(err, kind, "")
	if cause, ok := errors.AsType[*pyenv.Error](err); ok {
		e.Hint, e.StderrTail = cause.Hint, cause.Output
		if cause.Requirements {
			e.Kind = KindManifest
		}
	}
	return e
}

// EnvironmentKeys returns the keys of the environments that the pipeline's Python nodes
// require, whether they are built or not: that of the pipeline, unless each node has its own
// requirements, and those of these nodes. It starts the interpreters unless the cache folder
// has their versions already.
func (r *Runner) EnvironmentKeys(ctx context.Context) ([]string, error) {
	cache, err := pyenv.CacheDir(r.options.cacheDir)
	if err != nil {
		return nil, environmentError(err)
	}
	var keys []string
	for _, n := range r.pythonNodes() {
		if n.config.Container != nil {
			continue // its environment is in the image
		}
		base, err := pyenv.Find(ctx, pyenv.FindOptions{Explicit: r.options.python, Manifest: r.interpreter(n.config), CacheDir: cache})
		if err != nil {
			return nil, classify(err).WithNode(n.id)
		}
		key, err := pyenv.Key(r.environmentSpec(n.config, base, cache))
		if err != nil {
			return nil, classify(err).WithNode(n.id)
		}
		if !slices.Contains(keys, key) {
			keys = append(keys, key)
		}
	}
	return keys, nil
}

// install prepares what the workers of nodes run. Nodes with the same requirements and the
// same interpreter share an environment.
func (r *Runner) install(ctx context.Context, nodes []*node) (map[*node]python, error) {
	all := make(map[*node]python, len(nodes))
	prepared := make(map[string]python)
	for _, n := range nodes {
		key := fmt.Sprint(n.config.Container != nil) + r.interpreter(n.config) + "\n" + strings.Join(r.requirements(n.config), "\n")
		py, ok := prepared[key]
		if !ok {
			var err error
			if py, err = r.preparePython(ctx, n.config); err != nil {
				if hasOwnPython(n.config) || n.config.Container != nil {
					err = classify(err).WithNode(n.id)
				}
				return nil, err
			}
			prepared[key] = py
		}
		all[n] = py
	}
	return all, nil
}

// hasOwnPython reports whether a node may have another environment than the pipeline.
func hasOwnPython(n *manifest.Node) bool { return n.Interpreter != "" || len(n.Requirements) > 0 }

// requirements returns the requirements of a node: those of the pipeline and of its built-in
// node types, and its own.
func (r *Runner) requirements(n *manifest.Node) []string {
	all := slices.Clone(r.pipeline.Requirements)
	for _, each := range r.order {
		if each.builtin == nil {
			continue
		}
		for _, line := range each.builtin.Requirements {
			if !slices.Contains(all, line) {
				all = append(all, line)
			}
		}
	}
	return pyenv.Override(all, n.Requirements)
}

// interpreter returns the interpreter that the manifest names for a node. A relative path
// is relative to the manifest.
func (r *Runner) interpreter(n *manifest.Node) string {
	name := cmp.Or(n.Interpreter, r.pipeline.Interpreter)
	if strings.ContainsRune(name, filepath.Separator) && !filepath.IsAbs(name) {
		return filepath.Join(r.pipeline.Base, name)
	}
	return name
}

// addPackage makes the package importable for the interpreter of an environment, by a
// .pth file, and registers its plugin with pytest. Workers do not need it: they get the
// folder of the package as an argument.
func (py python) addPackage() error {
	const op = "add the package gophersnake to the environment"
	folders, err := filepath.Glob(filepath.Join(filepath.Dir(filepath.Dir(py.interpreter)), "lib", "python3*", "site-packages"))
	if err != nil || len(folders) == 0 {
		return NewError(KindIO, op+": it has no site-packages folder")
	}
	if installed, _ := filepath.Glob(filepath.Join(folders[0], "gophersnake-[0-9]*.dist-info", "RECORD")); len(installed) > 0 {
		return nil // the pipeline requires the package, and pip has installed it
	}
	// Tools find the entry points of a package in such a folder. Its name has no version, so
	// that the package of another version does not leave a second one.
	const info = "gophersnake.dist-info"
	for name, content := range map[string]string{
		"gophersnake.pth":          py.pkg + "\n",
		info + "/METADATA":         "Metadata-Version: 2.1\nName: gophersnake\nVersion: " + pyworker.Version() + "\n",
		info + "/entry_points.txt": pyworker.EntryPoints,
	} {
		if err := replaceFile(filepath.Join(folders[0], name), []byte(content)); err != nil {
			return Wrap(err, KindIO, op)
		}
	}
	return nil
}

// replaceFile replaces a file at once, unless it has the content already.
func replaceFile(path string, content []byte) error {
	if present, err := os.ReadFile(path); err == nil && bytes.Equal(present, content) {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		return err
	}
	file, err := os.CreateTemp(filepath.Dir(path), ".gophersnake-*")
	if err != nil {
		return err
	}
	defer os.Remove(file.Name()) // unless it was renamed
	_, err = file.Write(content)
	if err = errors.Join(err, file.Close()); err != nil {
		return err
	}
	return os.Rename(file.Name(), path)
}

// FindingStatus is the result of one check of [Diagnose].
type FindingStatus string

const (
	// FindingOK means that the check found no problem.
	FindingOK FindingStatus = "ok"
	// FindingWarning means that pipelines run, but slower or with fewer features;
	// for instance, they cannot isolate nodes.
	FindingWarning FindingStatus = "warn"
	// FindingFailure means that pipelines do not run.
	FindingFailure FindingStatus = "fail"
)

// Finding is the result of one check of [Diagnose].
type Finding struct {
	// Name identifies the check, for instance "python" or "open files". Each name
	// occurs once.
	Name   string        `json:"name"`
	Status FindingStatus `json:"status"`
	// Detail says what was found. It is never empty.
	Detail string `json:"detail"`
	// Hint says how to fix the problem. It is empty if there is none.
	Hint string `json:"hint,omitempty"`
}

// Diagnose checks whether this machine has what pipelines need, and returns one
// finding for each check: the interpreter, the tools that build environments, the
// operating system's sockets, limits and isolation mechanisms, and the cache folder.
// `gophersnake doctor` prints them.
//
// [WithPython], [WithSystemPython] and [WithCacheDir] apply; other options are
// ignored. Diagnose starts interpreters to ask for their versions, creates the cache
// folder if needed, and installs nothing. The error is not nil only if an option is
// invalid; what is wrong with the machine is in the findings.
func Diagnose(ctx context.Context, opts ...Option) ([]Finding, error) {
	o, err := newOptions(opts)
	if err != nil {
		return nil, err
	}
	found := doctor.Examine(ctx, doctor.Config{Python: o.python, SystemPython: o.systemPython, CacheDir: o.cacheDir})
	findings := make([]Finding, len(found))
	for i, f := range found {
		findings[i] = Finding{Name: f.Name, Status: FindingStatus(f.Status), Detail: f.Detail, Hint: f.Hint}
	}
	return findings, nil
}
