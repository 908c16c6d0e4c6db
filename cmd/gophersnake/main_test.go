package main

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestTheLinkerDropsUnusedMethods builds the command as for a release. If any function that
// it reaches looks up a method by a name that is not a constant, as text/template does, the
// linker keeps all exported methods of all types, and the binary grows by a seventh.
func TestTheLinkerDropsUnusedMethods(t *testing.T) {
	t.Parallel()
	const mark = "<ReflectMethod>"
	out, err := exec.CommandContext(t.Context(), "go", "build", "-tags", "grpcnotrace", "-ldflags", "-dumpdep", "-o", os.DevNull, ".").CombinedOutput()
	require.NoError(t, err, "%.1000s", out)
	require.Contains(t, string(out), "main.main -> ", "the linker says what needs what")
	for line := range strings.Lines(string(out)) {
		assert.NotContains(t, line, mark)
	}
}
