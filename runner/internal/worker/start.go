package worker

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"github.com/hashicorp/go-plugin/runner"

	"github.com/gophersnake/gophersnake/ipc"
)

// Stage is a step of a worker's start.
type Stage string

// The stages of a start, in order.
const (
	StageSpawn     Stage = "spawn"     // start the process
	StageHandshake Stage = "handshake" // wait for its announcement, connect, check the peer
	StageSetup     Stage = "setup"     // wait until its node is ready
)

// StartError says why a worker could not be started.
type StartError struct {
	// Stage is the step that failed.
	Stage Stage
	// Python is the interpreter.
	Python string
	// Cause is a *[ipc.RemoteError] if the worker itself reported what is wrong, a
	// *[Exit] if it ended without a report, else an error of the system or of the
	// protocol.
	Cause error
	// Exit is the autopsy of the process, nil if no process was started.
	Exit *Exit
}

func (e *StartError) Error() string {
	return fmt.Sprintf("%s: %v", e.Summary(), e.Cause)
}

// Summary says what happened, without the cause.
func (e *StartError) Summary() string {
	switch e.Stage {
	case StageSpawn:
		return "cannot run " + e.Python
	case StageHandshake:
		return "the worker did not start"
	}
	return "the worker could not set up its node"
}

// Unwrap returns the cause.
func (e *StartError) Unwrap() error { return e.Cause }

// Start starts a worker and returns once its node is ready for calls. Its error is
// a *[StartError], or wraps the context's error if the context ended first; no
// process is left then.
func Start(ctx context.Context, config Config) (*Worker, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	config.Setup.Limits.Result, config.Setup.Limits.OpenFiles = config.Limits.Result, config.Limits.OpenFiles
	w := &Worker{config: config, startedAt: time.Now(), done: make(chan struct{})}
	cmd := config.command()
	w.process = newProcess(cmd, config.Logger)
	w.process.sharesMemory = config.Setup.Shared != nil
	w.process.isolation = config.Isolation
	w.process.container = config.Container
	w.process.template = config.Template
	config.Template.awaitFirstStart(ctx)
	defer config.Template.restartIfDue()

	root, err := socketFolders.acquire()
	if err != nil {
		return nil, &StartError{Stage: StageSpawn, Python: config.Python, Cause: err}
	}
	defer socketFolders.release(root)
	w.socketRoot = root.path

	if w.needsSampling() {
		limitSampler.add(w)
	}
	stop := context.AfterFunc(ctx, func() { w.process.end(ReasonKilled) })
	timer := time.AfterFunc(config.StartTimeout, func() { w.process.end(ReasonStartTimeout) })

	stage, err := w.connect(ctx)
	inTime, notCanceled := timer.Stop(), stop()
	if err == nil && !(inTime && notCanceled) {
		// The process is being ended, so it cannot serve.
		stage, err = StageSetup, errors.New("the worker was ready too late")
		w.conn.Close()
	}
	if err != nil {
		err = w.startError(ctx, stage, err)
		limitSampler.remove(w)
	}
	if w.process.socketDir != "" {
		_ = os.RemoveAll(w.process.socketDir) // left only if the worker failed before removing it
	}
	if err != nil {
		return nil, err
	}
	w.isReady.Store(true)
	go w.awaitEnd()
	return w, nil
}

// connect takes the worker through the stages of its start. With an error it
// returns the stage that failed.
func (w *Worker) connect(ctx context.Context) (Stage, error) {
	socket, err := w.launch()
	if err != nil {
		w.process.closeChannel()
		if !w.process.wasStarted() {
			return StageSpawn, err
		}
		return StageHandshake, err
	}
	nc, err := ipc.Dial(ctx, socket, w.process.pid(), w.process.secret)
	if err != nil {
		w.process.closeChannel()
		return StageHandshake, err
	}
	settled := make(chan struct{})
	defer close(settled)
	go w.process.closeWhenGone(nc, settled)
	events := ipc.Events{Log: w.log, Progress: w.config.Progress}
	w.conn, _, w.description, err = ipc.Start(nc, w.process.channel, w.config.Setup, events)
	if err != nil {
		_ = nc.Close()
		return StageSetup, err
	}
	w.connDone = w.conn.Done()
	return "", nil
}

// startError ends the process of a start that failed and returns the error that
// says why it did.
func (w *Worker) startError(ctx context.Context, stage Stage, cause error) error {
	e := &StartError{Stage: stage, Python: w.config.Python, Cause: cause}
	if w.process.wasStarted() {
		fatal, _ := errors.AsType[*ipc.RemoteError](cause) // during a start, every error is fatal
		w.process.waitOrEnd(ReasonBroken)
		e.Exit = w.autopsy(fatal)
		// The error of the connection matters only if the process outlived it.
		if e.Exit.Remote == nil && e.Exit.Reason != ReasonBroken {
			e.Cause = e.Exit
		}
	}
	if fault := w.folderFault(e); fault != nil {
		e.Cause = fault
	}
	if ctx.Err() != nil {
		return fmt.Errorf("start a worker: %w", context.Cause(ctx))
	}
	return e
}

// folderFault returns an error if a start failed because no file could be made in the folder
// for the sockets, by this process or by the worker, which then ends with a traceback.
func (w *Worker) folderFault(e *StartError) *TemporaryFolderError {
	fault := &TemporaryFolderError{Folder: filepath.Dir(w.socketRoot)}
	if path, ok := errors.AsType[*fs.PathError](e.Cause); ok && strings.HasPrefix(path.Path, w.socketRoot) {
		fault.Cause = path
		return fault
	}
	if e.Exit == nil || e.Stage != StageHandshake {
		return nil
	}
	said := regexp.MustCompile(`\[Errno (\d+)\] [^:\n]*: '` + regexp.QuoteMeta(w.socketRoot)).FindStringSubmatch(e.Exit.Stderr)
	if said == nil {
		return nil
	}
	number, _ := strconv.Atoi(said[1])
	fault.Cause = syscall.Errno(number)
	return fault
}

// handshake is go-plugin's configuration. A worker that a person runs by hand finds
// no cookie in its environment: it then explains itself instead of waiting for a
// supervisor.
var handshake = plugin.HandshakeConfig{
	ProtocolVersion:  1,
	MagicCookieKey:   "GOPHERSNAKE_WORKER",
	MagicCookieValue: "b3d1c2f0",
}

// supervisorVariable is the environment variable with the process id of the supervisor. A
// worker's parent is its reaper, so os.getppid() is another one for each worker.
const supervisorVariable = "GOPHERSNAKE_SUPERVISOR"

// environment returns a copy of Env, and the supervisor's variable.
func (c *Config) environment() []string {
	return append(slices.Clone(c.Env), supervisorVariable+"="+strconv.Itoa(os.Getpid()))
}

// command returns the command of a worker or a template. The package's program is named in full,
// because an interpreter imports runpy to run a folder.
func (c *Config) command() *exec.Cmd {
	cmd := exec.Command(c.Python, filepath.Join(c.Package, "__main__.py"))
	cmd.Dir = c.Setup.Base
	return cmd
}

// launch makes go-plugin start the process and returns the socket that the worker
// announced. It uses nothing of go-plugin after that: go-plugin neither connects to
// the worker nor ends it.
func (w *Worker) launch() (string, error) {
	client := plugin.NewClient(&plugin.ClientConfig{
		HandshakeConfig:  handshake,
		Plugins:          plugin.PluginSet{},
		AllowedProtocols: []plugin.Protocol{"msgpack"},
		StartTimeout:     w.config.StartTimeout + time.Minute, // our own timeout comes first, and dumps the stacks
		SkipHostEnv:      true,
		Logger:           pluginLogger{w.config.Logger, w.process},
		UnixSocketConfig: &plugin.UnixSocketConfig{TempDir: w.socketRoot},
		RunnerFunc: func(_ hclog.Logger, spec *exec.Cmd, socketDir string) (runner.Runner, error) {
			w.process.cmd.Env = append(w.config.environment(), spec.Env...)
			w.process.pluginEnv, w.process.socketDir = spec.Env, socketDir
			return w.process, nil
		},
	})
	addr, err := client.Start()
	if err != nil {
		return "", err
	}
	return addr.String(), nil
}
