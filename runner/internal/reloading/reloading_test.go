package reloading

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/runner/manifest"
)

func TestAVoteIsApprovedByAll(t *testing.T) {
	v := NewVote(2)
	first := make(chan error, 1)
	go func() { first <- v.Approve(t.Context()) }()
	require.NoError(t, v.Approve(t.Context()))
	require.NoError(t, <-first)
	v.Reject()
	require.NoError(t, v.Approve(t.Context()), "a decision is final")
}

func TestAVoteIsRejectedByOne(t *testing.T) {
	v := NewVote(2)
	first := make(chan error, 1)
	go func() { first <- v.Approve(t.Context()) }()
	v.Reject()
	v.Reject()
	require.ErrorIs(t, <-first, ErrRejected)

	v = NewVote(2)
	ctx, cancel := context.WithCancelCause(t.Context())
	gone := errors.New("gone")
	cancel(gone)
	require.ErrorIs(t, v.Approve(ctx), gone)
	require.ErrorIs(t, v.Approve(t.Context()), ErrRejected, "the other voter gets the decision")
}

func TestStaleBytecodeIsDropped(t *testing.T) {
	base := filepath.Join(t.TempDir(), "with [odd] * name")
	cache := filepath.Join(base, "__pycache__")
	require.NoError(t, os.MkdirAll(cache, 0o755))
	lastRead := time.Now()
	at := func(name string, age time.Duration) {
		file := filepath.Join(base, name)
		require.NoError(t, os.WriteFile(file, nil, 0o600))
		require.NoError(t, os.Chtimes(file, time.Time{}, lastRead.Add(-age)))
	}
	at("fresh.py", time.Hour)
	at("__pycache__/fresh.cpython-311.pyc", time.Minute)
	at("edited.py", time.Second)
	at("__pycache__/edited.cpython-311.pyc", time.Second)
	at("edited_since.py", -time.Millisecond)
	at("__pycache__/edited_since.cpython-311.pyc", -time.Second)
	at("__pycache__/gone.cpython-311.pyc", time.Minute)
	require.NoError(t, DropStaleBytecode(&manifest.Pipeline{Base: base}, lastRead))
	left, err := os.ReadDir(cache)
	require.NoError(t, err)
	var names []string
	for _, entry := range left {
		names = append(names, entry.Name())
	}
	assert.Equal(t, []string{"fresh.cpython-311.pyc", "gone.cpython-311.pyc"}, names)

	require.NoError(t, os.MkdirAll(filepath.Join(cache, "edited.cpython-311.pyc", "held"), 0o755))
	assert.Error(t, DropStaleBytecode(&manifest.Pipeline{Base: base}, time.Time{}.Add(1)), "what cannot be removed")
}
