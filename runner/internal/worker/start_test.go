package worker

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner/internal/testkit"
)

// startFails starts a worker, which must fail, and returns the error.
func startFails(t *testing.T, config Config) *StartError {
	t.Helper()
	_, err := Start(t.Context(), config)
	var failed *StartError
	require.ErrorAs(t, err, &failed)
	if failed.Exit != nil {
		assert.True(t, testkit.Gone(failed.Exit.PID))
	}
	assert.Equal(t, config.Python, failed.Python)
	return failed
}

// script creates a program that poses as an interpreter.
func script(t *testing.T, text string, mode os.FileMode) string {
	path := filepath.Join(t.TempDir(), "python")
	require.NoError(t, os.WriteFile(path, []byte(text), mode))
	return path
}

func TestAnInterpreterThatCannotBeRunIsReported(t *testing.T) {
	for _, c := range []struct {
		name, python string
		is           error
	}{
		{"missing", "/nowhere/python3", os.ErrNotExist},
		{"not in PATH", "no-such-python", os.ErrNotExist},
		{"not executable", script(t, "#!/bin/sh\n", 0o600), os.ErrPermission},
		{"a folder", t.TempDir(), os.ErrPermission},
		{"no program", script(t, "\x00\x01", 0o700), syscall.ENOEXEC},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			config := testConfig(t, "echo")
			config.Python = c.python
			failed := startFails(t, config)
			assert.Equal(t, StageSpawn, failed.Stage)
			assert.Nil(t, failed.Exit)
			assert.ErrorContains(t, failed, "cannot run "+c.python)
			if c.name != "not in PATH" { // exec.ErrNotFound does not wrap it
				assert.ErrorIs(t, failed, c.is)
			}
		})
	}
}

func TestAFolderThatIsMissingIsReported(t *testing.T) {
	config := testConfig(t, "echo")
	config.Setup.Base = "/nowhere"
	failed := startFails(t, config)
	assert.Equal(t, StageSpawn, failed.Stage)
	assert.ErrorContains(t, failed, "chdir /nowhere")
}

func TestAProgramThatIsNoWorkerIsReported(t *testing.T) {
	for _, c := range []struct{ name, python, says string }{
		{"true", "/bin/true", "exited with code 0"},
		{"false", "/bin/false", "exited with code 1"},
		{"garbage", script(t, "#!/bin/sh\necho hello; echo 'no worker' >&2; exit 3\n", 0o700), "exited with code 3, saying: no worker"},
		{"a version that lacks what is used", script(t, "#!/bin/sh\necho 'SyntaxError: invalid syntax' >&2; exit 1\n", 0o700), "SyntaxError: invalid syntax"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			config := testConfig(t, "echo")
			config.Python = c.python
			failed := startFails(t, config)
			assert.Equal(t, StageHandshake, failed.Stage)
			require.NotNil(t, failed.Exit)
			assert.Equal(t, ReasonSelf, failed.Exit.Reason)
			assert.ErrorContains(t, failed, "the worker did not start: the interpreter exited")
			assert.ErrorContains(t, failed, c.says)
		})
	}
}

func TestAMissingPackageOfTheWorkersOwnIsReported(t *testing.T) {
	config := testConfig(t, "echo")
	python := config.Python
	t.Run("msgpack", func(t *testing.T) {
		// -S hides the installed packages.
		config.Python = script(t, "#!/bin/sh\nexec '"+python+"' -I -S \"$@\"\n", 0o700)
		failed := startFails(t, config)
		assert.ErrorContains(t, failed, "No module named 'msgpack'; install it for")
	})
	t.Run("the worker", func(t *testing.T) {
		config.Python, config.Package = python, t.TempDir()
		failed := startFails(t, config)
		assert.ErrorContains(t, failed, "__main__.py': [Errno 2] No such file")
	})
}

func TestAModuleThatCannotBeImportedIsReported(t *testing.T) {
	for _, c := range []struct {
		way, says, hint string
		remote          bool
	}{
		{"missing package", "No module named 'no_such_package'", "requirements", true},
		{"import error", "cannot import name 'no_such_name'", "", true},
		{"syntax", "SyntaxError", "", true},
		{"sys.exit", "SystemExit", "", true},
		{"os._exit", "os._exit(7)", "", false},
		{"kill", "SIGKILL", "", false},
		{"crash", "SIGSEGV", "", false},
	} {
		t.Run(c.way, func(t *testing.T) {
			t.Parallel()
			config := testConfig(t, "")
			config.Setup.Python = "importing.py"
			config.Env = append(config.Env, "IMPORTING="+c.way)
			failed := startFails(t, config)
			assert.Equal(t, StageSetup, failed.Stage)
			assert.ErrorContains(t, failed, c.says)
			var remote *ipc.RemoteError
			assert.Equal(t, c.remote, errors.As(failed, &remote))
			if c.hint != "" {
				assert.Contains(t, remote.Hint, c.hint)
			}
		})
	}
}

func TestASetupThatRaisesIsReported(t *testing.T) {
	failed := startFails(t, testConfig(t, "Refusing"))
	assert.Equal(t, StageSetup, failed.Stage)
	var remote *ipc.RemoteError
	require.ErrorAs(t, failed, &remote)
	assert.ErrorContains(t, failed, "no weights")
	assert.Equal(t, ipc.StageSetup, remote.Stage)
}

func TestAStartThatTakesTooLongSaysItsPlaceInPython(t *testing.T) {
	slow := testConfig(t, "Slow")
	importing := testConfig(t, "")
	importing.Setup.Python = "importing.py"
	importing.Env = append(importing.Env, "IMPORTING=hang")
	for _, c := range []struct {
		name, function string
		config         Config
	}{
		{"in setup", "setup", slow},
		{"in the import", "<module>", importing},
		{"before the handshake", "stay", evil(t, "silent")},
		{"with output without end", "<module>", evil(t, "flood")},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			config := c.config
			config.StartTimeout = 2 * time.Second
			failed := startFails(t, config)
			assert.Equal(t, ReasonStartTimeout, failed.Exit.Reason)
			assert.ErrorContains(t, failed, "not ready within 2s")
			require.NotEmpty(t, failed.Exit.Traceback, failed.Exit.Dump)
			assert.Equal(t, c.function, failed.Exit.Traceback[len(failed.Exit.Traceback)-1].Function)
		})
	}
}

func TestAMalformedHandshakeIsReported(t *testing.T) {
	for _, c := range []struct {
		way, says string
		stage     Stage
		reason    Reason
	}{
		{"garbled", "Unrecognized remote plugin message", StageHandshake, ReasonBroken},
		{"wrong version", "incompatible API version", StageHandshake, ReasonBroken},
		{"huge", "unsupported plugin protocol", StageHandshake, ReasonBroken},
		{"grpc", "unsupported plugin protocol", StageHandshake, ReasonBroken},
		{"no socket", "no such file or directory", StageHandshake, ReasonBroken},
		{"closes stdout", "Unrecognized remote plugin message", StageHandshake, ReasonBroken},
		{"another's socket", "not by the worker", StageHandshake, ReasonBroken},
		{"killed when it listens", "SIGKILL", StageSetup, ReasonSelf},
		{"killed when connected", "SIGKILL", StageSetup, ReasonSelf},
		{"hello in garbage", "a frame begins with byte", StageSetup, ReasonBroken},
		{"hello of another version", "speaks version 99", StageSetup, ReasonBroken},
		{"closes when set up", "EOF", StageSetup, ReasonBroken},
	} {
		t.Run(c.way, func(t *testing.T) {
			t.Parallel()
			failed := startFails(t, evil(t, c.way))
			assert.ErrorContains(t, failed, c.says)
			if c.way != "killed when it listens" { // the host may have connected already, or not
				assert.Equal(t, c.stage, failed.Stage)
			}
			assert.Equal(t, c.reason, failed.Exit.Reason)
		})
	}
}

func TestAProcessThatHoldsTheSocketDoesNotHoldTheStartUp(t *testing.T) {
	child := filepath.Join(t.TempDir(), "child")
	killLater(t, child)
	failed := startFails(t, evil(t, "escapes when set up", "EVIL_FILE="+child))
	assert.ErrorContains(t, failed, "SIGKILL")
}

func TestAFolderForSocketsThatCannotBeMadeIsReported(t *testing.T) {
	t.Setenv("TMPDIR", "/nowhere")
	failed := startFails(t, testConfig(t, "echo"))
	assert.Equal(t, StageSpawn, failed.Stage)
	assert.ErrorIs(t, failed, os.ErrNotExist)
}

func TestAStartThatIsCanceledEndsTheProcess(t *testing.T) {
	config := testConfig(t, "Slow")
	begun := filepath.Join(t.TempDir(), "begun")
	config.Setup.Params = ipc.Object{{Key: "file", Value: begun}}
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("changed my mind")
	go func() {
		testkit.Eventually(t, testkit.Written(begun))
		cancel(cause)
	}()
	_, err := Start(ctx, config)
	require.ErrorIs(t, err, cause)
	var failed *StartError
	assert.NotErrorAs(t, err, &failed)
	_, err = Start(ctx, config)
	require.ErrorIs(t, err, context.Canceled, "before it begins")
}

// TestAStrangerIsRefused lets a process of the same user, which does not know the
// secret, connect first.
func TestAStrangerIsRefused(t *testing.T) {
	root := t.TempDir()
	t.Setenv("TMPDIR", root)
	said := filepath.Join(t.TempDir(), "said")
	config := evil(t, "stranger first", "EVIL_FILE="+said)
	config.Setup.NodeType = "echo"
	w := start(t, config)
	got, err := call(t.Context(), w, "v")
	require.NoError(t, err)
	assert.Equal(t, "v", got)
	content, err := os.ReadFile(said)
	require.NoError(t, err)
	assert.Equal(t, "refused True 0o700", string(content))
	left, err := os.ReadDir(root)
	require.NoError(t, err)
	assert.Empty(t, left, "no socket is left for later connections")
}

func TestAFailedStartLeavesNoSocketBehind(t *testing.T) {
	root := t.TempDir()
	t.Setenv("TMPDIR", root)
	for _, way := range []string{"garbled", "another's socket", "killed when it listens", "hello in garbage"} {
		_ = startFails(t, evil(t, way))
	}
	config := testConfig(t, "echo")
	config.Python = "/nowhere/python3"
	_ = startFails(t, config)
	left, err := os.ReadDir(root)
	require.NoError(t, err)
	assert.Empty(t, left)
}

// certificate returns a certificate in the form that go-plugin's handshake has.
func certificate(t *testing.T) string {
	t.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	encoded, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	return base64.RawStdEncoding.EncodeToString(encoded)
}

// Packages can print before the worker announces itself, and go-plugin would take more
// forms of a handshake than the worker's.
func TestAForgedHandshakeReachesNoMoreThanASocket(t *testing.T) {
	for name, c := range map[string]struct{ line, says string }{
		"with a certificate":     {"1|1|unix|/nowhere|msgpack|" + certificate(t), "no such file or directory"},
		"with a host to look up": {"1|1|tcp|localhost:1|msgpack", "unknown address type"},
		"with no fields":         {"1|", "Unrecognized remote plugin message"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			config := testConfig(t, "echo")
			config.Python = script(t, "#!/bin/sh\necho '"+c.line+"'\nexec '"+config.Python+"' \"$@\"\n", 0o700)
			failed := startFails(t, config)
			assert.Equal(t, StageHandshake, failed.Stage)
			assert.ErrorContains(t, failed, c.says)
		})
	}
}
