package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"github.com/vmihailenco/msgpack/v5"
	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner"
)

// grpcPeer is a Python plugin behind go-plugin's gRPC client, set up as go-plugin's
// documentation recommends; see python/plugin.py.
type grpcPeer struct {
	client   *plugin.Client
	echo     *echoClient
	lifeline *os.File
}

func setUpGRPC(ctx context.Context, h *host) (peer, error) {
	env, err := h.environment(ctx, "grpc")
	if err != nil {
		return nil, err
	}
	return startPlugin(env, filepath.Join(h.programs, "plugin.py"))
}

func startPlugin(env runner.Environment, path string) (_ *grpcPeer, err error) {
	inside, outside, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer func() { _ = inside.Close() }()
	command := exec.Command(env.Python, path)
	command.ExtraFiles = []*os.File{inside} // the plugin exits when outside is closed
	var stderr bytes.Buffer
	g := &grpcPeer{lifeline: outside, client: plugin.NewClient(&plugin.ClientConfig{
		HandshakeConfig: plugin.HandshakeConfig{
			ProtocolVersion: 1, MagicCookieKey: "BENCH_PLUGIN", MagicCookieValue: "echo",
		},
		Plugins:          plugin.PluginSet{"echo": echoPlugin{}},
		Cmd:              command,
		AllowedProtocols: []plugin.Protocol{plugin.ProtocolGRPC},
		Logger:           hclog.NewNullLogger(),
		Stderr:           &stderr,
	})}
	if err := g.connect(); err != nil {
		_ = g.close()
		return nil, fmt.Errorf("%w\n%s", err, stderr.String())
	}
	return g, nil
}

func (g *grpcPeer) connect() error {
	protocol, err := g.client.Client()
	if err != nil {
		return err
	}
	raw, err := protocol.Dispense("echo")
	if err != nil {
		return err
	}
	g.echo = raw.(*echoClient)
	return protocol.Ping()
}

func (g *grpcPeer) measure(ctx context.Context, p payload, warmup, calls int) ([]time.Duration, error) {
	return timeCalls(p, warmup, calls, func(value any, check func(any) error) error {
		result, err := g.echo.call(ctx, value)
		if err != nil {
			return err
		}
		return check(result)
	})
}

func (g *grpcPeer) close() error {
	g.client.Kill() // asks the plugin to exit first
	return g.lifeline.Close()
}

// echoPlugin makes go-plugin dispense an echoClient.
type echoPlugin struct{ plugin.NetRPCUnsupportedPlugin }

func (echoPlugin) GRPCServer(*plugin.GRPCBroker, *grpc.Server) error {
	return errors.New("the plugin is written in Python")
}

func (echoPlugin) GRPCClient(_ context.Context, _ *plugin.GRPCBroker, conn *grpc.ClientConn) (any, error) {
	return &echoClient{conn}, nil
}

// echoClient makes unary calls whose messages are bytes. It stands for the code that protoc
// would generate.
type echoClient struct{ conn *grpc.ClientConn }

func (c *echoClient) call(ctx context.Context, v any) (any, error) {
	if tensor, ok := v.(*ipc.Tensor); ok {
		data, err := c.invoke(ctx, "/bench.Array/Double", tensor.Data)
		return &ipc.Tensor{DType: tensor.DType, Shape: tensor.Shape, Data: data}, err
	}
	request, err := msgpack.Marshal(v)
	if err != nil {
		return nil, err
	}
	reply, err := c.invoke(ctx, "/bench.Echo/Call", request)
	if err != nil {
		return nil, err
	}
	decoder := msgpack.GetDecoder()
	defer msgpack.PutDecoder(decoder)
	decoder.Reset(bytes.NewReader(reply))
	decoder.UseLooseInterfaceDecoding(true) // integers as int64
	return decoder.DecodeInterface()
}

func (c *echoClient) invoke(ctx context.Context, method string, request []byte) (reply []byte, err error) {
	return reply, c.conn.Invoke(ctx, method, request, &reply, grpc.ForceCodecV2(bytesCodec{}))
}

// bytesCodec passes messages through unchanged.
type bytesCodec struct{}

func (bytesCodec) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(v.([]byte))}, nil
}

func (bytesCodec) Unmarshal(data mem.BufferSlice, v any) error {
	*v.(*[]byte) = data.Materialize()
	return nil
}

func (bytesCodec) Name() string { return "bytes" }
