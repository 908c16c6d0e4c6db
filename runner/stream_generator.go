package runner

import (
	"context"
	"slices"

	"github.com/gophersnake/gophersnake/ipc"
)

// give puts a value into all outputs, waiting for room. It takes the payload over.
func (st *stage) give(payload ipc.Payload) error {
	s := st.stream
	size := int64(payload.Size())
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.err == nil && !haveRoom(st.out, size) {
		st.pushing, st.size = true, size
		s.busy--
		if !s.isStuck() {
			st.room.Wait()
		}
		s.busy++
		st.pushing = false
	}
	if s.err != nil {
		payload.Release()
		return s.err
	}
	push(st.out, value{payload: payload, encoded: true})
	return nil
}

// once returns an emit function that drops the values that have gone on already, and
// counts in gone those that do.
func (st *stage) once(gone *int) func(ipc.Payload) error {
	seen := 0
	return func(payload ipc.Payload) error {
		seen++
		if seen <= *gone {
			payload.Release()
			return nil
		}
		*gone++
		return st.give(payload)
	}
}

// args are the arguments of a call with these inputs.
func (st *stage) args(inputs []value) ipc.Args {
	from := func(in input) value { return inputs[slices.Index(st.step.inputs, in)] }
	return st.step.node.args(st.step, from, inputs[0])
}

// generator is the work of a node that gives any number of values for each item.
type generator struct{ stage *stage }

// item calls the node. Where it is called again after a failure, as many values as
// have gone on already are dropped: a node that may be called again gives the same.
func (g generator) item(inputs []value) error {
	n, gone := g.stage.step.node, 0
	started := n.started()
	err := n.entry.execute(g.stage.stream.ctx, func(ctx context.Context) error {
		if err := n.pool.Items(ctx, g.stage.args(inputs), g.stage.once(&gone)); err != nil {
			return classify(err)
		}
		return nil
	})
	n.finished(started, err)
	return err
}

func (g generator) finish() error { return nil }

func (g generator) close() {}
