package wasm_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner/internal/wasm"
)

// start returns a module of testdata that has started, and closes it after the test.
func start(t testing.TB, name string, change ...func(*wasm.Config)) *wasm.Module {
	t.Helper()
	m, err := tryStart(t, t.Context(), name, change...)
	require.NoError(t, err)
	return m
}

// tryStart starts a module of testdata.
func tryStart(t testing.TB, ctx context.Context, name string, change ...func(*wasm.Config)) (*wasm.Module, error) { //nolint:revive // t comes first
	t.Helper()
	path := name
	if !filepath.IsAbs(path) {
		path = filepath.Join("testdata", name)
	}
	config := wasm.Config{Path: path, Max: 4}
	for _, change := range change {
		change(&config)
	}
	m := wasm.New(config)
	t.Cleanup(func() { m.Close(context.Background()) })
	return m, m.Start(ctx)
}

// logged makes a module log into a buffer.
func logged(log *bytes.Buffer) func(*wasm.Config) {
	return func(c *wasm.Config) {
		c.Logger = hclog.New(&hclog.LoggerOptions{Name: "node", Output: log, DisableTime: true})
	}
}

// encoded returns a value in msgpack.
func encoded(t testing.TB, v any) []byte {
	t.Helper()
	p, err := ipc.Encode("input", v)
	require.NoError(t, err)
	in, err := p.Inline("input", ipc.DefaultLimits())
	require.NoError(t, err)
	return in
}

// decoded returns the value of an answer.
func decoded(t testing.TB, body []byte) any {
	t.Helper()
	v, err := ipc.Payload{Body: body}.Decode("result", ipc.DefaultLimits())
	require.NoError(t, err)
	return v
}

// echoes checks that a module returns a value as it is.
func echoes(t testing.TB, m *wasm.Module, v any) {
	t.Helper()
	in := encoded(t, v)
	out, err := m.Call(t.Context(), in)
	require.NoError(t, err)
	assert.Equal(t, in, out)
}

// callError returns the error of a call, which must be a T, after it has checked that the
// module serves the next call.
func callError[T error](t *testing.T, m *wasm.Module, in any) T {
	t.Helper()
	_, err := m.Call(t.Context(), encoded(t, in))
	echoes(t, m, "the next call")
	return as[T](t, err)
}

// as returns the T in the chain of an error.
func as[T error](t *testing.T, err error) (found T) {
	t.Helper()
	require.ErrorAs(t, err, &found)
	return found
}

// is checks that a T is in the chain of an error.
func is[T error](t *testing.T, err error) {
	t.Helper()
	require.ErrorAs(t, err, new(T))
}

// functions returns the names in a stack, innermost last.
func functions(frames []ipc.TracebackFrame) string {
	names := make([]string, len(frames))
	for i, f := range frames {
		names[i] = f.Function
	}
	return strings.Join(names, " ")
}

// buildGo compiles a program of testdata for WASI, and returns the path of the module.
func buildGo(t testing.TB, folder string, flags ...string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), folder+".wasm")
	build := exec.Command("go", append(append([]string{"build", "-o", out}, flags...), "./testdata/"+folder)...)
	build.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm")
	text, err := build.CombinedOutput()
	require.NoError(t, err, string(text))
	return out
}
