package runner

import (
	"context"
	"fmt"
	"slices"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner/internal/pool"
)

// checkpointItems is after how many items a checkpoint is taken of a node that can
// restore its state.
const checkpointItems = 16

// session is the work of a stateful node: one session of its pool, and what it
// takes to begin it again.
//
// The state of a node without snapshot and restore goes with its worker, and a
// failure leaves it in doubt: so the stream ends. One that has them goes back to its
// last checkpoint, and is given the items since once more. What came of them has
// gone on already and is dropped, so that nothing comes out twice.
type session struct {
	stage *stage
	open  *pool.Session // nil before the first item, and after a failure

	checkpoint *ipc.Payload // the state at the last one; nil is the beginning
	since      [][]value    // the items since, which it holds
	bytes      int64        // of payload that these hold

	taken, given int // items in and out
}

// item gives the node an item.
func (x *session) item(inputs []value) error {
	if len(x.since) >= checkpointItems {
		if err := x.takeCheckpoint(); err != nil {
			return err
		}
	}
	gone := 0
	n := x.stage.step.node
	started := n.started()
	err := x.attempt(func(ctx context.Context) error {
		return x.open.Call(ctx, x.stage.args(inputs), x.stage.once(&gone))
	})
	n.finished(started, err)
	x.given += gone
	if err != nil {
		return x.lost(err)
	}
	x.taken++
	return x.remember(inputs)
}

// finish has the node give what it still has.
func (x *session) finish() error {
	gone := 0
	err := x.attempt(func(ctx context.Context) error {
		return x.open.Finish(ctx, x.stage.once(&gone))
	})
	x.given += gone
	return x.lost(err)
}

// remember keeps an item for a replay.
func (x *session) remember(inputs []value) error {
	if !x.restores() {
		return nil
	}
	for i := range inputs {
		inputs[i].hold(1)
		x.bytes += int64(inputs[i].payload.Size())
	}
	x.since = append(x.since, slices.Clone(inputs))
	if x.bytes <= x.stage.stream.plan.queueBytes {
		return nil
	}
	return x.takeCheckpoint() // now, for they hold memory that others may wait for
}

// takeCheckpoint has the node's state kept, and lets go of the items before.
func (x *session) takeCheckpoint() error {
	var state ipc.Payload
	err := x.attempt(func(ctx context.Context) (err error) {
		state, err = x.open.Snapshot(ctx)
		return err
	})
	if err != nil {
		return err
	}
	x.forget()
	x.checkpoint = &state
	return nil
}

// forget lets go of the checkpoint and the items since.
func (x *session) forget() {
	if x.checkpoint != nil {
		x.checkpoint.Release()
	}
	for _, inputs := range x.since {
		for _, v := range inputs {
			v.release()
		}
	}
	x.checkpoint, x.since, x.bytes = nil, nil, 0
}

// restores reports whether the state can be had back. To give a node items once more
// is to call it twice.
func (x *session) restores() bool {
	return x.stage.restores
}

// attempt does something in the session, opening it where it is not. Where the state
// can be had back, all of that is under the node's policy.
func (x *session) attempt(do func(ctx context.Context) error) error {
	n, ctx := x.stage.step.node, x.stage.stream.ctx
	try := func(ctx context.Context) error { return x.try(ctx, do) }
	if x.restores() {
		return n.entry.execute(ctx, try)
	}
	if x.open == nil { // there is no state yet that could be lost
		if err := n.entry.execute(ctx, x.begin); err != nil {
			return err
		}
	}
	return n.entry.executeOnce(ctx, try)
}

// try does something in the session. One in which something failed is over.
func (x *session) try(ctx context.Context, do func(ctx context.Context) error) error {
	err := x.begin(ctx)
	if err == nil {
		err = do(ctx)
	}
	if err == nil {
		return nil
	}
	x.leave()
	return classify(err)
}

// begin opens the session where it is not open, and brings it to where the last one
// was.
func (x *session) begin(ctx context.Context) error {
	if x.open != nil {
		return nil
	}
	open, err := x.stage.step.node.pool.Open(ctx, x.checkpoint)
	if err != nil {
		return classify(err)
	}
	x.open = open
	drop := func(payload ipc.Payload) error {
		payload.Release()
		return nil
	}
	for _, inputs := range x.since {
		if err := open.Call(ctx, x.stage.args(inputs), drop); err != nil {
			return err
		}
	}
	return nil
}

// lost adds what a worker's end has cost, where the state cannot be had back.
func (x *session) lost(err error) error {
	if err == nil || x.restores() || x.taken+x.given == 0 || KindOf(err) != KindPythonVM && KindOf(err) != KindTransport {
		return err
	}
	return AsError(err).with(func(e *Error) {
		e.Message += fmt.Sprintf("; the state of the stream is lost with it: %d items had gone in, %d come out", x.taken, x.given)
	}).WithHint("a node that has snapshot() and restore() goes on elsewhere")
}

func (x *session) leave() {
	if x.open != nil {
		x.open.Close()
		x.open = nil
	}
}

func (x *session) close() {
	x.leave()
	x.forget()
}
