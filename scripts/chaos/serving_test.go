package main

import (
	"encoding/json"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A short run with fewer clients.
func TestNoRequestIsLostInAShortChaosOfServe(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("needs /proc")
	}
	var out strings.Builder
	err := run(t.Context(), []string{"--serve", "--time", "5s", "--clients", "100", "--inject-every", "150ms", "--json"}, &out)
	require.NoError(t, err, out.String())
	var r struct {
		Requests, Settled, Kills int
		Outcomes                 map[string]map[string]int
	}
	require.NoError(t, json.Unmarshal([]byte(out.String()), &r))
	assert.Equal(t, r.Requests, r.Settled)
	assert.Positive(t, r.Kills)
	for name, row := range r.Outcomes {
		assert.Positive(t, row["right"], name)
		assert.Zero(t, row["wrong"], name)
	}
	assert.Len(t, r.Outcomes, 6)
}
