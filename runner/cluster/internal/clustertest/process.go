// Package clustertest has what the tests of package cluster and of the packages below it share:
// the test program as a NATS server, a machine or a client in a process of its own, NATS servers
// that form a cluster, and pipelines with the nodes in testdata. Only tests import it.
package clustertest

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/runner/internal/testkit"
)

// roleVariable gives the test program a role in place of the tests. Its settings are JSON in
// settingsVariable.
const (
	roleVariable     = "GOPHERSNAKE_CLUSTER_ROLE"
	settingsVariable = "GOPHERSNAKE_CLUSTER_SETTINGS"
)

// serverRole is the role of a NATS server, which each test program has.
const serverRole = "server"

// Settings are those of a process that the tests start. Each role reads those that it needs.
type Settings struct {
	Name      string            // of the machine or the server
	URLs      []string          // of the NATS servers
	Pipelines map[string]string // the nodes of each manifest
	Manifests map[string]string // the files of further manifests, by the names of the pipelines
	Labels    map[string]string
	Protocol  int // of a machine; 0 for that of this program

	// AckWait and Begins are those of the jobs.
	AckWait time.Duration
	Begins  int
	// Webhooks says that a machine posts those of jobs.
	Webhooks bool

	Port, ClusterPort int    // of a server
	Routes            string // to the other servers
	StateDir          string // a server without one has no JetStream
	SyncAlways        bool
	Listen            string // the default is 127.0.0.1

	Folder string // for the node hold, of a client
}

// Main runs the tests, or the role that the process was started in, and exits. A TestMain calls
// it. A role prints "ready" when it is.
func Main(m *testing.M, roles map[string]func(Settings) error) {
	if role := os.Getenv(roleVariable); role != "" {
		if err := play(role, roles); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(testkit.WithPackage(func(packageDir string) int {
		os.Setenv("PYTHONPATH", packageDir)
		return m.Run()
	}))
}

// play runs a role until it ends.
func play(name string, roles map[string]func(Settings) error) error {
	var s Settings
	if err := json.Unmarshal([]byte(os.Getenv(settingsVariable)), &s); err != nil {
		return err
	}
	if name == serverRole {
		return serve(s)
	}
	role := roles[name]
	if role == nil {
		return errors.New("this test program has no role " + name)
	}
	return role(s)
}

// Process is a process of the test program in another role.
type Process struct {
	t     testing.TB
	cmd   *exec.Cmd
	stdin io.WriteCloser
	lines chan string // closed when its output ends
	done  chan struct{}
}

// Start starts a process and waits until it says that it is ready. The test fails if it does not.
// Its command line begins with wrap, if there is one. The end of the test kills it.
func Start(t testing.TB, role string, s Settings, wrap ...string) *Process {
	t.Helper()
	p, err := TryStart(t, role, s, wrap...)
	require.NoError(t, err)
	return p
}

// TryStart is Start, but returns an error if the process does not say that it is ready.
func TryStart(t testing.TB, role string, s Settings, wrap ...string) (*Process, error) {
	doc, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	args := slices.Concat(wrap, []string{os.Args[0]})
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = append(os.Environ(), roleVariable+"="+role, settingsVariable+"="+string(doc), "MACHINE="+s.Name)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	p := &Process{t: t, cmd: cmd, lines: make(chan string, 100), done: make(chan struct{})}
	if p.stdin, err = cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		for scanner := bufio.NewScanner(out); scanner.Scan(); {
			p.lines <- scanner.Text()
		}
		close(p.lines)
		_ = cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(p.Kill)
	line, err := p.next()
	if err == nil && line != "ready" {
		err = fmt.Errorf("it says %q", line)
	}
	if err != nil {
		return nil, fmt.Errorf("the %s %s does not start: %w", role, s.Name, err)
	}
	return p, nil
}

// next returns the next line of the process's output.
func (p *Process) next() (string, error) {
	select {
	case line, ok := <-p.lines:
		if !ok {
			return "", errors.New("the process has ended")
		}
		return line, nil
	case <-time.After(testkit.Long):
		return "", errors.New("the process says nothing")
	}
}

// Line returns the next line of the process's output. The test fails if there is none.
func (p *Process) Line() string {
	p.t.Helper()
	line, err := p.next()
	require.NoError(p.t, err)
	return line
}

// Say sends a line to the process.
func (p *Process) Say(line string) {
	p.t.Helper()
	_, err := io.WriteString(p.stdin, line+"\n")
	require.NoError(p.t, err)
}

// Signal sends a signal to the process.
func (p *Process) Signal(s syscall.Signal) { _ = syscall.Kill(p.cmd.Process.Pid, s) }

// Kill ends the process as a crash does, and waits for its end.
func (p *Process) Kill() {
	p.Signal(syscall.SIGKILL)
	<-p.done
}
