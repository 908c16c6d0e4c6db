package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/fixtures"
	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/program"
)

// result is the outcome of a command line.
type result struct {
	code     int
	out, err string
}

// command runs a command line in this process.
func command(t *testing.T, args ...string) result {
	t.Helper()
	return commandWithInput(t, "", args...)
}

func commandWithInput(t *testing.T, stdin string, args ...string) result {
	t.Helper()
	var out, err bytes.Buffer
	code := newApp(strings.NewReader(stdin), &out, &err).run(t.Context(), args)
	assert.NotContains(t, out.String()+err.String(), "\x1b", "control sequences in a pipe")
	return result{code, out.String(), err.String()}
}

func TestInvalidCommandLines(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"frob"}, "error: unknown command \"frob\" for \"gophersnake\"\nsee: gophersnake --help\n"},
		{[]string{"vresion"}, "Did you mean this?"},
		{[]string{"--frob"}, "error: unknown flag: --frob\nsee: gophersnake --help\n"},
		{[]string{"run", ""}, "error: the PIPELINE is empty\nsee: gophersnake run --help\n"},
		{[]string{"run", "hello", "-o", "."}, "--output . is a folder; name a file in it"},
		{[]string{"run"}, "error: the PIPELINE is missing\nsee: gophersnake run --help\n"},
		{[]string{"run", "hello", "--jobs", "x"}, "invalid argument \"x\""},
		{[]string{"run", "hello", "--jobs", "-1"}, "--jobs takes a number from 1, not -1"},
		{[]string{"run", "hello", "--output", "result.xml"}, "--output takes pretty, json, jsonl or a file that ends in"},
		{[]string{"run", "hello", "-i", "1", "-i", "2", "-o", "x.wav"}, "x.wav holds one result, but there are several inputs"},
		{[]string{"run", "hello", "-i", "-", "-i", "-"}, "standard input (-) can be read only once"},
		{[]string{"run", "hello", "--log-level", "loud"}, "--log-level takes trace, debug, info, warn, error or off, not \"loud\"\nsee: gophersnake run --help\n"},
		{[]string{"graph", "hello", "more"}, "unexpected argument \"more\""},
		{[]string{"graph", "hello", "--format", "png"}, "--format takes text, dot or mermaid, not \"png\""},
		{[]string{"nodes", "hello", "--output", "xml"}, "--output takes text or json, not \"xml\""},
		{[]string{"init", "--example", "helo", "x"}, "--example helo: there is no such example; did you mean hello?"},
	} {
		t.Run(strings.Join(c.args, " "), func(t *testing.T) {
			got := command(t, append(c.args, "--cache-dir="+t.TempDir())...)
			assert.Equal(t, 2, got.code)
			assert.Contains(t, got.err, c.want)
			assert.Empty(t, got.out)
		})
	}
}

func TestEveryCommandExplainsItself(t *testing.T) {
	for _, c := range newRoot(newApp(nil, nil, nil)).Commands() {
		if c.Name() == "exit-codes" {
			continue
		}
		assert.NotEmpty(t, c.Short, c.Name())
		assert.NotEmpty(t, c.Long, c.Name())
		assert.Contains(t, c.Example, "gophersnake "+c.Name(), c.Name())
		assert.Zero(t, command(t, c.Name(), "--help").code)
	}
	assert.Contains(t, command(t, "help", "exit-codes").out, "124  the --timeout expired")
	assert.Contains(t, command(t).out, "130  interrupted (Ctrl-C)")
}

func TestSchemaAndVersionArePrinted(t *testing.T) {
	assert.Contains(t, command(t, "schema").out, `"$schema"`)
	assert.Regexp(t, `^gophersnake \S+, protocol \d+, go\S+, \w+/\w+\n$`, command(t, "version").out)
	assert.Equal(t, command(t, "version").out, command(t, "--version").out)
	assert.Contains(t, command(t, "version", "--output", "json").out, `"protocol": 1`)
}

func TestAPipelineThatDoesNotExist(t *testing.T) {
	got := command(t, "run", "nowhere.yaml")
	assert.Equal(t, 7, got.code)
	assert.Equal(t, "error: io error: there is no pipeline nowhere.yaml\n"+
		"hint: name a file, a folder that contains a pipeline.yaml, or a bundled example (hello, resilient or speech)\n", got.err)
}

func TestAnInvalidManifest(t *testing.T) {
	path := fixtures.Write(t, "p.yaml", "version: v1\nnoodes: []\nnodes:\n  - {id: a, node_type: A, timeot: 3s}\n")
	got := command(t, "run", path)
	assert.Equal(t, 3, got.code)
	assert.Regexp(t, `^error: the manifest has \d problems\n`+path+`:2:1: `, got.err)
	got = command(t, "run", path, "--output", "json")
	assert.Equal(t, 3, got.code)
	assert.Regexp(t, `^\{"error":\{"kind":"manifest",.*\}\}\n$`, got.err)
}

func TestValidateStatic(t *testing.T) {
	bad := fixtures.Write(t, "bad.yaml", "version: v1\nnodes: []\n")
	got := command(t, "validate", "--static", "hello", bad, "--cache-dir", t.TempDir())
	assert.Equal(t, 3, got.code)
	assert.Equal(t, "ok hello (2 nodes)\n", got.out)
	assert.Contains(t, got.err, bad+":2:")
	got = command(t, "validate", "--static", "--output", "json", bad)
	assert.Equal(t, 3, got.code)
	assert.Contains(t, got.out, `"ok": false`)
	assert.Contains(t, got.out, `"line": 2`)
	assert.Empty(t, got.err)
}

func TestInitRefusesToOverwrite(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	got := command(t, "init", dir)
	require.Zero(t, got.code, got.err)
	assert.Contains(t, got.out, "gophersnake run "+dir+" --input Ada\n")
	assert.FileExists(t, filepath.Join(dir, "pipeline.yaml"))
	assert.FileExists(t, filepath.Join(dir, "test_hello.py"))

	require.NoError(t, os.WriteFile(filepath.Join(dir, "hello.py"), []byte("mine"), 0o600))
	require.NoError(t, os.Remove(filepath.Join(dir, "README.md")))
	got = command(t, "init", dir)
	assert.Equal(t, 7, got.code)
	assert.Contains(t, got.err, "files exist already: "+filepath.Join(dir, "hello.py")+", "+filepath.Join(dir, "pipeline.yaml")+", "+filepath.Join(dir, "test_hello.py"))
	assert.Contains(t, got.err, "--force")
	assert.NoFileExists(t, filepath.Join(dir, "README.md"))

	require.Zero(t, command(t, "init", dir, "--force").code)
	content, err := os.ReadFile(filepath.Join(dir, "hello.py"))
	require.NoError(t, err)
	assert.Contains(t, string(content), "@node")
}

func TestShellPaths(t *testing.T) {
	for path, want := range map[string]string{
		".": ".", "hello": "./hello", "/tmp/x": "/tmp/x", "my dir": "'./my dir'", "it's": `'./it'\''s'`,
	} {
		assert.Equal(t, want, program.ShellPath(path))
	}
}
