package cluster

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner/cluster/internal/wire"
)

// WithProtocol makes a machine speak only one version of the protocol.
func WithProtocol(version int) MachineOption {
	return func(o *machineOptions) { o.protocol = [2]int{version, version} }
}

// WithProtocols makes a machine speak a range of versions of the protocol.
func WithProtocols(oldest, newest int) MachineOption {
	return func(o *machineOptions) { o.protocol = [2]int{oldest, newest} }
}

// WithoutLending makes a machine one of an older version, which takes each value from the store.
func WithoutLending() MachineOption { return func(o *machineOptions) { o.lends = false } }

// PutValue stores a value as the sender of a large call does.
func PutValue(ctx context.Context, c *Conn, content []byte) (string, error) {
	return c.values.Put(ctx, content)
}

// SetStreamSilence sets how long the machines of this process keep a stream of which its client
// says nothing, until the test ends. No machine may run.
func SetStreamSilence(t *testing.T, d time.Duration) {
	former := streamSilent
	streamSilent = d
	t.Cleanup(func() { streamSilent = former })
}

// ForgetStream opens a stream as a client that lives, but says nothing of the stream any more.
func ForgetStream(c *Conn, pipeline, machine string) error {
	inbox := c.nc.NewInbox()
	_, err := c.nc.Subscribe(inbox+".*", func(msg *nats.Msg) {
		if msg.Reply != "" {
			_ = msg.Respond(appendHead(nil, framePong, 0))
		}
	})
	if err != nil {
		return err
	}
	frame, err := appendDocument(appendCall(nil, frameOpen, callHead{}), opening{Window: 1})
	if err != nil {
		return err
	}
	return c.nc.PublishRequest(callGroup(pipeline, machine)+"."+targetName(""), inbox+".1", frame)
}

// The kinds of messages with calls.
const (
	KindCall  = byte(frameCall)
	KindCalls = byte(frameCalls)

	KindResult = byte(frameResult)
)

// CallFrame is a call of a client that reads no groups of answers.
func CallFrame(input any) ([]byte, error) {
	p, err := ipc.Encode("input", input)
	return wire.AppendPayload(appendCall(nil, frameCall, callHead{flags: flagMayWait}), p), err
}

// GroupFrame is a group with members, which are names and frames in turns.
func GroupFrame(members ...string) []byte {
	b := appendHead(nil, frameCalls, 0)
	for i := 0; i+1 < len(members); i += 2 {
		b = appendMember(b, members[i], []byte(members[i+1]))
	}
	return b
}

// RunSubject is the subject of a machine's runs of a pipeline.
func RunSubject(pipeline, machine string) string {
	return callGroup(pipeline, machine) + "." + targetName("")
}
