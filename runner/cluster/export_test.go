package cluster

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

// WithProtocol makes a machine speak only one version of the protocol.
func WithProtocol(version int) MachineOption {
	return func(o *machineOptions) { o.protocol = [2]int{version, version} }
}

// WithProtocols makes a machine speak a range of versions of the protocol.
func WithProtocols(oldest, newest int) MachineOption {
	return func(o *machineOptions) { o.protocol = [2]int{oldest, newest} }
}

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
