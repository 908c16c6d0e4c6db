package worker

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/gophersnake/gophersnake/runner/internal/testkit"
)

func TestWorkersOutliveTheirTemplate(t *testing.T) {
	t.Parallel()
	config := forking(t, "look")
	log := &logBuffer{}
	config.Template.config.Logger = logTo(log)
	w, other := start(t, config), start(t, config)
	template := templateOf(w)
	kill(t, template)
	awaitTemplate(t, config.Template, isGone)
	assert.True(t, testkit.Gone(template))
	assert.Contains(t, config.Template.Note(), "the template died: the interpreter was killed by SIGKILL")
	assert.Equal(t, 1, log.count("workers are started without a template"))

	assertServes(t, w)
	kill(t, w.PID())
	<-w.Done()
	exit := w.Exit()
	assert.False(t, exit.Unknown, "its reaper knows")
	assert.Equal(t, -1, exit.Code)
	assert.Equal(t, syscall.SIGKILL, exit.Signal)
	assert.Equal(t, ReasonSelf, exit.Reason)

	assertServes(t, other)
	other.Close(t.Context())
	assert.Equal(t, ReasonShutdown, other.Exit().Reason)

	spawned := start(t, config) // after which a template is started
	assertSpawned(t, spawned)
	awaitTemplate(t, config.Template, isReady)
	assert.Empty(t, config.Template.Note())
	again := start(t, config)
	assertForked(t, again)
	assert.NotEqual(t, template, templateOf(again))
}

func TestTheEndOfAWorkerWithoutItsTemplateIsExplained(t *testing.T) {
	t.Parallel()
	config := withTemplate(t, testConfig(t, "misbehave"))
	w := start(t, config)
	kill(t, templateOf(w))
	awaitTemplate(t, config.Template, isGone)
	_, err := call(t.Context(), w, way("crash"))
	require.Error(t, err)
	<-w.Done()
	exit := w.Exit()
	assert.False(t, exit.Unknown)
	assert.Equal(t, syscall.SIGSEGV, exit.Signal)
	require.NotEmpty(t, exit.Traceback)
	assert.Equal(t, "string_at", exit.Traceback[len(exit.Traceback)-1].Function)
	assert.Contains(t, exit.Dump, "Segmentation fault")
}

func TestATemplateThatHangsIsEnded(t *testing.T) {
	t.Parallel()
	config := forking(t, "look")
	w := start(t, config)
	template := templateOf(w)
	require.NoError(t, syscall.Kill(template, syscall.SIGSTOP))
	config.Template.server.answerTimeout = 50 * time.Millisecond
	spawned := start(t, config)
	assertSpawned(t, spawned)
	assertServes(t, spawned)
	awaitDeath(t, template)
	awaitTemplate(t, config.Template, isReady)
	assertForked(t, start(t, config))
	assertServes(t, w)
}

func TestATemplateThatHangsDoesNotHoldAnAutopsyUp(t *testing.T) {
	t.Parallel()
	config := forking(t, "look")
	w := start(t, config)
	require.NoError(t, syscall.Kill(templateOf(w), syscall.SIGSTOP))
	config.Template.server.answerTimeout = 50 * time.Millisecond
	w.Kill()
	assert.False(t, w.Exit().Unknown, "its reaper knows")
	assert.Equal(t, ReasonKilled, w.Exit().Reason)
	awaitTemplate(t, config.Template, isGone)
	assert.Contains(t, config.Template.Note(), "the template did not answer in time")
}

func TestATemplateThatBreaksItsProtocolIsEnded(t *testing.T) {
	for _, c := range []struct{ way, says string }{
		{"garbage", "violated the protocol: msgpack"},
		{"nothing", "violated the protocol: it does not say whether it is ready"},
		{"silence", "did not answer in time"},
		{"garbled fork", "violated the protocol: msgpack"},
		{"forks nobody", "violated the protocol: pidfd_open: invalid argument"},
		{"forks its parent", "is a child of process " + strconv.Itoa(os.Getpid()) + ", not of "},
		{"forks the dead", "violated the protocol: pidfd_open: no such process"},
		{"closes", "was killed by the supervisor"},
		{"dies", "SIGKILL"},
		{"takes the socket and dies", "SIGKILL"},
	} {
		t.Run(c.way, func(t *testing.T) {
			t.Parallel()
			config := testConfig(t, "echo")
			config.Package = filepath.Join(config.Setup.Base, "evil_template")
			config.Env = append(config.Env, "EVIL="+c.way, "PACKAGE="+packageDir)
			template := NewTemplate(config)
			template.firstRestartDelay = time.Hour
			if c.way == "silence" {
				template.config.StartTimeout = time.Second
			} else {
				template.answerTimeout = long
			}
			defer template.Close()
			config.Template = template
			w := start(t, config)
			assertSpawned(t, w)
			assertServes(t, w)
			awaitTemplate(t, template, isGone)
			assert.Contains(t, template.Note(), c.says)
		})
	}
}

func TestATemplateThatRefusesOnceIsKept(t *testing.T) {
	t.Parallel()
	config := testConfig(t, "echo")
	config.Package = filepath.Join(config.Setup.Base, "evil_template")
	config.Env = append(config.Env, "EVIL=refuses", "PACKAGE="+packageDir)
	log := &logBuffer{}
	config.Logger = logTo(log)
	config = withTemplate(t, config)
	w := start(t, config)
	assertSpawned(t, w)
	assertServes(t, w)
	assert.Equal(t, 1, log.count("the template could not fork a worker"))
	assert.Equal(t, 1, log.count("there is no room"))
	assert.NotNil(t, config.Template.readyServer())
	assert.Empty(t, config.Template.Note())
}

func TestATemplateThatCannotBeStartedIsReported(t *testing.T) {
	config := testConfig(t, "echo")
	config.Python = "/nowhere/python3"
	config = withTemplate(t, config)
	failed := startFails(t, config)
	assert.Equal(t, StageSpawn, failed.Stage)
	assert.Contains(t, config.Template.Note(), "no such file or directory")
}

func TestAClosedTemplateIsGone(t *testing.T) {
	t.Parallel()
	config := forking(t, "look")
	w := start(t, config)
	template := templateOf(w)
	config.Template.Close()
	config.Template.Close()
	assert.True(t, testkit.Gone(template))
	assert.Equal(t, "the template was closed", config.Template.Note())
	assertServes(t, w)
	w.Kill()
	assert.False(t, w.Exit().Unknown, "its reaper knows")
	assertSpawned(t, start(t, config))
	assert.Nil(t, config.Template.readyServer())
}

func TestAStoppedTemplateIsGoneWhenItIsClosed(t *testing.T) {
	t.Parallel()
	config := forking(t, "look")
	w := start(t, config)
	template := templateOf(w)
	require.NoError(t, syscall.Kill(template, syscall.SIGSTOP))
	config.Template.Close()
	assert.True(t, testkit.Gone(template))
}

func TestATemplateThatWasNotStartedCanBeClosed(t *testing.T) {
	config := forking(t, "look")
	config.Template.Close()
	assertSpawned(t, start(t, config))
	var none *Template
	none.Close()
	assert.Empty(t, none.Note())
}

func TestATemplateCanBeClosedWhileItImports(t *testing.T) {
	for _, by := range []string{"the caller", "the owner"} {
		t.Run(by, func(t *testing.T) {
			t.Parallel()
			pipe := filepath.Join(t.TempDir(), "pipe")
			require.NoError(t, syscall.Mkfifo(pipe, 0o600))
			config := forking(t, "look", "IMPORTING=wait", "IMPORTING_FILE="+pipe)
			ctx, cancel := context.WithCancelCause(t.Context())
			cause := errors.New("changed my mind")
			ended := make(chan error)
			go func() {
				_, err := Start(ctx, config)
				ended <- err
			}()
			template := testkit.AwaitPID(t, pipe+".begun")
			if by == "the owner" {
				config.Template.Close()
				assert.True(t, testkit.Gone(template))
			}
			cancel(cause)
			require.ErrorIs(t, <-ended, cause)
			config.Template.Close()
			assert.True(t, testkit.Gone(template))
		})
	}
}

func TestForksLeaveNothingBehind(t *testing.T) {
	config := forking(t, "look")
	start(t, config).Kill() // after this, all that is created once exists
	template := config.Template.server.process.pid()
	here, there := testkit.Descriptors(t, os.Getpid()), testkit.Descriptors(t, template)
	for i := range 100 {
		w := start(t, config)
		assertForked(t, w)
		if i%2 == 0 {
			w.Kill()
		} else {
			w.Close(t.Context())
		}
		assert.False(t, w.Exit().Unknown)
	}
	testkit.Eventually(t, func() bool { return len(testkit.Children(t, template)) == 0 }) // no zombie stays
	assert.Equal(t, there, testkit.Descriptors(t, template))
	testkit.Eventually(t, func() bool { return testkit.Descriptors(t, os.Getpid()) <= here })
	config.Template.Close()
	assert.True(t, testkit.Gone(template))
}

// TestWorkersStartWhileTemplatesDie kills templates at any time.
func TestWorkersStartWhileTemplatesDie(t *testing.T) {
	config := forking(t, "look")
	start(t, config).Kill()
	stop := make(chan struct{})
	var killing, starting sync.WaitGroup
	killing.Go(func() {
		for last := 0; ; {
			select {
			case <-stop:
				return
			default:
			}
			if s := config.Template.readyServer(); s != nil && s.process.pid() != last {
				last = s.process.pid()
				_ = syscall.Kill(last, syscall.SIGKILL)
			}
		}
	})
	for range 4 {
		starting.Go(func() {
			for range 5 {
				w, err := Start(t.Context(), config)
				if !assert.NoError(t, err) {
					return
				}
				w.Kill()
				assert.Equal(t, ReasonKilled, w.Exit().Reason)
			}
		})
	}
	starting.Wait()
	close(stop)
	killing.Wait()
	config.Template.Close()
	testkit.Eventually(t, func() bool { return len(testkit.Children(t, os.Getpid())) == 0 })
}

// TestForkedWorkersDieWithTheSupervisor kills a supervisor that is another process of
// this test binary.
func TestForkedWorkersDieWithTheSupervisor(t *testing.T) {
	if dir := os.Getenv("FORKING_SUPERVISOR"); dir != "" {
		config := forking(t, "leave_a_child")
		w := start(t, config)
		pids := strconv.Itoa(w.PID()) + "\n" + strconv.Itoa(templateOf(w))
		go func() { _, _ = call(context.Background(), w, filepath.Join(dir, "child")) }()
		testkit.AwaitPID(t, filepath.Join(dir, "child"))
		require.NoError(t, os.WriteFile(filepath.Join(dir, "new"), []byte(pids), 0o600))
		require.NoError(t, os.Rename(filepath.Join(dir, "new"), filepath.Join(dir, "pids")))
		select {}
	}
	t.Parallel()
	dir := t.TempDir()
	supervisor := again(t, "FORKING_SUPERVISOR="+dir)
	child := filepath.Join(dir, "child")
	testkit.Eventually(t, testkit.Written(filepath.Join(dir, "pids")))
	content, err := os.ReadFile(filepath.Join(dir, "pids"))
	require.NoError(t, err)
	kill(t, supervisor.Process.Pid)
	awaitDeath(t, testkit.AwaitPID(t, child))
	for _, line := range strings.Fields(string(content)) {
		pid, err := strconv.Atoi(line)
		require.NoError(t, err)
		awaitDeath(t, pid)
	}
}

// TestASupervisorThatInheritsOrphansReapsThem is about a supervisor that is the first
// process of a container. This test binary inherits orphans as that does.
func TestASupervisorThatInheritsOrphansReapsThem(t *testing.T) {
	if os.Getenv("INHERITING_SUPERVISOR") != "" {
		require.NoError(t, unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0))
		config := forking(t, "look")
		w := start(t, config)
		reaper := w.process.handle.(*reapedProcess).reaper.id
		kill(t, templateOf(w))
		awaitTemplate(t, config.Template, isGone)
		testkit.Eventually(t, func() bool { return parentOf(reaper) != os.Getpid() }, "the template's reaper inherits it")
		kill(t, parentOf(reaper))
		testkit.Eventually(t, func() bool { return parentOf(reaper) == os.Getpid() })
		kill(t, reaper)
		<-w.Done()
		assert.Equal(t, syscall.SIGKILL, w.Exit().Signal)
		assert.False(t, w.Exit().Unknown)
		assert.Zero(t, parentOf(w.PID()))
		testkit.Eventually(t, func() bool { return len(testkit.Children(t, os.Getpid())) == 0 })
		return
	}
	t.Parallel()
	assert.NoError(t, again(t, "INHERITING_SUPERVISOR=1").Wait())
}

// again runs the same test in a new process.
func again(t *testing.T, env string) *exec.Cmd {
	temporary, err := os.MkdirTemp("", "again-") // its name is short enough for sockets
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(temporary) })
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.timeout=120s")
	cmd.Env = append(os.Environ(), env, "TMPDIR="+temporary)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd
}
