package runner

import (
	"context"
	"io"
)

// gather runs one item as a stream of its own, and returns what its sinks give in
// lists: one, or a map of them by node id.
func (r *Runner) gather(ctx context.Context, input any) (any, error) {
	return r.gatherBy(ctx, input, func(v value) (any, error) {
		defer v.release()
		return v.decode("result")
	})
}

// gatherShared is gather without the last copy.
func (r *Runner) gatherShared(ctx context.Context, input any) (*Shared, error) {
	var held outcome
	all, err := r.gatherBy(ctx, input, func(v value) (any, error) {
		held.many = append(held.many, v)
		return v.view("result")
	})
	if err != nil {
		held.release()
		return nil, err
	}
	return &Shared{Value: all, out: held}, nil
}

func (r *Runner) gatherBy(ctx context.Context, input any, take func(value) (any, error)) (any, error) {
	s := r.openStream(ctx, 0)
	defer func() { _ = s.Close() }()
	if err := s.Send(input); err != nil {
		return nil, err
	}
	_ = s.CloseSend()
	all := make(map[string]any, len(s.out))
	for _, q := range s.out {
		all[q.producer.step.node.id] = []any{}
	}
	for {
		v, sink, err := s.next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, err
		}
		native, err := take(v)
		if err != nil {
			return nil, AsError(err).WithNode(sink.node.id)
		}
		all[sink.node.id] = append(all[sink.node.id].([]any), native)
	}
	if len(s.out) == 1 {
		return all[s.out[0].producer.step.node.id], nil
	}
	return all, nil
}
