package worker

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/runner/internal/testkit"
)

func TestAnOOMKillIsKnown(t *testing.T) {
	if !testkit.InMemoryGroup(t, 192<<20) {
		return
	}
	w := start(t, testConfig(t, "misbehave"))
	_, err := call(t.Context(), w, way("eat"))
	var exit *Exit
	require.ErrorAs(t, err, &exit)
	assert.True(t, exit.OutOfMemory)
	assert.ErrorContains(t, err, "the kernel killed the interpreter because memory ran out")
}
