package clustertest

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/internal/testkit"
	"github.com/gophersnake/gophersnake/runner/manifest"
)

// The pipelines of the tests.
const (
	EchoPipeline = "nodes: [{id: echo, node_type: echo}]"
	FailPipeline = "nodes: [{id: fail, node_type: fail}]"
	DiePipeline  = "nodes: [{id: die, node_type: die, retry: {fixed: 1ms, max_attempts: 1}}]"
)

// HoldPipeline has the node hold, with a number of workers: a call notes in the folder that it has
// begun, and waits for [Release]. More are further settings of the node.
func HoldPipeline(folder string, workers int, more string) string {
	return fmt.Sprintf("nodes: [{id: hold, node_type: hold, params: {folder: %q}, workers: %d%s}]", folder, workers, more)
}

// NewRunner returns a runner for a manifest with the nodes in testdata of package cluster.
func NewRunner(text string, opts ...runner.Option) (*runner.Runner, error) {
	base, err := testdata()
	if err != nil {
		return nil, err
	}
	p, err := manifest.Parse("test.yaml", []byte("version: v1\npython: nodes.py\n"+text), base)
	if err != nil {
		return nil, err
	}
	for i := range p.Nodes {
		p.Nodes[i].Workers.Spare = 0
	}
	return runner.New(p, append(opts, runner.WithSystemPython(), runner.WithPassEnv("MACHINE"))...)
}

// testdata returns the folder with the nodes. A test runs in the folder of its package, which is
// cluster or one below it.
func testdata() (string, error) {
	folder, err := filepath.Abs("testdata")
	for err == nil {
		if _, missing := os.Stat(filepath.Join(folder, "nodes.py")); missing == nil {
			return folder, nil
		}
		above := filepath.Join(filepath.Dir(filepath.Dir(folder)), "testdata")
		if above == folder {
			return "", os.ErrNotExist
		}
		folder = above
	}
	return "", err
}

// Begun returns the process ids of the workers that have begun the call with a name.
func Begun(t testing.TB, folder, name string) (pids []int) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(folder, "begun-"+name+"-*"))
	require.NoError(t, err)
	for _, file := range files {
		pid, err := strconv.Atoi(file[strings.LastIndexByte(file, '-')+1:])
		require.NoError(t, err)
		pids = append(pids, pid)
	}
	return pids
}

// AwaitBegun waits until a number of workers have begun the call with a name.
func AwaitBegun(t testing.TB, folder, name string, n int) []int {
	t.Helper()
	testkit.Eventually(t, func() bool { return len(Begun(t, folder, name)) == n }, name)
	return Begun(t, folder, name)
}

// Release lets all calls of the node hold return.
func Release(t testing.TB, folder string) {
	t.Helper()
	require.NoError(t, os.WriteFile(filepath.Join(folder, "release"), nil, 0o600))
}

// MachineOf returns the process of a machine that a result of the node hold names.
func MachineOf(v any) string { return v.(map[string]any)["machine"].(string) }
