package cluster_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/cluster"
	"github.com/gophersnake/gophersnake/runner/cluster/internal/clustertest"
	"github.com/gophersnake/gophersnake/runner/manifest"
	"github.com/gophersnake/gophersnake/runner/media"
)

// speech copies the example speech into a folder, with a manifest whose transcriber has a host, and
// returns the manifest.
func speech(t *testing.T) (file string) {
	t.Helper()
	folder := t.TempDir()
	require.NoError(t, os.CopyFS(folder, os.DirFS("../../cmd/gophersnake/examples/speech")))
	file = filepath.Join(folder, "pipeline.yaml")
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	placed := strings.Replace(string(text), "node_type: Transcribe\n", "node_type: Transcribe\n    host: {label: gpu}\n", 1)
	require.NotEqual(t, string(text), placed)
	require.NoError(t, os.WriteFile(file, []byte(placed), 0o600))
	return file
}

// TestTheTranscriberOfTheSpeechExampleRunsOnTheMachineWithItsLabel has the machine in a network
// namespace. The environment of the example is built in the user's cache before: the first run uses
// the internet.
func TestTheTranscriberOfTheSpeechExampleRunsOnTheMachineWithItsLabel(t *testing.T) {
	if !clustertest.IsInOwnNetwork() {
		p, err := runner.Load("../../cmd/gophersnake/examples/speech/pipeline.yaml")
		require.NoError(t, err)
		_, err = runner.EnsureEnvironment(t.Context(), p.Requirements)
		require.NoError(t, err)
	}
	if !clustertest.InOwnNetwork(t) {
		return
	}
	port, file := clustertest.FreePorts(t, 1)[0], speech(t)
	clustertest.StartServer(t, clustertest.Settings{Name: "s", Listen: "0.0.0.0", Port: port, StateDir: t.TempDir()})
	there := newHost(t)
	clustertest.Start(t, "machine", clustertest.Settings{
		Name: "gpu-1", URLs: []string{fmt.Sprintf("nats://%s:%d", there.Near, port)}, Labels: map[string]string{"gpu": "h200"},
		Manifests: map[string]string{"speech": file},
	}, there.Exec()...)
	r, err := loadPlaced(connect(t, fmt.Sprintf("nats://127.0.0.1:%d", port)), "speech", file, cluster.WithName("office"))
	require.NoError(t, err)
	defer func() { assert.NoError(t, r.Close(context.Background())) }()
	require.NoError(t, r.Start(t.Context()))
	assert.True(t, r.RunsHere("voice_activity"))
	assert.False(t, r.RunsHere("transcribe"))

	sample, err := os.ReadFile(filepath.Join(filepath.Dir(file), "sample.wav"))
	require.NoError(t, err)
	audio, err := media.DecodeWAV(sample)
	require.NoError(t, err)
	size := segmentsOf(t, file, audio)
	require.Greater(t, size, int64(100_000))

	before := there.Sent(t)
	lines, err := r.Run(t.Context(), audio)
	require.NoError(t, err)
	moved := there.Sent(t) - before
	require.Len(t, lines, 3)
	assert.Contains(t, lines.([]any)[0].(map[string]any)["text"], "welcome to the library")
	// The audio goes to the machine once, and not elsewhere in between.
	assert.Greater(t, moved, size)
	assert.Less(t, moved, size*5/4)
}

// segmentsOf returns the size of the audio in which the example finds speech.
func segmentsOf(t *testing.T, file string, audio *ipc.Audio) (size int64) {
	t.Helper()
	p, err := runner.Load(file)
	require.NoError(t, err)
	p.Nodes = slices.DeleteFunc(p.Nodes, func(n manifest.Node) bool { return n.ID == "transcribe" })
	p.Connections = slices.DeleteFunc(p.Connections, func(c manifest.Connection) bool { return c.To == "transcribe" })
	r, err := runner.New(p)
	require.NoError(t, err)
	defer func() { assert.NoError(t, r.Close(context.Background())) }()
	segments, err := r.Run(t.Context(), audio)
	require.NoError(t, err)
	for _, segment := range segments.([]any) {
		size += 4 * int64(len(segment.(map[string]any)["audio"].(*ipc.Audio).Samples))
	}
	return size
}
