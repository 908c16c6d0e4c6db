// Package monitor keeps what a status page shows of a pipeline beside its health: how many
// calls each node had in the last minute, how long they took, and what it logged. What it keeps
// is bounded, and it costs a call a few atomic operations.
package monitor

import (
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/gophersnake/gophersnake/runner"
)

// Pipeline keeps what happens in one pipeline. It is safe for concurrent use.
type Pipeline struct {
	// changed is called after a change that a watcher should see at once.
	changed func()
	nodes   sync.Map // of *Node, by id
}

// Node is what is kept of one node. It is safe for concurrent use.
type Node struct {
	Calls Calls
	Logs  Logs
}

// New returns a Pipeline. It calls changed when the state of a node or of a worker changes, on
// the goroutine on which that happens.
func New(changed func()) *Pipeline { return &Pipeline{changed: changed} }

// Node returns what is kept of a node. The node "" stands for the pipeline itself: it has the
// records that belong to no node.
func (p *Pipeline) Node(id string) *Node {
	if n, ok := p.nodes.Load(id); ok {
		return n.(*Node)
	}
	n, _ := p.nodes.LoadOrStore(id, &Node{})
	return n.(*Node)
}

// Event takes an event of the runner; it is a function for [runner.WithEvents].
func (p *Pipeline) Event(event runner.Event) {
	switch e := event.(type) {
	case runner.NodeFinished:
		p.Node(e.Node).Calls.Add(e.Time, e.Took, e.Err != nil)
	case runner.WorkerStarted, runner.WorkerStartFailed, runner.WorkerDied, runner.SparePromoted, runner.Reloaded,
		runner.BreakerChanged, runner.HealthChanged:
		p.note(e)
		p.changed()
	case runner.WorkerRetired, runner.CallRetried, runner.CallRefused:
		p.note(e)
	}
}

// note adds an event to the records of its node. The runner logs most events at debug level
// only.
func (p *Pipeline) note(event runner.Event) {
	id, level := "", hclog.Info
	switch e := event.(type) {
	case runner.WorkerStarted:
		id = e.Node
	case runner.WorkerStartFailed:
		id, level = e.Node, hclog.Error
	case runner.WorkerDied:
		id, level = e.Node, hclog.Error
	case runner.WorkerRetired:
		id = e.Node
	case runner.SparePromoted:
		id = e.Node
	case runner.Reloaded:
		id = e.Node
	case runner.BreakerChanged:
		id, level = e.Node, hclog.Warn
	case runner.HealthChanged:
		id = e.Node
		if e.To == runner.StateUnhealthy {
			level = hclog.Error
		}
	case runner.CallRetried:
		id, level = e.Node, hclog.Warn
	case runner.CallRefused:
		id, level = e.Node, hclog.Warn
	}
	p.Node(id).Logs.Add(Record{Time: time.Now(), Level: level.String(), Source: SourceRunner, Text: event.String()})
}
