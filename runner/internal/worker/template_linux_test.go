package worker

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner/internal/isolation"
	"github.com/gophersnake/gophersnake/runner/internal/testkit"
)

func TestATemplateForksWorkers(t *testing.T) {
	t.Parallel()
	config := forking(t, "look")
	var seen []map[string]any
	for range 2 {
		w := start(t, config)
		assertForked(t, w)
		got, err := call(t.Context(), w, "v")
		require.NoError(t, err)
		seen = append(seen, got.(map[string]any))
		w.Close(t.Context())
		exit := w.Exit()
		assert.Equal(t, ReasonShutdown, exit.Reason)
		assert.Equal(t, 0, exit.Code)
		assert.Greater(t, exit.MaxRSS, int64(1<<20))
		assert.False(t, exit.Unknown)
		assert.True(t, testkit.Gone(w.PID()), "it is reaped")
	}
	assert.Empty(t, config.Template.Note())
	assert.NotEqual(t, seen[0]["pid"], seen[1]["pid"])
	assert.Equal(t, seen[0]["imported_by"], seen[1]["imported_by"], "the module is imported once")

	config.Template = nil
	w := start(t, config)
	assertSpawned(t, w)
	got, err := call(t.Context(), w, "v")
	require.NoError(t, err)
	for _, each := range []string{"leads", "folder", "variables", "descriptors"} {
		assert.Equal(t, got.(map[string]any)[each], seen[0][each], each)
	}
}

func TestAForkedWorkersEndIsReportedLikeAnothers(t *testing.T) {
	t.Parallel()
	config := withTemplate(t, testConfig(t, "misbehave"))
	for _, c := range []struct {
		way     string
		timeout time.Duration
	}{
		{way: "kill"}, {way: "crash"}, {way: "crash_in_a_thread"}, {way: "leave"}, {way: "leave_from_c"},
		{way: "out_of_memory"}, {"hang", time.Second}, {"hold_the_gil", time.Second}, {"stop", time.Second},
	} {
		t.Run(c.way, func(t *testing.T) {
			t.Parallel()
			ends := map[string]*Exit{}
			for name, template := range map[string]*Template{"forked": config.Template, "spawned": nil} {
				config := config
				config.Template = template
				if c.timeout > 0 {
					config.Timeout = c.timeout
				}
				w := start(t, config)
				assert.Equal(t, template != nil, templateOf(w) != 0)
				_, err := call(t.Context(), w, way(c.way))
				require.Error(t, err)
				<-w.Done()
				ends[name] = w.Exit()
			}
			forked, spawned := ends["forked"], ends["spawned"]
			assert.Equal(t, spawned.Summary(), forked.Summary())
			assert.Equal(t, spawned.Code, forked.Code)
			assert.Equal(t, spawned.Signal, forked.Signal)
			assert.Equal(t, spawned.Reason, forked.Reason)
			assert.Equal(t, spawned.Hang, forked.Hang)
			assert.Equal(t, spawned.Traceback, forked.Traceback)
			assert.Equal(t, spawned.Stderr, forked.Stderr)
		})
	}
}

func TestAForkedWorkerHasSharedMemory(t *testing.T) {
	t.Parallel()
	config := testConfig(t, "echo")
	config.Setup.Shared = &ipc.SetupShared{From: ipc.SharedFrom, Limit: 64 << 20, Wait: 10}
	config = withTemplate(t, config)
	w := start(t, config)
	assertForked(t, w)
	want, err := ipc.NewTensor(make([]float32, 1<<20), 1<<20)
	require.NoError(t, err)
	got, err := call(t.Context(), w, want)
	require.NoError(t, err)
	assert.Equal(t, want, got)
}

func TestTheEndTakesTheGroupOfAForkedWorker(t *testing.T) {
	t.Parallel()
	config := forking(t, "leave_a_child")
	for _, first := range []string{"the worker", "the template"} {
		t.Run(first, func(t *testing.T) {
			w := start(t, config)
			assertForked(t, w)
			file := filepath.Join(t.TempDir(), "child")
			go func() { _, _ = call(context.Background(), w, file) }()
			child := testkit.AwaitPID(t, file)
			if first == "the template" {
				kill(t, templateOf(w))
				awaitTemplate(t, config.Template, isGone)
			}
			kill(t, w.PID())
			<-w.Done()
			awaitDeath(t, child)
			assert.False(t, w.Exit().Unknown)
		})
	}
}

func TestAModuleThatCannotBeForkedIsReportedOnce(t *testing.T) {
	for _, c := range []struct{ way, says string }{
		{"thread", "the import started threads"},
		{"socket", "the import opened a socket"},
	} {
		t.Run(c.way, func(t *testing.T) {
			t.Parallel()
			config := testConfig(t, "look")
			config.Setup.Python = "forked.py"
			config.Env = append(config.Env, "IMPORTING="+c.way)
			log := &logBuffer{}
			config.Logger = logTo(log)
			config = withTemplate(t, config)
			for range 3 {
				w := start(t, config)
				assertSpawned(t, w)
				assertServes(t, w)
			}
			assert.Contains(t, config.Template.Note(), c.says)
			assert.Equal(t, 1, log.count("the fork server is off"))
			assert.Equal(t, 1, log.count(c.says))
		})
	}
}

func TestAnImportThatFailsIsReportedByASpawnedWorker(t *testing.T) {
	for _, c := range []struct{ way, says string }{
		{"missing package", "ModuleNotFoundError: No module named 'no_such_package'"},
		{"sys.exit", "SystemExit: 9"},
		{"os._exit", "exited with code 7"},
		{"kill", "SIGKILL"},
	} {
		t.Run(c.way, func(t *testing.T) {
			t.Parallel()
			config := testConfig(t, "")
			config.Setup.Python = "importing.py"
			config.Env = append(config.Env, "IMPORTING="+c.way)
			plain := startFails(t, config)
			config = withTemplate(t, config)
			failed := startFails(t, config)
			assert.Equal(t, plain.Error(), failed.Error())
			assert.Equal(t, plain.Stage, failed.Stage)
			assert.Contains(t, config.Template.Note(), c.says)
		})
	}
}

func TestATemplateThatCouldNotImportIsTriedAgain(t *testing.T) {
	for _, way := range []string{"raise once", "die once"} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			config := forking(t, "look", "IMPORTING="+way, "IMPORTING_FILE="+filepath.Join(t.TempDir(), "tried"))
			assertSpawned(t, start(t, config))
			awaitTemplate(t, config.Template, isReady)
			assert.Empty(t, config.Template.Note())
			assertForked(t, start(t, config))
		})
	}
}

func TestATemplateWaitsBeforeItIsTriedAgain(t *testing.T) {
	t.Parallel()
	config := testConfig(t, "")
	config.Setup.Python = "importing.py"
	config.Env = append(config.Env, "IMPORTING=missing package")
	log := &logBuffer{}
	config.Logger = logTo(log)
	config.Template = NewTemplate(config)
	config.Template.firstRestartDelay = time.Hour
	defer config.Template.Close()
	for range 3 {
		_ = startFails(t, config)
	}
	assert.Equal(t, 1, log.count("workers are started without a template"))
}

func TestAnImportThatTakesTooLongEndsTheTemplate(t *testing.T) {
	t.Parallel()
	pipe := filepath.Join(t.TempDir(), "pipe")
	require.NoError(t, syscall.Mkfifo(pipe, 0o600))
	config := forking(t, "look", "IMPORTING=wait", "IMPORTING_FILE="+pipe)
	config.Template.config.StartTimeout = time.Second
	config.Template.firstRestartDelay = time.Hour
	go func() {
		testkit.Eventually(t, func() bool { return config.Template.Note() != "" })
		_ = os.WriteFile(pipe, nil, 0o600) // lets the import of the spawned worker continue
	}()
	w := start(t, config)
	assertSpawned(t, w)
	assert.Contains(t, config.Template.Note(), "the template did not answer in time")
	awaitDeath(t, testkit.AwaitPID(t, pipe+".begun"))
}

func TestWhatTheTemplateWritesIsLogged(t *testing.T) {
	t.Parallel()
	config := testConfig(t, "look")
	config.Setup.Python = "forked.py"
	config.Env = append(config.Env, "IMPORTING=print")
	log := &logBuffer{}
	config.Logger = logTo(log)
	config = withTemplate(t, config)
	assertForked(t, start(t, config))
	config.Template.Close() // after which all output has been read
	for _, line := range []string{"stdout: printed by the import", "stderr: warned by the import"} {
		assert.Equal(t, 1, log.count(line), line)
	}
}

func TestIsolatedWorkersAreNotForked(t *testing.T) {
	config := testConfig(t, "echo")
	config.Isolation = &isolation.Profile{}
	template := NewTemplate(config)
	defer template.Close()
	template.awaitFirstStart(t.Context())
	assert.Nil(t, template.readyServer())
	assert.Equal(t, "isolated workers are not forked", template.Note())
}

func TestNodesOfOneModuleShareATemplate(t *testing.T) {
	t.Parallel()
	templates := NewTemplates()
	first := testConfig(t, "look")
	first.Setup.Python, first.Logger = "forked.py", hclog.NewNullLogger()
	second := first
	second.Setup.Node, second.Setup.NodeType = "second", "leave_a_child"
	third := first
	third.Setup.Node, third.Setup.Python, third.Setup.NodeType = "third", "forked.py:look", ""
	imported := map[any]bool{}
	var opened []*Template
	for _, config := range []*Config{&first, &second, &third} {
		config.Template = templates.Open(*config)
		config.Template.answerTimeout = long
		opened = append(opened, config.Template)
		w := start(t, *config)
		assertForked(t, w)
		if config != &second {
			got, err := call(t.Context(), w, "v")
			require.NoError(t, err)
			imported[got.(map[string]any)["imported_by"]] = true
		}
	}
	assert.Len(t, imported, 1, "the module is imported once")
	assert.Same(t, opened[0], opened[1])
	assert.Same(t, opened[0], opened[2])

	opened[0].Close()
	opened[1].Close()
	assertForked(t, start(t, third))
	opened[2].Close()
	assert.Nil(t, opened[2].readyServer(), "the last one that closes it ends the process")
	again := templates.Open(first)
	defer again.Close()
	assert.NotSame(t, opened[0], again)
}

// A process is a template for a node only if the node's own worker would be in the same state.
func TestOtherNodesDoNotShareATemplate(t *testing.T) {
	templates := NewTemplates()
	config := testConfig(t, "look")
	config.Setup.Python = "forked.py"
	first := templates.Open(config)
	defer first.Close()
	for name, change := range map[string]func(*Config){
		"another module":      func(c *Config) { c.Setup.Python = "nodes.py" },
		"another folder":      func(c *Config) { c.Setup.Base += "/evil" },
		"another interpreter": func(c *Config) { c.Python += "3" },
		"another variable":    func(c *Config) { c.Env = append(slices.Clone(c.Env), "A=b") },
		"another limit":       func(c *Config) { c.Setup.Limits.Memory = 1 << 30 },
		"another log level":   func(c *Config) { c.Setup.LogLevel = "debug" },
		"isolation":           func(c *Config) { c.Isolation = &isolation.Profile{} },
	} {
		other := config
		change(&other)
		opened := templates.Open(other)
		assert.NotSame(t, first, opened, name)
		opened.Close()
	}
	reloaded := NewTemplates().Open(config)
	defer reloaded.Close()
	assert.NotSame(t, first, reloaded, "another set, whose code may be newer")
}
