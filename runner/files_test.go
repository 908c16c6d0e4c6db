package runner_test

import (
	"embed"
	"os"
	"path/filepath"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/internal/isolation"
)

//go:embed testdata/sum.yaml testdata/*.py
var embedded embed.FS

// unpacked returns the folders with unpacked files.
func unpacked(t *testing.T) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(os.TempDir(), "gophersnake-files-*"))
	require.NoError(t, err)
	return found
}

func TestAnEmbeddedPipelineRunsAndLeavesNothing(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	p, err := runner.LoadFS(embedded, "testdata/sum.yaml")
	require.NoError(t, err)
	assert.Equal(t, "testdata", p.Base)
	require.NoError(t, p.Validate())
	assert.Empty(t, unpacked(t))
	one, err := runner.New(p)
	require.NoError(t, err)
	two, err := runner.New(p)
	require.NoError(t, err)
	assert.Len(t, unpacked(t), 2, "each runner has files of its own")
	require.NoError(t, two.Close(t.Context()))
	got, err := one.Run(t.Context(), 20)
	require.NoError(t, err)
	assert.EqualValues(t, 42, got)
	require.NoError(t, one.Reload(t.Context()))
	got, err = one.Run(t.Context(), 20)
	require.NoError(t, err)
	assert.EqualValues(t, 42, got)
	descriptions, err := one.Describe(t.Context())
	require.NoError(t, err)
	assert.Len(t, descriptions, 2)
	require.NoError(t, one.Close(t.Context()))
	assert.Empty(t, unpacked(t))
}

func TestAnIsolatedNodeOfAnEmbeddedPipelineReadsItsFilesOnly(t *testing.T) {
	if missing := new(isolation.Profile).Missing(); len(missing) > 0 {
		t.Skip(missing)
	}
	source, err := embedded.ReadFile("testdata/isolated.py")
	require.NoError(t, err)
	p, err := runner.LoadFS(fstest.MapFS{
		"app/pipeline.yaml": {Data: []byte("version: v1\nnodes: [{id: read, python: nodes.py, node_type: read, isolation: strict, retry: none}]")},
		"app/nodes.py":      {Data: source},
		"app/data.txt":      {Data: []byte("words")},
		"secret.txt":        {Data: []byte("secret")},
	}, "app")
	require.NoError(t, err)
	r, err := runner.New(p)
	require.NoError(t, err)
	defer r.Close(t.Context())
	got, err := r.Run(t.Context(), "data.txt")
	require.NoError(t, err)
	assert.Equal(t, "words", got)
	_, err = r.Run(t.Context(), "../secret.txt")
	assert.Equal(t, "PermissionError", asError(t, err).PythonClass)
}

// The environment of a program that starts again is not built again, although its files
// are in another folder each time.
func TestTheRequirementsOfAnEmbeddedPipelineNameTheSameEnvironment(t *testing.T) {
	files := fstest.MapFS{
		"pipeline.yaml":    {Data: []byte("version: v1\npython: nodes.py\nrequirements: needs.txt\nnodes: [{id: a, node_type: a}]")},
		"nodes.py":         {},
		"needs.txt":        {Data: []byte("six==1.17.0 # text\n./pkg\n")},
		"pkg/setup.py":     {Data: []byte("import setuptools\nsetuptools.setup(name='pkg')")},
		"pkg/__init__.py":  {},
		"unused/notes.txt": {},
	}
	key := func() string {
		p, err := runner.LoadFS(files, ".")
		require.NoError(t, err)
		assert.Equal(t, []string{"six==1.17.0", "./pkg"}, p.Requirements)
		r, err := runner.New(p)
		require.NoError(t, err)
		defer r.Close(t.Context())
		keys, err := r.EnvironmentKeys(t.Context())
		require.NoError(t, err)
		require.Len(t, keys, 1)
		return keys[0]
	}
	first := key()
	assert.Equal(t, first, key())
	files["pkg/__init__.py"] = &fstest.MapFile{Data: []byte("changed = True")}
	assert.NotEqual(t, first, key())
}

func TestAFaultyEmbeddedPipelineIsRefusedAndLeavesNothing(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	manifest := func(text string) fstest.MapFS {
		return fstest.MapFS{"a/p.yaml": {Data: []byte("version: v1\n" + text)}, "a/nodes.py": {}, "a/b/nothing.txt": {}}
	}
	for text, want := range map[string]string{
		"python: node.py\nnodes: [{id: a, node_type: a}]":        `there is no file a/node.py`,
		"python: ../../nodes.py\nnodes: [{id: a, node_type: a}]": `is outside of the file system that the pipeline is in`,
		"requirements: needs.txt\nnodes: [{id: a}]":              `there is no file a/needs.txt`,
		"requirements: b\nnodes: [{id: a}]":                      `a/b is not a file`,
	} {
		_, err := runner.LoadFS(manifest(text), "a/p.yaml")
		require.ErrorIs(t, err, runner.KindManifest)
		assert.ErrorContains(t, err, want)
		assert.ErrorContains(t, err, "a/p.yaml:")
	}
	_, err := runner.LoadFS(manifest(""), "a")
	assert.ErrorContains(t, err, "pipeline.yaml")
	_, err = runner.LoadFS(manifest(""), "b")
	assert.ErrorIs(t, err, os.ErrNotExist)

	p, err := runner.LoadFS(manifest("nodes: [{id: a, node_type: Unknown}]"), "a/p.yaml")
	require.NoError(t, err)
	_, err = runner.New(p)
	require.ErrorContains(t, err, "there is no node type")
	hostile := manifest("python: nodes.py\nnodes: [{id: a, node_type: a}]")
	hostile["a/link"] = &fstest.MapFile{Data: []byte("/etc"), Mode: os.ModeSymlink}
	p, err = runner.LoadFS(hostile, "a/p.yaml")
	require.NoError(t, err)
	_, err = runner.New(p)
	require.ErrorIs(t, err, runner.KindIO)
	assert.ErrorContains(t, err, "unpack a/link: neither a regular file nor a folder")
	assert.Empty(t, unpacked(t))
}
