package cli

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/charmbracelet/x/ansi"
	"github.com/charmbracelet/x/vt"
	"github.com/creack/pty"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/fixtures"
)

// screen is a terminal that shows a command, which runs in a pseudo-terminal.
type screen struct {
	emulator *vt.SafeEmulator
	keys     io.Writer
	ended    chan error
}

// onScreen runs a command in a terminal.
func onScreen(t *testing.T, args ...string) *screen {
	t.Helper()
	command := process(t, "gophersnake", args...)
	command.Env = append(command.Env, "TERM=xterm-256color", "NO_COLOR=")
	file, err := pty.StartWithSize(command, &pty.Winsize{Rows: 36, Cols: 120})
	require.NoError(t, err)
	s := &screen{emulator: vt.NewSafeEmulator(120, 36), keys: file, ended: make(chan error, 1)}
	go func() { // what the terminal answers
		_, _ = io.Copy(file, s.emulator)
	}()
	go func() {
		_, _ = io.Copy(s.emulator, file)
		s.ended <- command.Wait()
	}()
	t.Cleanup(func() {
		_ = command.Process.Kill()
		_ = file.Close()
		_ = s.emulator.InputPipe().(io.Closer).Close() // Close of the emulator races with its Read
	})
	return s
}

// text returns what the terminal shows, without colors.
func (s *screen) text() string { return ansi.Strip(s.emulator.Render()) }

// shows waits until the terminal shows all of the texts.
func (s *screen) shows(t *testing.T, texts ...string) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		shown, missing := s.text(), ""
		for _, text := range texts {
			if !strings.Contains(shown, text) {
				missing = text
			}
		}
		if missing == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the terminal does not show %q:\n%s", missing, shown)
		}
		time.Sleep(10 * time.Millisecond) // between two looks
	}
}

func (s *screen) press(t *testing.T, keys string) {
	t.Helper()
	_, err := io.WriteString(s.keys, keys)
	require.NoError(t, err)
}

// topOnce runs the command with standard output that is no terminal.
func topOnce(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, err bytes.Buffer
	code = newApp(strings.NewReader(""), &out, &err).run(t.Context(), append([]string{"top"}, args...))
	return code, out.String(), err.String()
}

func TestTopShowsACrashAndHowItHealsInATerminal(t *testing.T) {
	args, folder := shop(t, "shop")
	p, url := serving(t, args[0], "--admin")
	defer func() { _ = p.Process.Kill() }()
	s := onScreen(t, "top", url)
	s.shows(t, "gophersnake  "+url+"  ready", "shop  healthy", "› check", "stock")
	s.press(t, "j")
	s.shows(t, "› price")

	crashed := make(chan int, 1)
	go func() {
		status, _ := ask(t, url+"/v1/pipelines/shop", `{"item": "tea", "amount": 1, "how": "crash"}`)
		crashed <- status
	}()
	s.shows(t, "price               starting", "in place of one that ended")
	assert.Equal(t, http.StatusBadGateway, <-crashed)
	s.press(t, "\r")
	s.shows(t, "last death", "os.abort()", "signal: SIGABRT", "1 deaths")
	require.NoError(t, os.Remove(filepath.Join(folder, "hold")))
	s.shows(t, "Price, python  healthy", "serving")
	s.press(t, "l")
	s.shows(t, "log of price", "killed by SIGABRT", "is healthy, it was starting")
	s.press(t, "\x1b")
	s.shows(t, "› price               healthy")
	s.press(t, "r")
	s.shows(t, "restart price? y or n")
	s.press(t, "n")
	s.press(t, "ry")
	s.shows(t, "price was restarted")
	s.press(t, "q")
	select {
	case err := <-s.ended:
		require.NoError(t, err)
	case <-time.After(patience):
		t.Fatal("q does not end the command")
	}
	assert.False(t, s.emulator.IsAltScreen(), "the terminal is as it was before")

	code, stdout, _ := topOnce(t, url)
	assert.Zero(t, code)
	assert.Regexp(t, `(?m)^  price +healthy +0/1 `, stdout)
	assert.NotContains(t, stdout, "\x1b")
	for range 5 { // so that the breaker opens
		_, _ = ask(t, url+"/v1/pipelines/shop", `{"item": "tea", "amount": 1, "how": "raise"}`)
	}
	code, stdout, _ = topOnce(t, url, "--once")
	assert.Equal(t, 1, code, stdout)
	assert.Contains(t, stdout, "check: its circuit breaker is open")
	code, stdout, _ = topOnce(t, url, "--json")
	assert.Equal(t, 1, code)
	var status struct {
		Ready     bool
		Pipelines []struct{ Nodes []struct{ Breaker string } }
	}
	require.NoError(t, json.Unmarshal([]byte(stdout), &status))
	assert.False(t, status.Ready)
	assert.Equal(t, "open", status.Pipelines[0].Nodes[0].Breaker)
}

func TestTopSaysWhyItCannotShowAService(t *testing.T) {
	tokens := fixtures.Write(t, "tokens", "0123456789abcdef\n")
	p, url := serving(t, "code="+codeOf(t, "1"), "--token-file", tokens)
	defer func() { _ = p.Process.Kill() }()
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{url}, 7, "give a token with --token-file"},
		{[]string{url, "--token-file", fixtures.Write(t, "others", "fedcba9876543210\n")}, 7, "no valid token"},
		{[]string{"127.0.0.1:1"}, 7, "connection refused"},
		{[]string{"ftp://127.0.0.1"}, 2, "is not the URL of a service"},
		{[]string{url + "/metrics"}, 7, "there is nothing at"},
		{[]string{url, "--token-file", "nowhere"}, 7, "no such file"},
	} {
		if strings.HasSuffix(c.args[0], "/metrics") {
			c.args = append(c.args, "--token-file", tokens)
		}
		code, _, stderr := topOnce(t, c.args...)
		assert.Equal(t, c.code, code, "%v: %s", c.args, stderr)
		assert.Contains(t, stderr, c.says)
	}
	code, stdout, stderr := topOnce(t, url, "--token-file", tokens)
	assert.Zero(t, code, stderr)
	assert.Contains(t, stdout, "code  healthy")

	// In a terminal, the program says what is wrong, and ends by Ctrl-C.
	s := onScreen(t, "top", url)
	s.shows(t, "no connection: ", "give a token with --token-file")
	s.press(t, "\x03")
	require.NoError(t, <-s.ended)
}
