// Package capacity says how many calls the nodes of a pipeline take at once. Package cluster
// announces that, and package jobs takes as many jobs.
package capacity

import (
	"context"
	"slices"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/manifest"
)

// Unbound are the slots of a node that has no workers, because it is a Go function.
const Unbound = 256

// OfNode returns how many calls the workers of a node take at once.
func OfNode(n *manifest.Node, d ipc.Description, pool *runner.PoolHealth) int {
	if pool == nil {
		if n.Wasm != nil || n.Command != nil {
			return max(n.Workers.Max, 1)
		}
		return Unbound
	}
	return max(pool.Max, 1) * max(d.Concurrency, d.Batch, 1)
}

// OfRun returns how many runs of a pipeline are sure to find a free worker of each node, from
// the slots of its nodes.
func OfRun(nodes []int) int {
	if len(nodes) == 0 {
		return Unbound
	}
	return slices.Min(nodes)
}

// Of returns how many runs of a pipeline are sure to find a free worker of each node.
func Of(r *runner.Runner, all []ipc.Description) int {
	health := r.Health()
	var slots []int
	for i := range r.Pipeline().Nodes {
		n := &r.Pipeline().Nodes[i]
		for j := range health.Nodes {
			if health.Nodes[j].Node == n.ID {
				slots = append(slots, OfNode(n, all[i], health.Nodes[j].Pool))
			}
		}
	}
	return OfRun(slots)
}

// Describe returns the descriptions of a pipeline's nodes. It starts the runner if needed.
func Describe(ctx context.Context, r *runner.Runner) ([]ipc.Description, error) {
	if err := r.Start(ctx); err != nil {
		return nil, err
	}
	return r.Describe(ctx)
}

// Free returns for how many runs the workers are free now. Nodes whose workers take several
// calls at once do not count, unless calls wait for them.
func Free(r *runner.Runner, all []ipc.Description) int {
	free := Unbound
	health := r.Health()
	for i := range health.Nodes {
		pool := health.Nodes[i].Pool
		if pool == nil {
			continue
		}
		if pool.Waiting > 0 {
			return 0
		}
		at := slices.IndexFunc(r.Pipeline().Nodes, func(n manifest.Node) bool { return n.ID == health.Nodes[i].Node })
		if at >= 0 && max(all[at].Concurrency, all[at].Batch) <= 1 {
			free = min(free, max(pool.Max, 1)-pool.Busy)
		}
	}
	return max(free, 0)
}
