package cli

import (
	"errors"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/gophersnake/gophersnake/runner"
)

// statusTimeout bounds what a client of --status may take.
const statusTimeout = 10 * time.Second

// serveStatus answers at an address until the function that it returns is called.
func (a *app) serveStatus(address string, r *runner.Runner) (stop func(), err error) {
	listener, err := listenStatus(address)
	if err != nil {
		return nil, err
	}
	server := &http.Server{Handler: statusHandler(r), ReadTimeout: statusTimeout, WriteTimeout: statusTimeout}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = server.Serve(listener) // it ends when it is closed
	}()
	if listener.Addr().Network() == "unix" {
		a.logger.Info("status: curl --unix-socket " + address + " http://localhost/health (or /metrics)")
	} else {
		a.logger.Info("status: http://" + listener.Addr().String() + "/health (or /metrics)")
	}
	return func() {
		_ = server.Close() // nobody is owed an answer any more
		<-ended
	}, nil
}

// listenStatus opens host:port, or a Unix socket where the address is a path.
func listenStatus(address string) (net.Listener, error) {
	if !strings.Contains(address, "/") {
		if _, _, err := net.SplitHostPort(address); err != nil {
			return nil, usagef("--status takes HOST:PORT, such as localhost:9090, or the path of a socket (./status.sock), not %q", address)
		}
		listener, err := net.Listen("tcp", address)
		if err != nil {
			return nil, runner.Wrap(err, runner.KindIO, "serve the status")
		}
		return listener, nil
	}
	listener, err := net.Listen("unix", address)
	if errors.Is(err, syscall.EADDRINUSE) && isAbandoned(address) {
		_ = os.Remove(address)
		listener, err = net.Listen("unix", address)
	}
	if err != nil {
		return nil, runner.Wrap(err, runner.KindIO, "serve the status")
	}
	return listener, nil
}

// isAbandoned reports whether nobody listens at a socket: one that died left it.
func isAbandoned(socket string) bool {
	c, err := net.DialTimeout("unix", socket, statusTimeout)
	if err == nil {
		_ = c.Close()
	}
	return errors.Is(err, syscall.ECONNREFUSED)
}

func statusHandler(r *runner.Runner) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, request *http.Request) {
		h := r.Health()
		code := http.StatusOK
		if !h.OK() {
			code = http.StatusServiceUnavailable
		}
		if wantsJSON(request) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(code)
			_ = printJSON(w, h) // whoever left does not want it
			return
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.WriteHeader(code)
		_, _ = w.Write([]byte(h.String()))
	})
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		_ = runner.WriteMetrics(w, r.Metrics())
	})
	return mux
}

func wantsJSON(request *http.Request) bool {
	return request.URL.Query().Get("format") == "json" ||
		strings.Contains(request.Header.Get("Accept"), "application/json")
}
