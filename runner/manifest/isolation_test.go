package manifest

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestIsolationIsStrictByDefault(t *testing.T) {
	p, err := Load("testdata/valid/isolation.yaml")
	require.NoError(t, err)
	assert.Equal(t, &Isolation{}, p.Node("strict").Isolation)
	assert.Equal(t, &Isolation{}, p.Node("empty").Isolation)
	assert.Nil(t, p.Node("none").Isolation)
	assert.Equal(t, &Isolation{
		Read: []string{"data", "/srv/models"}, Write: []string{"../out"},
		Network: true, Signals: true, Processes: AnyProcesses, CPUs: 1.5,
	}, p.Node("wide").Isolation)
	assert.Equal(t, &Isolation{Processes: 3}, p.Node("blank").Isolation)
	assert.Equal(t, []string{"HF_TOKEN", "AWS_*", "A?"}, p.Node("strict").PassEnv)
	assert.Empty(t, p.Node("empty").PassEnv)
}

func TestValidateChecksIsolation(t *testing.T) {
	node := NewNode("a", "A")
	node.Isolation = &Isolation{Processes: -2, CPUs: -1, Read: []string{""}}
	node.PassEnv = []string{"A=B"}
	err := (&Pipeline{Version: Version, Nodes: []Node{node}}).Validate()
	for _, part := range []string{
		"nodes[0].isolation.processes: must be between 0 and 4194304, or any",
		"nodes[0].isolation.cpus: must be a number from 0.01 to 8192",
		"nodes[0].isolation.read[0]: must name a file or a folder",
		`nodes[0].pass_env[0]: "A=B" is neither`,
	} {
		assert.ErrorContains(t, err, part)
	}
}
