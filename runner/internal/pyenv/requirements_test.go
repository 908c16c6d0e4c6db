package pyenv

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestNormalLines(t *testing.T) {
	for line, want := range map[string]string{
		"NumPy == 2.2.6":                       "numpy==2.2.6",
		"a_b.c[x, Y] >=1 , <2":                 "a-b-c[x,Y]>=1,<2",
		`numpy>=2 ; python_version < "3.12"`:   `numpy>=2;python_version < "3.12"`,
		"x @ https://example.com/a_b.whl":      "x @ https://example.com/a_b.whl",
		"git+https://example.com/A_b.git@main": "git+https://example.com/A_b.git@main",
		"--extra-index-url   https://a/ ":      "--extra-index-url https://a/",
		"./My_Package":                         "./My_Package",
		"torch":                                "torch",
	} {
		assert.Equal(t, want, normalLine(line))
	}
	assert.Equal(t, []string{"-f b", "-f a", "numpy", "soxr"}, normalLines([]string{"soxr", "-f b", "NumPy", "-f a", "numpy"}))
}

func TestALineOfAPartReplacesTheLinesForTheSamePackage(t *testing.T) {
	lines := []string{"--no-index", "numpy==1.26.4; python_version < '3.12'", "numpy==2.2.6", "Typing_Extensions>=4", "six", "./pkg"}
	assert.Equal(t, lines, Override(lines, nil))
	assert.Equal(t, []string{"--no-index", "six", "./pkg", "NumPy[extra]==2.0", "typing.extensions", "./other"},
		Override(lines, []string{"NumPy[extra]==2.0", "typing.extensions", "./other"}))
	assert.Len(t, lines, 6)
}

func TestSummary(t *testing.T) {
	for want, lines := range map[string][]string{
		"msgpack":                  {"--pre"},
		"numpy":                    {"numpy>=2"},
		"numpy and soxr":           {"numpy", "soxr[all]==1"},
		"a, b, c":                  {"a", "b", "c"},
		"a, b and 2 more":          {"-i https://x", "a", "b", "c", "d"},
		"./pkg":                    {"-e ./pkg"},
		"git+https://****@x/y.git": {"git+https://token@x/y.git"},
	} {
		assert.Equal(t, want, summary(lines))
	}
}

func TestLocalPaths(t *testing.T) {
	for line, want := range map[string]string{
		"./pkg":                           "./pkg",
		"../pkg[extra]":                   "../pkg",
		".":                               ".",
		"/abs/pkg ; python_version>'3'":   "/abs/pkg",
		"-e ./pkg":                        "./pkg",
		"--editable=./pkg":                "./pkg",
		"wheels/a-1-py3-none-any.whl":     "wheels/a-1-py3-none-any.whl",
		"pkg @ file:///abs/pkg":           "/abs/pkg",
		"pkg[x] @ ./pkg":                  "./pkg",
		"file:///abs/a.whl#sha256=0":      "/abs/a.whl",
		"-r more.txt":                     "more.txt",
		"https://example.com/a.whl":       "",
		"pkg @ https://example.com/a.whl": "",
		"numpy==2":                        "",
		"--pre":                           "",
	} {
		assert.Equal(t, want, localPath(line), line)
	}
}

func TestContentState(t *testing.T) {
	dir := t.TempDir()
	put := func(name, content string) {
		path := filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
	}
	put("pyproject.toml", "x")
	put("src/a.py", "x")
	state, editable := contentState(dir, false), contentState(dir, true)
	put("src/a.py", "x") // the same content, written again
	put("src/a.egg-info/PKG-INFO", "x")
	put("build/lib/a.py", "x")
	put("src/__pycache__/a.pyc", "x")
	assert.Equal(t, state, contentState(dir, false))
	put("src/a.py", "y")
	assert.NotEqual(t, state, contentState(dir, false))
	assert.Equal(t, editable, contentState(dir, true))
	put("pyproject.toml", "y")
	assert.NotEqual(t, editable, contentState(dir, true))
	assert.Equal(t, "missing", contentState(filepath.Join(dir, "nowhere"), false))
}

func TestWhichOptionsUVSupports(t *testing.T) {
	for line, want := range map[string]bool{
		"numpy": true, "-i https://x": true, "-ihttps://x": true, "--index-url=https://x": true,
		"a==1 --hash=sha256:0": true, "--pre": false, "--trusted-host x": false, "a --global-option=-x": false,
	} {
		assert.Equal(t, want, uvSupports([]string{line}), line)
	}
}

func TestLinesOfOutput(t *testing.T) {
	var got []string
	l := &lineWriter{each: func(line string) { got = append(got, line) }}
	for _, part := range []string{"one\r\n\x1b[32mtw", "o\x1b[0m\n\n", "https://user:pass@host/\rlast \xff"} {
		_, _ = l.Write([]byte(part))
	}
	l.end()
	assert.Equal(t, []string{"one", "two", "https://****@host/", "last ?"}, got)
	for range 100 {
		_, _ = l.Write([]byte("x\n"))
	}
	assert.Len(t, l.last, tailLines)
}

func TestPipConfigForUV(t *testing.T) {
	isolated(t, "pip")
	config := pipConfig{
		"index-url": {"https://a/simple"}, "extra-index-url": {"https://b/simple", "https://c/simple"},
		"find-links": {"/x", "/y"}, "timeout": {"12.5"}, "proxy": {"http://p"}, "no-index": {"true"}, "pre": {"0"},
		"only-binary": {"numpy,soxr", ":all:"},
	}
	t.Setenv("https_proxy", "http://mine")
	t.Setenv("HTTP_PROXY", "")
	t.Setenv("http_proxy", "")
	env, args := config.uvSettings(t.TempDir(), nil)
	assert.Equal(t, []string{
		"UV_DEFAULT_INDEX=https://a/simple", "UV_INDEX=https://b/simple https://c/simple", "UV_INDEX_STRATEGY=unsafe-best-match",
		"UV_FIND_LINKS=/x,/y", "UV_HTTP_TIMEOUT=12", "HTTP_PROXY=http://p",
	}, env)
	assert.Equal(t, []string{"--no-index", "--only-binary", "numpy", "--only-binary", "soxr", "--only-binary", ":all:"}, args)

	// The settings of uv itself are kept, also those in a project's file.
	base := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(base, "pyproject.toml"), []byte("[[tool.uv.index]]\nurl = \"https://d\"\n"), 0o600))
	t.Setenv("UV_FIND_LINKS", "/z")
	env, args = config.uvSettings(filepath.Join(base, "pipelines"), nil)
	assert.Equal(t, []string{"UV_HTTP_TIMEOUT=12", "HTTP_PROXY=http://p"}, env)
	assert.NotContains(t, args, "--no-index")
}
