package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestRemoteMediaIsMeasuredOrSkipped does either: few machines can have its runtime.
func TestRemoteMediaIsMeasuredOrSkipped(t *testing.T) {
	_, err := startRemoteMedia(t.Context(), hostOf(t, ""))
	if err == nil {
		t.Skip("RemoteMedia's runtime can be installed here: go run ./scripts/bench --sections " + remoteMediaName)
	}
	r, out := figures(t, "--rounds", "1", "--calls", "1", "--sections", remoteMediaName)
	require.Len(t, r.Skipped, 1)
	assert.Contains(t, r.Skipped[0].Reason, "cannot be installed")
	assert.Contains(t, out, "- skipped: RemoteMedia: RemoteMedia's runtime cannot be installed: it needs glibc")
}

func TestOurSideOfRemoteMediasFaults(t *testing.T) {
	h := hostOf(t, "")
	r, err := h.pipeline(t.Context(), "remotemedia_ours.yaml")
	require.NoError(t, err)
	defer func() { require.NoError(t, r.Close(t.Context())) }()
	for _, fault := range sessionFaults {
		first, next, err := ourOutcome(t.Context(), r, fault.mode)
		require.NoError(t, err)
		assert.True(t, strings.HasPrefix(next, `result "hello"`), "%s: %s", fault.mode, next)
		want := map[string]string{
			"raise": "execution error", "segv": "SIGSEGV", "exit": "os._exit(3)", "loop": "hung", "hold the GIL": "holds the GIL",
			"set": "marshaling error", "kill": "100 of 100 results",
		}
		assert.Contains(t, first, want[fault.mode])
	}
	took, err := streamed(t.Context(), r, "text", 3, 1)()
	require.NoError(t, err)
	assert.Len(t, took, 3)
	took, err = streamed(t.Context(), r, "text", 500, 64)()
	require.NoError(t, err)
	assert.Len(t, took, 1)
}
