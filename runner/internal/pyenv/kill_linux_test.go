package pyenv

import (
	"bufio"
	"bytes"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/runner/internal/testkit"
)

// stubborn makes a package whose build writes to a pipe, and goes on only when the gate is
// there. It may first start a daemon that leaves the session and ignores signals.
func stubborn(t *testing.T, python Interpreter, daemon bool) (spec Spec, pipe, gate string) {
	t.Helper()
	base := t.TempDir()
	pipe, gate = filepath.Join(base, "pipe"), filepath.Join(base, "gate")
	require.NoError(t, syscall.Mkfifo(pipe, 0o600))
	project(t, base, "stubborn", "", `
import base64, os, signal, time, zipfile

def build_wheel(folder, *_):
    if not os.path.exists("`+gate+`"):
        if `+map[bool]string{false: "False", true: "True"}[daemon]+`:
            if os.fork() == 0:
                os.setsid()
                os.closerange(0, 100)
                for each in range(1, 32):
                    if each not in (signal.SIGKILL, signal.SIGSTOP): signal.signal(each, signal.SIG_IGN)
                if os.fork() == 0:
                    while True: signal.pause()
                os._exit(0)
            os.wait()
        with open("`+pipe+`", "w") as held: held.write("building\n")
    while not os.path.exists("`+gate+`"): time.sleep(0.01)
    name, info = "stubborn-1-py3-none-any.whl", "stubborn-1.dist-info/"
    with zipfile.ZipFile(os.path.join(folder, name), "w") as archive:
        archive.writestr("stubborn.py", "version = 1\n")
        archive.writestr(info + "METADATA", "Metadata-Version: 2.1\nName: stubborn\nVersion: 1\n")
        archive.writestr(info + "WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(info + "RECORD", f"stubborn.py,,\n{info}METADATA,,\n{info}WHEEL,,\n{info}RECORD,,\n")
    return name
`)
	return Spec{Interpreter: python, Requirements: []string{"./stubborn"}, Base: base, CacheDir: t.TempDir()}, pipe, gate
}

// builders returns the processes of builds in a cache folder, by their ids: all of them
// have the build's folder for temporary files in their environment.
func builders(t *testing.T, cache string) map[int]string {
	t.Helper()
	found := make(map[int]string)
	folders, err := filepath.Glob("/proc/[0-9]*")
	require.NoError(t, err)
	for _, folder := range folders {
		environment, _ := os.ReadFile(filepath.Join(folder, "environ"))
		if !bytes.Contains(environment, []byte("TMPDIR="+envsDir(cache))) {
			continue
		}
		line, _ := os.ReadFile(filepath.Join(folder, "cmdline"))
		pid, err := strconv.Atoi(filepath.Base(folder))
		require.NoError(t, err)
		if len(line) > 0 { // else it is a zombie
			found[pid] = strings.ReplaceAll(string(line), "\x00", " ")
		}
	}
	return found
}

// supervise starts a process that builds an environment, and returns it with the stages
// that it reports.
func supervise(t *testing.T, spec Spec) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	cmd := anotherProcess(t, task{Ensure: &order{spec.Interpreter, spec.Requirements, spec.CacheDir, spec.Base}})
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	return cmd, bufio.NewScanner(out)
}

// assertNothingRuns checks that all processes of builds end.
func assertNothingRuns(t *testing.T, cache string) {
	t.Helper()
	testkit.Eventually(t, func() bool { return len(builders(t, cache)) == 0 })
}

// assertBuilds checks that the next build succeeds, and leaves nothing but the environment.
func assertBuilds(t *testing.T, spec Spec) {
	t.Helper()
	env, err := Ensure(t.Context(), spec)
	require.NoError(t, err)
	assert.Equal(t, "1.1.0 1", inEnvironment(t, env, "import msgpack, stubborn; print(msgpack.version, stubborn.version)"))
	left, err := filepath.Glob(filepath.Join(envsDir(spec.CacheDir), "[^.]*"))
	require.NoError(t, err)
	assert.Equal(t, []string{env.Dir}, left)
}

// victim is a process that is killed during a build.
type victim struct {
	name string
	// is reports whether a command line is that of the victim.
	is func(line string) bool
	// message is that of the supervisor; empty if it is killed, too.
	message string
}

func isReaper(line string) bool { return strings.Contains(line, "fork_worker") }

func isInstaller(line string) bool {
	return !isReaper(line) && (strings.Contains(line, "uv pip install") || strings.Contains(line, "pip --python") && strings.Contains(line, " install "))
}

func TestWhateverIsKilledDuringABuildNothingIsLeft(t *testing.T) {
	killed := "the installer was killed: killed"
	// The kernel ends the process group if the reaper is killed, so then there is no daemon.
	for _, v := range []victim{
		{"the supervisor", nil, ""},
		{"the installer", isInstaller, killed},
		{"the reaper", isReaper, "signal: killed"},
		{"the build", func(line string) bool { return !isReaper(line) && !isInstaller(line) }, ""},
	} {
		t.Run(v.name, func(t *testing.T) {
			tryInstallers(t, func(t *testing.T, python Interpreter, _ string) {
				spec, pipe, gate := stubborn(t, python, v.name != "the reaper")
				supervisor, stages := supervise(t, spec)
				held, err := os.Open(pipe) // returns when the build is under way
				require.NoError(t, err)
				_, err = io.ReadAll(held)
				require.NoError(t, err)
				if v.is == nil {
					require.NoError(t, supervisor.Process.Kill())
				} else {
					kill(t, spec.CacheDir, v.is)
				}
				var output strings.Builder
				for stages.Scan() {
					output.WriteString(stages.Text() + "\n")
				}
				assert.Error(t, supervisor.Wait())
				assert.Contains(t, output.String(), v.message)
				assertNothingRuns(t, spec.CacheDir)
				require.NoError(t, os.WriteFile(gate, nil, 0o600))
				assertBuilds(t, spec)
			})
		})
	}
}

// kill kills the processes of a build whose command lines are those of the victim.
func kill(t *testing.T, cache string, is func(line string) bool) {
	t.Helper()
	count := 0
	for pid, line := range builders(t, cache) {
		if is(line) {
			count++
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	require.Positive(t, count, "%v", builders(t, cache))
}

// The next build begins at once, while processes of the killed one may still be ending.
func TestABuildSucceedsAfterOneThatWasKilledAtAnyTime(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	tryInstallers(t, func(t *testing.T, python Interpreter, _ string) {
		spec, _, gate := stubborn(t, python, true)
		require.NoError(t, os.WriteFile(gate, nil, 0o600))
		began := time.Now()
		assertBuilds(t, spec)
		took := time.Since(began)
		rounds := 10
		if filepath.Base(t.Name()) == "pip" { // which is slow
			rounds = 4
		}
		for range rounds {
			require.NoError(t, os.RemoveAll(envsDir(spec.CacheDir)))
			supervisor, stages := supervise(t, spec)
			go func() {
				for stages.Scan() {
				}
			}()
			time.Sleep(time.Duration(random.Float64() * float64(took))) // the time is random, and waits for nothing
			all := builders(t, spec.CacheDir)
			for pid := range all {
				if random.IntN(3) == 0 {
					_ = syscall.Kill(pid, syscall.SIGKILL)
				}
			}
			if random.IntN(3) > 0 || len(all) == 0 {
				require.NoError(t, supervisor.Process.Kill())
			}
			assertBuilds(t, spec)
			_ = supervisor.Wait()
			assertNothingRuns(t, spec.CacheDir)
		}
	})
}

func TestAProcessThatWaitsForABuildOutlivesItsEnd(t *testing.T) {
	for _, victim := range []string{"the builder", "the waiting process"} {
		t.Run(victim, func(t *testing.T) {
			tryInstallers(t, func(t *testing.T, python Interpreter, _ string) {
				spec, pipe, gate := stubborn(t, python, true)
				builder, building := supervise(t, spec)
				held, err := os.Open(pipe)
				require.NoError(t, err)
				_, err = io.ReadAll(held)
				require.NoError(t, err)
				waiting, stages := supervise(t, spec)
				require.True(t, stages.Scan())
				assert.Equal(t, "waiting for another process that builds the same environment", stages.Text())
				killed, rest := builder, waiting
				if victim != "the builder" {
					killed, rest, stages = waiting, builder, building
				}
				require.NoError(t, os.WriteFile(gate, nil, 0o600))
				require.NoError(t, killed.Process.Kill())
				for stages.Scan() {
				}
				require.NoError(t, rest.Wait())
				_ = killed.Wait()
				assertNothingRuns(t, spec.CacheDir)
				assertBuilds(t, spec)
			})
		})
	}
}
