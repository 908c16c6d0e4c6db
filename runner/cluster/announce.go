package cluster

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"runtime/debug"
	"time"

	"github.com/gophersnake/gophersnake/ipc"
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
