package cluster

import "context"

// WithProtocol makes a machine speak only one version of the protocol.
func WithProtocol(version int) MachineOption {
	return func(o *machineOptions) { o.protocol = [2]int{version, version} }
}

// PutValue stores a value as the sender of a large call does.
func PutValue(ctx context.Context, c *Conn, content []byte) (string, error) {
	return c.values.put(ctx, content)
}
