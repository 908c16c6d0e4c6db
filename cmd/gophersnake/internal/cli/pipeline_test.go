package cli

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/fixtures"
	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/program"
	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/manifest"
)

func TestSetParams(t *testing.T) {
	load := func() *manifest.Pipeline {
		p, err := runner.Load("../../examples/hello")
		require.NoError(t, err)
		return p
	}
	p := load()
	require.NoError(t, program.SetParams(p, []string{"greet.greeting=Good day", "shout.times=3", "shout.deep={\"a\": 1}", "shout.empty="}, fixtures.NoWarning(t)))
	assert.Equal(t, map[string]any{"greeting": "Good day"}, p.Node("greet").Params)
	assert.Equal(t, map[string]any{"times": int64(3), "deep": ipc.Object{{Key: "a", Value: int64(1)}}, "empty": ""}, p.Node("shout").Params)
	for setting, want := range map[string]string{
		"greet":       `--param takes NODE.KEY=VALUE, not "greet"`,
		"greet=1":     `--param takes NODE.KEY=VALUE`,
		"greet.=1":    `--param takes NODE.KEY=VALUE`,
		"gret.name=1": `the pipeline has no node "gret"; did you mean greet?`,
		"zzz.name=1":  `the pipeline has no node "zzz"; there are: greet, shout`,
	} {
		assert.ErrorContains(t, program.SetParams(load(), []string{setting}, fixtures.NoWarning(t)), want)
	}
}
