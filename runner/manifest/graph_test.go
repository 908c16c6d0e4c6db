package manifest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/ipc"
)

// pipeline returns a pipeline with edges such as "a>b" and "a>mix.left".
func pipeline(ids string, edges ...string) *Pipeline {
	p := &Pipeline{Version: Version}
	for _, id := range strings.Fields(ids) {
		p.Nodes = append(p.Nodes, NewNode(id, "T"))
	}
	for _, edge := range edges {
		from, to, _ := strings.Cut(edge, ">")
		to, port, _ := strings.Cut(to, ".")
		p.Connections = append(p.Connections, Connection{From: from, To: to, Port: port})
	}
	return p
}

func TestGraph(t *testing.T) {
	p := pipeline("sink mix left right source", "source>left", "source>right", "left>mix.left", "right>mix.right", "mix>sink")
	require.NoError(t, p.Validate())
	assert.Equal(t, []string{"source", "left", "right", "mix", "sink"}, p.Order())
	g := p.Graph()
	assert.Equal(t, []string{"source"}, g.Sources())
	assert.Equal(t, []string{"sink"}, g.Sinks())
	assert.Equal(t, []Connection{{From: "left", To: "mix", Port: "left"}, {From: "right", To: "mix", Port: "right"}}, g.Inputs("mix"))
	assert.Equal(t, []Connection{{From: "source", To: "left"}, {From: "source", To: "right"}}, g.Outputs("source"))
	assert.Empty(t, g.Inputs("source"))
	assert.Nil(t, g.Inputs("absent"))
}

func TestOrderOfIndependentNodesIsTheManifests(t *testing.T) {
	assert.Equal(t, []string{"c", "b", "a"}, pipeline("c b a").Order())
	assert.Equal(t, []string{"b", "c", "a", "d"}, pipeline("c b a d", "b>c", "b>a").Order())
	assert.Equal(t, []string{"free"}, pipeline("a b behind free", "a>b", "b>a", "b>behind").Order(), "cycles are left out")
}

// In a large random graph each node follows its inputs.
func TestOrderOfLargeGraphs(t *testing.T) {
	const n = 10_000
	random := rand.New(rand.NewPCG(1, 2))
	p := &Pipeline{Version: Version}
	rank := random.Perm(n)
	for i := range n {
		p.Nodes = append(p.Nodes, NewNode(fmt.Sprintf("n%d", i), "T"))
	}
	for range 3 * n {
		a, b := random.IntN(n), random.IntN(n)
		if rank[a] > rank[b] {
			a, b = b, a
		}
		if a != b {
			p.Connections = append(p.Connections, Connection{
				From: p.Nodes[a].ID, To: p.Nodes[b].ID, Port: fmt.Sprintf("p%d", len(p.Connections)),
			})
		}
	}
	require.NoError(t, p.Validate())
	order := p.Order()
	require.Len(t, order, n)
	index := make(map[string]int, n)
	for i, id := range order {
		index[id] = i
	}
	for _, c := range p.Connections {
		require.Less(t, index[c.From], index[c.To])
	}
}

func TestCycles(t *testing.T) {
	for _, c := range []struct {
		name string
		p    *Pipeline
		want string
	}{
		{"two nodes", pipeline("a b", "a>b", "b>a"), "connections[1]: closes a cycle: a → b → a (connections[0], connections[1])"},
		{"entered late", pipeline("s a b c", "s>b.x", "a>b.y", "b>c", "c>a"),
			"connections[3]: closes a cycle: a → b → c → a (connections[1], connections[2], connections[3])"},
		{"two of them", pipeline("a b c d", "a>b", "b>a", "c>d", "d>c"),
			"connections[1]: closes a cycle: a → b → a (connections[0], connections[1])\n" +
				"connections[3]: closes a cycle: c → d → c (connections[2], connections[3])"},
		{"sharing a node", pipeline("a b c", "a>b", "b>a.x", "b>c", "c>a.y"),
			"connections[1]: closes a cycle: a → b → a (connections[0], connections[1])"},
		{"to itself", pipeline("a", "a>a"), `connections[0]: connects "a" to itself`},
		{"inside a path", pipeline("a b c d", "a>b", "b>c.x", "c>d", "d>c.y"),
			"connections[3]: closes a cycle: c → d → c (connections[2], connections[3])"},
	} {
		t.Run(c.name, func(t *testing.T) { assert.EqualError(t, c.p.Validate(), c.want) })
	}
}

func TestLongCycleIsAbridged(t *testing.T) {
	const n = 10_000
	p := &Pipeline{Version: Version}
	for i := range n {
		p.Nodes = append(p.Nodes, NewNode(fmt.Sprintf("n%d", i), "T"))
		p.Connections = append(p.Connections, Connection{From: fmt.Sprintf("n%d", i), To: fmt.Sprintf("n%d", (i+1)%n)})
	}
	text := p.Validate().Error()
	assert.Contains(t, text, "closes a cycle: n0 → n1 → n2 → n3 → n4 → n5 → … 9989 more … → n9995 → n9996 → n9997 → n9998 → n9999 → n0 (")
	assert.Less(t, len(text), 600)
}

// Every cycle that the search finds is one, and the search finds one if there is any.
func TestCyclesOfRandomGraphs(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	cyclic := 0
	for range 2000 {
		n := 2 + random.IntN(7)
		p := &Pipeline{Version: Version}
		for i := range n {
			p.Nodes = append(p.Nodes, NewNode(fmt.Sprintf("n%d", i), "T"))
		}
		for i := range random.IntN(2 * n) {
			a, b := random.IntN(n), random.IntN(n)
			if a != b {
				p.Connections = append(p.Connections, Connection{From: p.Nodes[a].ID, To: p.Nodes[b].ID, Port: fmt.Sprintf("p%d", i)})
			}
		}
		cycles := p.Graph().cycles()
		require.Equal(t, len(p.Order()) < n, len(cycles) > 0)
		cyclic += min(1, len(cycles))
		var seen []string
		for _, cycle := range cycles {
			for i, c := range cycle {
				next := p.Connections[cycle[(i+1)%len(cycle)]]
				require.Equal(t, p.Connections[c].To, next.From)
				require.NotContains(t, seen, next.From)
				seen = append(seen, next.From)
			}
		}
	}
	assert.Greater(t, cyclic, 100)
	assert.Less(t, cyclic, 1900)
}

func TestValidateWithoutDocument(t *testing.T) {
	nan := 0.0
	nan /= nan
	for want, change := range map[string]func(p *Pipeline){
		"version: is required; write version: v1":                                    func(p *Pipeline) { p.Version = "" },
		"metadata.name: must be a string, not 5":                                     func(p *Pipeline) { p.Metadata = map[string]any{"name": 5} },
		"requirements[0]: must not be empty":                                         func(p *Pipeline) { p.Requirements = []string{" "} },
		"requirements[0]: must be a single line":                                     func(p *Pipeline) { p.Requirements = []string{"a\nb"} },
		"interpreter: must be a single line of text":                                 func(p *Pipeline) { p.Interpreter = "a\nb" },
		"nodes: must list at least one node":                                         func(p *Pipeline) { p.Nodes = nil },
		"nodes[0].workers: must be at least 1":                                       func(p *Pipeline) { p.Nodes[0].Workers = Workers{} },
		"nodes[0].workers.spare: must be between 0 and 1024":                         func(p *Pipeline) { p.Nodes[0].Workers.Spare = -1 },
		"nodes[0].workers.scale_after: must not be negative":                         func(p *Pipeline) { p.Nodes[0].Workers.ScaleAfter = -1 },
		"nodes[0].workers.idle_timeout: must not be negative":                        func(p *Pipeline) { p.Nodes[0].Workers.IdleTimeout = -1 },
		"nodes[0].workers.max_age: must not be negative":                             func(p *Pipeline) { p.Nodes[0].Workers.MaxAge = -1 },
		"nodes[0].workers.max_calls: must be at least 1":                             func(p *Pipeline) { p.Nodes[0].Workers.MaxCalls = -1 },
		"nodes[0].limits.cpu_time: must not be negative":                             func(p *Pipeline) { p.Nodes[0].Limits.CPUTime = -1 },
		"nodes[0].limits.result: must be at least 1 byte":                            func(p *Pipeline) { p.Nodes[0].Limits.Result = -1 },
		"nodes[0].limits.queue: must be at least 1":                                  func(p *Pipeline) { p.Nodes[0].Limits.Queue = -1 },
		"nodes[0].limits.queue_wait: must not be negative":                           func(p *Pipeline) { p.Nodes[0].Limits.QueueWait = -1 },
		"nodes[0].timeout: must not be negative":                                     func(p *Pipeline) { p.Nodes[0].Timeout = -1 },
		"nodes[0].setup_timeout: must be more than 0":                                func(p *Pipeline) { p.Nodes[0].SetupTimeout = 0 },
		`nodes[0].retry: unknown mode ""; the modes are none, fixed and exponential`: func(p *Pipeline) { p.Nodes[0].Retry = &Retry{Multiplier: 1} },
		"nodes[0].retry.max_attempts: must be between 0 and 1000000":                 func(p *Pipeline) { p.Nodes[0].Retry.MaxAttempts = -1 },
		"nodes[0].retry.base: must not be negative":                                  func(p *Pipeline) { p.Nodes[0].Retry.Base = -1 },
		"nodes[0].retry.max: must not be negative":                                   func(p *Pipeline) { p.Nodes[0].Retry.Max = -1 },
		"nodes[0].retry.budget: must not be negative":                                func(p *Pipeline) { p.Nodes[0].Retry.Budget = -1 },
		"nodes[0].retry.multiplier: must be 1 or more, not NaN":                      func(p *Pipeline) { p.Nodes[0].Retry.Multiplier = nan },
		"nodes[0].retry.jitter: must be a fraction between 0 and 1, not 2":           func(p *Pipeline) { p.Nodes[0].Retry.Jitter = 2 },
		"nodes[0].breaker.cool_down: must be more than 0":                            func(p *Pipeline) { p.Nodes[0].Breaker.CoolDown = -1 },
		"nodes[0].limits.memory: must be at least 16MiB":                             func(p *Pipeline) { p.Nodes[0].Limits.Memory = -1 },
		`nodes[0].env: "" cannot be the name of an environment variable`:             func(p *Pipeline) { p.Nodes[0].Env = map[string]string{"": ""} },
		"connections[0].from: is required":                                           func(p *Pipeline) { p.Connections[0].From = "" },
		`connections[0].to: the port "a-b" is not a valid Python argument name`:      func(p *Pipeline) { p.Connections[0].Port = "a-b" },
	} {
		t.Run(want, func(t *testing.T) {
			p := pipeline("a b", "a>b")
			r, b := DefaultRetry(), DefaultBreaker()
			p.Nodes[0].Retry, p.Nodes[0].Breaker = &r, &b
			require.NoError(t, p.Validate())
			change(p)
			err := p.Validate()
			var found *Errors
			require.True(t, errors.As(err, &found))
			assert.True(t, slices.ContainsFunc(found.Problems, func(p Problem) bool { return p.String() == want }), err)
		})
	}
}

// A pipeline keeps the positions of its document for later problems.
func TestValidateKeepsPositions(t *testing.T) {
	p, err := Parse("p.yaml", []byte(minimal), "")
	require.NoError(t, err)
	p.Nodes[0].Workers.Max = 0
	assert.EqualError(t, p.Validate(), "p.yaml:2:9: nodes[0].workers: must be at least 1")
	p.Version = ""
	assert.ErrorContains(t, p.Validate(), "p.yaml: version: is required")
}

func TestChainsAreTheNodesThatConnectionsFuse(t *testing.T) {
	for edges, want := range map[string][][]string{
		"a>b b>c c>d":    nil,
		"a=b b>c c>d":    {{"a", "b"}},
		"c=d a=b b>c":    {{"a", "b"}, {"c", "d"}},
		"c=d b=c a=b":    {{"a", "b", "c", "d"}},
		"a=b b=a":        nil,
		"a=a a=b":        {{"a", "b"}},
		"a=b b=c c=b":    {{"a", "b", "c", "b"}},
		"a>b a>c b>d.x":  nil,
		"d=c b>d b>a.in": {{"d", "c"}},
	} {
		p := pipeline("a b c d")
		for edge := range strings.FieldsSeq(edges) {
			i := strings.IndexAny(edge, ">=")
			to, port, _ := strings.Cut(edge[i+1:], ".")
			p.Connections = append(p.Connections, Connection{From: edge[:i], To: to, Port: port, Fuse: edge[i] == '='})
		}
		assert.Equal(t, want, p.Graph().Chains(), edges)
	}
}

func TestAWorkerRunsABoundedNumberOfFusedNodes(t *testing.T) {
	p := &Pipeline{Version: Version}
	for i := range ipc.MaxMembers + 1 {
		p.Nodes = append(p.Nodes, NewNode(fmt.Sprintf("n%d", i), "T"))
		if i > 0 {
			p.Connections = append(p.Connections, Connection{From: p.Nodes[i-1].ID, To: p.Nodes[i].ID, Fuse: true})
		}
	}
	assert.EqualError(t, p.Validate(), `connections: fuse 257 nodes in a row, from "n0" to "n256"; one worker runs at most 256`)
	p.Connections[7].Fuse = false
	assert.NoError(t, p.Validate())
}

func TestManyNodesAreNotListed(t *testing.T) {
	p := pipeline("a b c d e f g h i j k l m n", "a>loudspeaker")
	assert.EqualError(t, p.Validate(), `connections[0].to: there is no node "loudspeaker"`)
}
