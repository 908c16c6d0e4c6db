package serve

import (
	"context"
	"crypto/tls"
	"net"
	"syscall"
	"time"

	"github.com/gophersnake/gophersnake/runner/serve/internal/peer"
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
	socket := x.socketOf()
	if socket == nil || x.req.ProtoMajor != 1 {
		return func() {}
	}
	wasBlocked := false
	return watch(cancel, func() (isGone bool) {
		isBlocked := in.blocked.Load()
		isGone = peer.HasClosed(socket) || isBlocked && wasBlocked && out.writeEmpty() != nil
		wasBlocked = isBlocked
		return isGone
	})
}

// socketOf returns the socket of the connection, nil if it is not known.
func (x *exchange) socketOf() syscall.RawConn {
	conn, _ := x.req.Context().Value(connKey{}).(net.Conn)
	if secured, ok := conn.(*tls.Conn); ok {
		conn = secured.NetConn()
	}
	socket, ok := conn.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return nil
	}
	return raw
}

// watch calls isGone at intervals, on a goroutine of its own, and cancels when it returns true.
// The caller calls the function that it returns, which waits for that goroutine.
func watch(cancel context.CancelCauseFunc, isGone func() bool) (stop func()) {
	ended, exited := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(exited)
		ticker := time.NewTicker(goneInterval)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				if isGone() {
					cancel(errClientGone)
					return
				}
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
