package oipgrpc

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/gophersnake/gophersnake/runner/serve"
	"github.com/gophersnake/gophersnake/runner/serve/oip/internal/inference"
	"github.com/gophersnake/gophersnake/runner/serve/oip/internal/model"
)

// mostRequests is the number of requests of one stream that are under way at once. The server
// reads further ones when it has answered one.
const mostRequests = 16

type responses = grpc.BidiStreamingServer[inference.ModelInferRequest, inference.ModelStreamInferResponse]

// inferStream is one stream of requests. A goroutine reads them, one for each request runs the
// pipeline, and one writes the responses.
type inferStream struct {
	server *Server
	stream responses
	ctx    context.Context
	cancel context.CancelCauseFunc
	slots  chan struct{}
	out    chan *inference.ModelStreamInferResponse // closed after the last response

	// writing is when the write that is under way began, in nanoseconds, 0 if none is.
	writing atomic.Int64

	mu sync.Mutex
	// isClosed says that no further request is taken.
	isClosed bool
	// pending counts the requests under way.
	pending sync.WaitGroup
}

// ModelStreamInfer runs pipelines for the requests of a stream, several at once. Each value of a
// pipeline is a response as soon as it comes. The failure of a request does not end the stream.
func (s *Server) ModelStreamInfer(stream responses) error {
	ctx, cancel := context.WithCancelCause(stream.Context())
	defer cancel(nil)
	f := &inferStream{
		server: s, stream: stream, ctx: ctx, cancel: cancel,
		slots: make(chan struct{}, mostRequests), out: make(chan *inference.ModelStreamInferResponse),
	}
	go f.receive()
	go f.closeInput()
	written := make(chan error, 1)
	go func() { written <- f.write() }()
	return f.wait(written)
}

// receive reads requests until there are no more, or none is taken.
func (f *inferStream) receive() {
	defer f.close()
	for {
		req, err := f.stream.Recv()
		if err != nil {
			if !errors.Is(err, io.EOF) {
				f.cancel(err)
			}
			return
		}
		select {
		case f.slots <- struct{}{}:
		case <-f.ctx.Done():
			return
		}
		if !f.begin() {
			return
		}
		go func() {
			defer f.pending.Done()
			defer func() { <-f.slots }()
			f.answer(req)
		}()
	}
}

// begin counts a request as under way, unless none is taken any more.
func (f *inferStream) begin() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.isClosed {
		f.pending.Add(1)
	}
	return !f.isClosed
}

// close makes the stream end after the requests that are under way.
func (f *inferStream) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.isClosed {
		return
	}
	f.isClosed = true
	go func() {
		f.pending.Wait()
		close(f.out)
	}()
}

// closeInput ends the input when the server drains or the client has left.
func (f *inferStream) closeInput() {
	select {
	case <-f.server.core.Drained():
	case <-f.ctx.Done():
	}
	f.close()
}

// write writes responses until the stream ends.
func (f *inferStream) write() error {
	for response := range f.out {
		f.writing.Store(time.Now().UnixNano())
		err := f.stream.Send(response)
		f.writing.Store(0)
		if err != nil {
			f.cancel(err)
			return err
		}
	}
	return nil
}

// wait returns when all is written. If the client takes nothing for the stall timeout, it
// cancels the runs of the stream and returns at once, which also ends the write.
func (f *inferStream) wait(written <-chan error) error {
	limit := f.server.core.StallTimeout()
	ticker := time.NewTicker(limit/4 + 1)
	defer ticker.Stop()
	for {
		select {
		case err := <-written:
			return err
		case <-ticker.C:
			if began := f.writing.Load(); began != 0 && time.Since(time.Unix(0, began)) > limit {
				err := status.Error(codes.DeadlineExceeded, "the client does not take the responses")
				f.cancel(err)
				return err
			}
		}
	}
}

// send passes on a response. The error is the reason if the stream has ended.
func (f *inferStream) send(response *inference.ModelStreamInferResponse) error {
	select {
	case f.out <- response:
		return nil
	case <-f.ctx.Done():
		return context.Cause(f.ctx)
	}
}

// answer runs the pipeline of a request and passes on its responses.
func (f *inferStream) answer(req *inference.ModelInferRequest) {
	if err := f.process(req); err != nil {
		_ = f.send(&inference.ModelStreamInferResponse{
			ErrorMessage: status.Convert(err).Message(),
			InferResponse: isFinal(&inference.ModelInferResponse{
				ModelName: req.GetModelName(), ModelVersion: req.GetModelVersion(), Id: req.GetId(),
			}, true),
		})
	}
}

func (f *inferStream) process(req *inference.ModelInferRequest) (err error) {
	defer f.server.recovered("ModelStreamInfer", &err)
	c, err := f.server.open(f.ctx)
	if err != nil {
		return err
	}
	if problem := c.Do(proto.Size(req), func() error { return f.run(c, req) }); problem != nil {
		return statusOf(f.ctx, problem)
	}
	return nil
}

func (f *inferStream) run(c *serve.Call, req *inference.ModelInferRequest) error {
	r, err := parseRequest(req)
	if err != nil {
		return err
	}
	m, p, err := f.server.modelOf(c, r, req)
	if err != nil {
		return err
	}
	if !m.IsDecoupled {
		outputs, err := m.Infer(c, p, r.inputs, r.outputs)
		if err != nil {
			return err
		}
		answer, err := r.response(m, outputs)
		if err != nil {
			return err
		}
		return f.send(&inference.ModelStreamInferResponse{InferResponse: isFinal(answer, true)})
	}
	return f.runMany(c, r, m, p)
}

// runMany runs a pipeline with any number of values.
func (f *inferStream) runMany(c *serve.Call, r *request, m *model.Model, p *serve.Pipeline) error {
	if err := m.CheckOutputs(r.outputs); err != nil {
		return err
	}
	input, err := m.Input(r.inputs)
	if err != nil {
		return err
	}
	done, err := c.Turn()
	if err != nil {
		return err
	}
	defer done()
	values, err := p.Runner().Stream(c.Context())
	if err != nil {
		return err
	}
	defer func() { _ = values.Close() }()
	if err := values.Send(input); err != nil {
		return err
	}
	values.CloseSend()
	for {
		item, err := values.Recv()
		if err == io.EOF { //nolint:errorlint // a node's error may wrap io.EOF
			break
		}
		if err != nil {
			return err
		}
		if !m.IsWanted(item, r.outputs) {
			continue
		}
		outputs, err := m.Item(item, r.outputs)
		if err != nil {
			return err
		}
		answer, err := r.response(m, outputs)
		if err == nil {
			err = f.send(&inference.ModelStreamInferResponse{InferResponse: isFinal(answer, false)})
		}
		if err != nil {
			return err
		}
	}
	if !r.endsEmpty {
		return nil
	}
	answer, err := r.response(m, nil)
	if err != nil {
		return err
	}
	return f.send(&inference.ModelStreamInferResponse{InferResponse: isFinal(answer, true)})
}
