package cluster

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"runtime/debug"
	"time"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/manifest"
)

// announcement is what a machine says about one pipeline: in each beat, and in its answer to
// a hello.
type announcement struct {
	Protocol int               `json:"protocol"` // the newest that it speaks
	Oldest   int               `json:"oldest"`
	Machine  string            `json:"machine"` // different for each process
	Name     string            `json:"name"`
	Version  string            `json:"version"`
	Labels   map[string]string `json:"labels,omitempty"`
	Leaving  bool              `json:"leaving,omitempty"`
	Groups   bool              `json:"groups,omitempty"` // it reads groups of calls
	Pipeline string            `json:"pipeline"`
	Schema   string            `json:"schema"`
	Targets  []targetState     `json:"targets"`
	// Pipelines names all pipelines of the machine, and Time is its clock; only in an answer to
	// a hello.
	Pipelines []string   `json:"pipelines,omitempty"`
	Time      *time.Time `json:"time,omitempty"`
}

// targetState is a run (Node is empty) or a node of a pipeline.
type targetState struct {
	Node       string `json:"node"`
	Idempotent bool   `json:"idempotent"`
	Ready      bool   `json:"ready"`
	// Lends means that it takes calls whose content stays in the value store.
	Lends bool `json:"lends,omitempty"`
	// Resumes is how a stream continues on another machine, and Sinks are the nodes whose values
	// it returns; it has none if the target takes no streams.
	Resumes string `json:"resumes,omitempty"`
	// Description is that of a node; only in an answer to a hello.
	Description *ipc.Description `json:"description,omitempty"`
	Sinks       []string         `json:"sinks,omitempty"`
	load
}

// hello asks the machines for their announcements of a pipeline, or of all.
type hello struct {
	Protocol int    `json:"protocol"`
	Oldest   int    `json:"oldest"`
	Pipeline string `json:"pipeline,omitempty"`
	All      bool   `json:"all,omitempty"`
}

// schemaDigest returns a digest of what callers see of a pipeline: its nodes, connections,
// inputs and results. Code that changes without changing these has the same digest.
func schemaDigest(p *manifest.Pipeline, all []ipc.Description) string {
	type node struct {
		ID, Type, Kind string
		Inputs         []ipc.Parameter
		Output         ipc.Schema
		Many, Stateful bool
	}
	nodes := make([]node, len(all))
	for i, d := range all {
		nodes[i] = node{p.Nodes[i].ID, p.Nodes[i].Type, d.NodeKind, d.Inputs, d.Output, d.Many, d.Stateful}
	}
	type connection struct{ From, To, Port string }
	var connections []connection
	for _, c := range p.Connections {
		connections = append(connections, connection{c.From, c.To, c.Port})
	}
	text, err := json.Marshal([]any{nodes, connections})
	if err != nil { // not possible: schemas are JSON
		return ""
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:8])
}

// programVersion returns the version of the main module, as NATS micro services want it.
func programVersion() string {
	const unknown = "0.0.0"
	info, ok := debug.ReadBuildInfo()
	if !ok || len(info.Main.Version) < 2 || info.Main.Version[0] != 'v' {
		return unknown
	}
	return info.Main.Version[1:]
}

// code is what a machine knows of the code of a pipeline.
type code struct {
	generation int // of the workers that have it; see generationOf
	nodes      []ipc.Description
	schema     string
	resumes    string   // how streams continue elsewhere
	sinks      []string // whose values streams return
}

// newCode returns what is known of the code of a runner, whose nodes have just been described.
func newCode(r *runner.Runner, generation int, nodes []ipc.Description) *code {
	c := &code{generation: generation, nodes: nodes, schema: schemaDigest(r.Pipeline(), nodes)}
	c.resumes, c.sinks = resumesHow(r, nodes)
	return c
}

// generationOf returns a number that grows with each reload of a node.
func generationOf(health runner.Health) (sum int) {
	for i := range health.Nodes {
		if pool := health.Nodes[i].Pool; pool != nil {
			sum += pool.Generation
		}
	}
	return sum
}

// readAgain describes the nodes of a pipeline whose code was reloaded, so that the machine
// announces what they now take and return.
func (m *Machine) readAgain(p *servedPipeline, generation int) {
	defer p.reading.Store(false)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	m.beating.Go(func() {
		defer cancel()
		select {
		case <-m.ended:
		case <-ctx.Done():
		}
	})
	all, err := p.runner.Describe(ctx)
	if err != nil {
		m.logger.Debug("cannot describe the reloaded nodes; trying again", "pipeline", p.name, "error", err)
		return
	}
	p.code.Store(newCode(p.runner, generation, all))
	m.changed()
}
