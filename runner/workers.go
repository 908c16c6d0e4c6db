package runner

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner/internal/container"
	"github.com/gophersnake/gophersnake/runner/internal/isolation"
	"github.com/gophersnake/gophersnake/runner/internal/lifeline"
	"github.com/gophersnake/gophersnake/runner/internal/pyenv"
	"github.com/gophersnake/gophersnake/runner/internal/reloading"
	"github.com/gophersnake/gophersnake/runner/internal/worker"
	"github.com/gophersnake/gophersnake/runner/manifest"
)

// passedByDefault are the variables of the host's environment that every worker gets:
// those about the search for programs, the language, the location of files, and the
// libraries' use of the machine. None of them usually holds a secret; those that may
// must be named. docs/isolation.md has the same list.
var passedByDefault = []string{
	"PATH", "HOME", "USER", "LOGNAME", "SHELL", "TERM", "COLORTERM", "NO_COLOR", "FORCE_COLOR", "DISPLAY", "WAYLAND_DISPLAY", "PULSE_SERVER",
	"LANG", "LANGUAGE", "LC_*", "TZ", "TZDIR", "TMPDIR", "TEMP", "TMP", "XDG_*",
	"PYTHON*", "VIRTUAL_ENV", "CONDA_PREFIX", "MPLBACKEND", "MPLCONFIGDIR",
	"LD_LIBRARY_PATH", "LD_PRELOAD", "DYLD_*", "MALLOC_*", "GLIBC_TUNABLES",
	"SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE",
	"OMP_*", "GOMP_*", "KMP_*", "MKL_*", "OPENBLAS_*", "GOTO_*", "BLIS_*", "VECLIB_*", "NUMEXPR_*", "NUMBA_*", "ORT_*",
	"CUDA_*", "NVIDIA_*", "NCCL_*", "HIP_*", "ROCR_*", "HSA_*", "TORCH_*", "PYTORCH_*", "XLA_*", "TF_CPP_*", "TF_ENABLE_*", "TF_FORCE_*",
	"HF_HOME", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "HF_DATASETS_CACHE", "TRANSFORMERS_CACHE", "TRANSFORMERS_OFFLINE", "TOKENIZERS_PARALLELISM",
	"ALSA_*", "ESPEAK_DATA_PATH", "FONTCONFIG_*", "GDAL_DATA", "PROJ_LIB", "PROJ_DATA",
}

// workerEnv returns the environment of a node's workers: the variables of the host's
// that are passed, and those that the manifest adds. A relative TMPDIR becomes absolute,
// since workers run in another folder.
func workerEnv(n *manifest.Node, pass []string) []string {
	named, usual := slices.Concat(pass, n.PassEnv), passedByDefault
	if n.Container != nil {
		usual = passedToContainers
	}
	var env []string
	for _, entry := range os.Environ() {
		name, value, _ := strings.Cut(entry, "=")
		if !matches(name, named) && (!matches(name, usual) || slices.Contains(pyenv.BreakingVariables, name)) {
			continue
		}
		if folder, err := filepath.Abs(value); name == "TMPDIR" && value != "" && err == nil {
			entry = name + "=" + folder
		}
		env = append(env, entry)
	}
	for _, name := range slices.Sorted(maps.Keys(n.Env)) {
		env = append(env, name+"="+n.Env[name]) // of several entries, the last one counts
	}
	return env
}

// passedToContainers are the variables of the host's environment that a worker in a container
// gets: the other ones name files and programs of the host.
var passedToContainers = []string{"LANG", "LANGUAGE", "LC_*", "TZ", "NO_COLOR", "FORCE_COLOR"}

// container returns the container of a node's workers, nil if they run outside of one.
func (r *Runner) container(n *manifest.Node, py python) *container.Container {
	c := n.Container
	if c == nil {
		return nil
	}
	inside := &container.Container{
		Program: py.interpreter, Image: c.Image, Python: c.Python, Network: c.Network,
		Memory: c.Memory, CPUs: c.CPUs, SharedMemory: c.SharedMemory,
	}
	for _, m := range c.Mounts {
		inside.Mounts = append(inside.Mounts, container.Mount{Host: r.inBase([]string{m.Host})[0], Path: m.Path, Write: m.Write})
	}
	return inside
}

// startHint returns a hint for a node whose workers end before they announce themselves.
func (r *Runner) startHint(n *node) string {
	if c := n.config.Container; c != nil {
		return "the output says what podman or the image lacks: the image needs Python 3.10 or newer with msgpack; `podman run --rm " + c.Image + " " + c.Python + " -c 'import msgpack'` tries it"
	}
	return breakingVariableHint(workerEnv(n.config, r.options.passEnv))
}

// withheldVariables returns those of [pyenv.BreakingVariables] that the host has and that no node of the
// pipeline gets.
func (r *Runner) withheldVariables() []string {
	var named []string
	for i := range r.pipeline.Nodes {
		named = append(named, r.pipeline.Nodes[i].PassEnv...)
	}
	return slices.DeleteFunc(slices.Clone(pyenv.BreakingVariables), func(name string) bool {
		return os.Getenv(name) == "" || matches(name, named) || matches(name, r.options.passEnv)
	})
}

// breakingVariableHint returns the hint for an interpreter that did not start, if its
// environment has one of [pyenv.BreakingVariables]; otherwise it is empty.
func breakingVariableHint(env []string) string {
	var found []string
	for _, entry := range env {
		if name, value, _ := strings.Cut(entry, "="); value != "" && slices.Contains(pyenv.BreakingVariables, name) && !slices.Contains(found, name) {
			found = append(found, name)
		}
	}
	if len(found) == 0 {
		return ""
	}
	return "correct or remove " + strings.Join(found, ", ") + " from the environment of the node (env or pass_env in the manifest), which can keep Python from starting"
}

// matches reports whether a variable's name matches one of the patterns.
func matches(name string, patterns []string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		ok, err := path.Match(pattern, name)
		return ok && err == nil
	})
}

// missingVariableHint returns the hint for a KeyError of os.environ if the host has
// the variable and does not pass it, and "" for other errors. It does not disclose the
// value.
func missingVariableHint(r *ipc.RemoteError) string {
	if r.Class != "KeyError" || len(r.Frames) == 0 {
		return ""
	}
	frame := r.Frames[len(r.Frames)-1]
	if frame.Function != "__getitem__" || frame.File != "<frozen os>" && path.Base(frame.File) != "os.py" {
		return "" // the key of another mapping
	}
	name := strings.Trim(r.Message, `'"`)
	if _, ok := os.LookupEnv(name); !ok || matches(name, passedByDefault) && !slices.Contains(pyenv.BreakingVariables, name) {
		return ""
	}
	return "the host has " + name + ", but does not pass it on: name it in the node's pass_env in the manifest"
}

// Limits of an isolated worker if the manifest sets none.
const (
	isolatedMemory    = 4 << 30
	isolatedOpenFiles = 1024 // most systems' own default; it also bounds the buffers of sockets and pipes
)

// isolatedThreads returns the limit of the threads of an isolated worker if the manifest
// sets none. Each of the numerical libraries that a node uses starts about as many threads
// as there are CPUs; few nodes use four of them.
func isolatedThreads() int { return max(256, 4*runtime.NumCPU()) }

// isolate adds the isolation that a node's manifest asks for, if any, to the
// configuration of its workers.
func (r *Runner) isolate(config *worker.Config, n *manifest.Node, py python) {
	i := n.Isolation
	if i == nil {
		return
	}
	if config.Setup.Limits.Memory == 0 {
		config.Setup.Limits.Memory = isolatedMemory
	}
	if config.Limits.OpenFiles == 0 {
		config.Limits.OpenFiles = isolatedOpenFiles
	}
	if config.Limits.Threads == 0 && i.Processes <= 0 { // a number of processes includes threads
		config.Limits.Threads = isolatedThreads()
	}
	profile := &isolation.Profile{
		Read:      append(r.inBase(i.Read), r.pipeline.Base, py.pkg),
		Write:     r.inBase(i.Write),
		Network:   i.Network,
		Signals:   i.Signals,
		Processes: i.Processes,
		CPUs:      i.CPUs,
		Memory:    config.Setup.Limits.Memory,
		Threads:   config.Limits.Threads,
	}
	profile.Read = append(profile.Read, pythonPaths(py.interpreter, config.Env)...)
	config.Isolation = profile
	config.Setup.Isolation = &ipc.SetupIsolation{
		Read: profile.Read, Write: profile.Write, Network: i.Network, Signals: i.Signals, Processes: i.Processes,
	}
}

// inBase makes paths absolute. They are relative to the pipeline's folder.
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

// pythonPaths returns the files and folders outside the system's that an interpreter
// reads: its own, those of its virtual environment, and those that variables in env
// name. Paths that do not exist are left out.
func pythonPaths(interpreter string, env []string) []string {
	variables := make(map[string]string)
	for _, entry := range env {
		name, value, _ := strings.Cut(entry, "=")
		variables[name] = value
	}
	program := interpreter
	if target, err := filepath.EvalSymlinks(interpreter); err == nil {
		program = target
	}
	paths := append([]string{program}, librariesIn(filepath.Dir(filepath.Dir(program)))...)
	environment := filepath.Dir(filepath.Dir(interpreter))
	if home, ok := baseOfVenv(environment); ok {
		paths = append(paths, environment)
		paths = append(paths, librariesIn(filepath.Dir(home))...)
	} else {
		paths = append(paths, librariesIn(environment)...)
		userPackages, _ := filepath.Glob(filepath.Join(variables["HOME"], ".local/lib/python3.*/site-packages"))
		paths = append(paths, userPackages...)
	}
	for _, name := range []string{"PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH"} {
		for _, each := range filepath.SplitList(variables[name]) {
			if filepath.IsAbs(each) {
				paths = append(paths, each)
			}
		}
	}
	paths = slices.DeleteFunc(paths, func(path string) bool {
		_, err := os.Stat(path)
		return err != nil
	})
	slices.Sort(paths)
	return slices.Compact(paths)
}

// librariesIn returns the folders, below an installation prefix, that a program reads.
// The prefix itself may hold unrelated files.
func librariesIn(prefix string) []string {
	var folders []string
	for _, name := range []string{"lib", "lib64", "share", "ssl"} {
		folders = append(folders, filepath.Join(prefix, name))
	}
	return folders
}

// baseOfVenv returns the folder of the interpreter that a virtual environment is based
// on. It returns false if the folder is not a virtual environment.
func baseOfVenv(folder string) (string, bool) {
	settings, err := os.ReadFile(filepath.Join(folder, "pyvenv.cfg"))
	if err != nil {
		return "", false
	}
	for line := range strings.Lines(string(settings)) {
		if key, value, _ := strings.Cut(line, "="); strings.TrimSpace(key) == "home" {
			home := strings.TrimSpace(value)
			if target, err := filepath.EvalSymlinks(home); err == nil {
				home = target
			}
			return home, true
		}
	}
	return "", true
}

// runAs runs a command to its end, and kills what is left of its process group. It is
// isolated unless the profile is nil.
func runAs(cmd *exec.Cmd, profile *isolation.Profile) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	if profile == nil {
		return lifeline.Run(cmd, nil)
	}
	var sandbox *isolation.Sandbox
	defer func() { sandbox.Remove() }()
	return lifeline.Run(cmd, func() (err error) {
		sandbox, err = profile.Start(cmd)
		return err
	})
}

// Reload makes nodes read their Python code again: the named nodes, or all Python
// nodes if there are no names. It starts new workers with the code as it is now. When
// all of them are ready, new calls go to them, and the old workers end after the
// calls that they have. Nothing in progress is interrupted. A stream stays with the
// old worker of a stateful node; the next items of its other nodes go to new workers. Nodes
// that are fused are reloaded together.
//
// If a new worker cannot start, or the code no longer fits the pipeline, nothing is
// changed and the error says why. New code must not change whether a node takes an
// input, yields one value or many, or is stateful. The manifest and the environment
// are not read again.
//
// Before the runner has been started there is nothing to reload, and Reload returns
// nil.
func (r *Runner) Reload(ctx context.Context, nodes ...string) error {
	chosen, err := r.reloadable(nodes)
	if err != nil {
		return err
	}
	if err := r.lockStarting(ctx); err != nil {
		return err
	}
	defer r.unlockStarting()
	r.mu.RLock()
	started, draining, closed := r.started, r.draining, r.closed
	r.mu.RUnlock()
	switch {
	case closed:
		return errClosed()
	case draining:
		return errDraining()
	case !started:
		return nil
	}
	now := time.Now()
	if err := reloading.DropStaleBytecode(r.pipeline, r.loaded); err != nil {
		r.options.logger.Warn("an edit within a second of another one may have no effect", "error", err)
	}
	r.loaded, r.templates = now, worker.NewTemplates()
	return r.reloadAll(ctx, chosen)
}

// reloadable returns the nodes with the given names, or all Python nodes if there are
// no names.
func (r *Runner) reloadable(names []string) ([]*node, error) {
	if len(names) == 0 {
		return slices.DeleteFunc(r.pythonNodes(), func(n *node) bool { return !n.leads() }), nil
	}
	var chosen []*node
	for _, name := range names {
		n := r.nodes[name]
		switch {
		case n == nil:
			return nil, NewError(KindManifest, fmt.Sprintf("there is no node %q to reload", name))
		case !n.isPython():
			return nil, NewError(KindManifest, fmt.Sprintf("its kind is %s, so there is no Python code to read again", n.kind())).WithNode(name).WithOperation("reload")
		}
		if n.chain != nil {
			n = n.chain.node // its worker runs all of them
		}
		if !slices.Contains(chosen, n) {
			chosen = append(chosen, n)
		}
	}
	return chosen, nil
}

// reloadAll reloads nodes concurrently, all of them or none.
func (r *Runner) reloadAll(ctx context.Context, nodes []*node) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	vote := reloading.NewVote(len(nodes))
	faults := make([]error, len(nodes))
	var pending sync.WaitGroup
	for i, n := range nodes {
		pending.Go(func() {
			var fresh ipc.Description
			err := n.pool.Reload(ctx, r.workerConfig(n, n.installed), func(d ipc.Description) error {
				fresh = d
				if err := n.checkReload(d); err != nil {
					return err
				}
				return vote.Approve(ctx)
			})
			if err == nil {
				faults[i] = n.describedAs(fresh)
				return
			}
			vote.Reject()
			cancel(reloading.ErrRejected) // the workers that the others are starting are not needed
			if !errors.Is(err, reloading.ErrRejected) {
				faults[i] = classify(err).WithNode(n.memberOf(err).id).WithOperation("reload")
			}
		})
	}
	pending.Wait()
	return joinFaults(faults)
}

// checkInputs returns an error if a connection leads to the node but its code takes
// no input. The worker checks the ports itself.
func (n *node) checkInputs(d ipc.Description) error {
	if len(d.Inputs) > 0 || len(n.inputs) == 0 {
		return nil
	}
	text := fmt.Sprintf("%s takes no input, but the result of %q is connected to it", d.Name, n.inputs[0].From)
	return NewError(KindManifest, text).WithNode(n.id).
		WithHint("give its Python code a first parameter, or remove the connection")
}

// checkReload returns an error if new code of the node does not fit the pipeline as it
// was started.
func (n *node) checkReload(d ipc.Description) error {
	if n.chain != nil && len(d.Members) > 0 {
		if err := n.chain.checkMembers(d); err != nil {
			return err
		}
		for i, m := range n.chain.members {
			if err := m.checkReload(d.Members[i]); err != nil {
				return AsError(err).WithNode(m.id)
			}
		}
		return nil
	}
	if err := n.checkInputs(d); err != nil {
		return err
	}
	before := n.description.Load()
	var change string
	switch {
	case n.noInput != (len(d.Inputs) == 0):
		change = "whether it takes an input"
	case before.Stateful != d.Stateful:
		change = "whether it is stateful"
	case before.Many != d.Many:
		change = "whether it gives many values"
	default:
		return nil
	}
	return NewError(KindManifest, "the new code changes "+change+", which runs and streams rely on").
		WithHint("start the pipeline anew")
}

// Capacity returns how many calls of nodes the workers can have under way, with all workers that
// the nodes may have. If a node is a Go function, there is no limit, and the result is
// [math.MaxInt]. It may change when code is loaded. It may be called at any time and is cheap.
func (r *Runner) Capacity() int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	total := 0
	for _, n := range r.nodes {
		switch {
		case !n.leads():
		case n.pool != nil:
			total += n.pool.Capacity()
		case n.isPython() || n.config.Wasm != nil || n.config.Command != nil:
			total += n.config.Workers.Max
		default:
			return math.MaxInt
		}
	}
	return total
}
