package failure

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/runner"
)

func TestEachKindHasAnExitCode(t *testing.T) {
	seen := make(map[int]runner.Kind)
	for kind, code := range kindCodes {
		assert.NotContains(t, seen, code)
		seen[code] = kind
		assert.Contains(t, ExitCodes, " "+kind.String()+": ")
	}
	_, err := runner.ParseKind("marshaling")
	require.NoError(t, err)
}
