package serve

import (
	"context"
	"crypto/tls"
	"net"
	"syscall"
	"time"
)

type connKey struct{}

// ConnContext is a function for the field of the same name of [net/http.Server]. It makes the
// connection known to the handler.
func ConnContext(ctx context.Context, conn net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, conn)
}

// goneInterval is how often a stream looks whether its client has left.
const goneInterval = 250 * time.Millisecond

// watchClient cancels a stream of inputs when its client has left. The server notices that by
// reading, but while the pipeline is busy, the stream does not read. The end of the connection
// then waits behind data for which there is no room, so the stream writes an empty record, which
// the system of a client that has left refuses. In HTTP/2 the server reads all the time. The
// caller calls the function that it returns.
func (x *exchange) watchClient(cancel context.CancelCauseFunc, in *lineReader, out *streamWriter) (stop func()) {
	conn, _ := x.req.Context().Value(connKey{}).(net.Conn)
	if secured, ok := conn.(*tls.Conn); ok {
		conn = secured.NetConn()
	}
	socket, ok := conn.(syscall.Conn)
	if !ok || x.req.ProtoMajor != 1 {
		return func() {}
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return func() {}
	}
	ended, exited := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(exited)
		wasBlocked := false
		ticker := time.NewTicker(goneInterval)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				isBlocked := in.blocked.Load()
				if isClosedByPeer(raw) || isBlocked && wasBlocked && out.writeEmpty() != nil {
					cancel(errClientGone)
					return
				}
				wasBlocked = isBlocked
			case <-ended:
				return
			}
		}
	}()
	return func() {
		close(ended)
		<-exited // nothing may be written after the request
	}
}
