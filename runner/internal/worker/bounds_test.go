package worker

import (
	"fmt"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/runner/internal/output"
)

// The package comment of ipc lists the bounds of all that a worker can send, also of what
// does not travel in frames.
func TestTheTableOfBoundsHasTheConstantsOfTheProcess(t *testing.T) {
	text, err := os.ReadFile("../../../ipc/doc.go")
	require.NoError(t, err)
	for _, row := range []string{
		fmt.Sprintf("standard output, standard error lines of %d KiB; an error has the last %d KiB", output.MaxLine>>10, output.MaxTail>>10),
		fmt.Sprintf("autopsy file: exit report       %d KiB of it, and %d frames", maxDump>>10, maxFrames),
		fmt.Sprintf("%d MiB of a file that the worker may read", maxSource>>20),
		fmt.Sprintf("template: a message             %d KiB", maxTemplateMessage>>10),
	} {
		assert.Contains(t, string(text), row)
	}
	assert.Equal(t, "1|1|unix|/path/to/the/socket|msgpack\n", string(handshakeOf([]byte("1|1|unix|/path/to/the/socket|msgpack|more|"))))
}
