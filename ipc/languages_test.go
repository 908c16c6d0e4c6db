package ipc_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/manifest"
)

// requirements are those of two kinds of interpreters. Their tensors are NumPy's arrays or the
// package's own.
var requirements = map[string]string{"without numpy": "", "with numpy": "requirements: [numpy==2.2.6]\n"}

// startNode runs one of the nodes in testdata/languages in a real worker.
func startNode(tb testing.TB, nodeType, requirement string) *runner.Runner {
	base, err := filepath.Abs(filepath.Join("testdata", "languages"))
	require.NoError(tb, err)
	text := fmt.Sprintf("version: v1\npython: nodes.py\n%snodes: [{id: n, node_type: %s, workers: {spare: 0}}]\n", requirement, nodeType)
	p, err := manifest.Parse("languages.yaml", []byte(text), base)
	require.NoError(tb, err)
	r, err := runner.New(p)
	require.NoError(tb, err)
	tb.Cleanup(func() { _ = r.Close(context.Background()) })
	require.NoError(tb, r.Start(tb.Context()))
	return r
}

// FuzzGoToPythonAndBack checks that a Go value is the same after Python has echoed it.
func FuzzGoToPythonAndBack(f *testing.F) {
	for kind := range byte(14) {
		f.Add([]byte{kind, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0, 1, 2, 3, 4, 5})
		f.Add([]byte{13, 5, 8, 'a', 'b', 12, 4, kind, 0xf8, 0xf9, 0xff, 1, 2, kind, 0xff, 0xff, 0xff, 0x7f})
	}
	for seed := range uint64(300) {
		f.Add(binary.LittleEndian.AppendUint64(nil, seed*0x9e3779b97f4a7c15))
	}
	echoes := map[string]*runner.Runner{}
	for name, requirement := range requirements {
		echoes[name] = startNode(f, "echo", requirement)
	}
	f.Fuzz(func(t *testing.T, seed []byte) {
		value := ipc.GrowForPython(seed)
		for name, echo := range echoes {
			again, err := echo.Run(t.Context(), value)
			require.NoError(t, err, name)
			if !ipc.Same(value, again) {
				t.Fatalf("%s, %#v came back as %#v", name, value, again)
			}
		}
	})
}

// FuzzPythonToGoAndBack checks that a Python value is the same to the last bit after it has
// been a Go value.
func FuzzPythonToGoAndBack(f *testing.F) {
	for seed := range int64(300) {
		f.Add(seed)
	}
	makers, digests := map[string]*runner.Runner{}, map[string]*runner.Runner{}
	for name, requirement := range requirements {
		makers[name], digests[name] = startNode(f, "make", requirement), startNode(f, "digest", requirement)
	}
	f.Fuzz(func(t *testing.T, seed int64) {
		for name, maker := range makers {
			made, err := maker.Run(t.Context(), seed)
			require.NoError(t, err, name)
			found := made.(map[string]any)
			for other, digest := range digests {
				again, err := digest.Run(t.Context(), found["value"])
				require.NoError(t, err, other)
				if again != found["digest"] {
					t.Fatalf("made %s and digested %s, %#v is another value", name, other, found["value"])
				}
			}
		}
	})
}
