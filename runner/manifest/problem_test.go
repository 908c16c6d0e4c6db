package manifest

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestNearest(t *testing.T) {
	known := []string{"id", "max", "min", "node_type", "params", "timeout", strings.Repeat("x", 65)}
	for name, want := range map[string]string{
		"timout":                "timeout",
		"TIMEOUT":               "timeout",
		"parms":                 "params",
		"mxa":                   "max",
		"type":                  "node_type",
		"nodetype":              "node_type",
		"ip":                    "id",
		"weather":               "",
		"":                      "",
		strings.Repeat("x", 65): "",
	} {
		assert.Equal(t, want, nearest(name, known), name)
	}
	assert.Equal(t, "max", nearest("mux", []string{"max", "mix"}), "the first of equally similar names")
	assert.Empty(t, nearest("x", nil))
}
