package schema

import (
	"encoding/json"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestNoValueContradictsTheVerdict compares random schemas. A checker of JSON Schema in Python
// has tried values of the one on the other; `python -m tests.schema_values` in pyworker makes
// the file.
func TestNoValueContradictsTheVerdict(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/pairs.json")
	require.NoError(t, err)
	var pairs [][4]json.RawMessage
	require.NoError(t, json.Unmarshal(text, &pairs))
	verdicts := map[Verdict]int{}
	for _, pair := range pairs {
		output, input := pair[0], pair[1]
		refuses, accepts := string(pair[2]) == "true", string(pair[3]) == "true"
		found := Compare(output, input)
		verdicts[found.Verdict]++
		assert.False(t, found.Verdict == Fits && refuses, "it fits, but a value is refused: %s to %s", output, input)
		assert.False(t, found.Verdict == Never && accepts, "it never fits, but a value does: %s to %s", output, input)
	}
	for _, verdict := range []Verdict{Fits, Open, Never} {
		assert.Greater(t, verdicts[verdict], 50, "pairs of verdict %v", verdict)
	}
}
