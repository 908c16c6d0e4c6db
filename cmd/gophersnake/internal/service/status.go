// Package service holds what a command does beside running a pipeline: it serves the
// pipeline's status, watches its code, and reloads it.
package service

import (
	"errors"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/failure"
	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/output"
	"github.com/gophersnake/gophersnake/runner"
)

// statusTimeout limits the time of one request for the status.
const statusTimeout = 10 * time.Second

// ServeStatus answers GET /health and GET /metrics at an address, HOST:PORT or the path of
// a Unix socket, until the caller calls stop. Stop closes the connections of requests
// that are not answered yet.
func ServeStatus(address string, r *runner.Runner, logger hclog.Logger) (stop func(), err error) {
	listener, err := listenStatus(address)
	if err != nil {
		return nil, err
	}
	server := &http.Server{Handler: statusHandler(r), ReadTimeout: statusTimeout, WriteTimeout: statusTimeout}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = server.Serve(listener) // returns an error in any case: that stop closed the server
	}()
	if listener.Addr().Network() == "unix" {
		logger.Info("status: curl --unix-socket " + address + " http://localhost/health (or /metrics)")
	} else {
		logger.Info("status: http://" + listener.Addr().String() + "/health (or /metrics)")
	}
	return func() {
		_ = server.Close() // the process is about to end
		<-ended
	}, nil
}

// listenStatus opens HOST:PORT, or a Unix socket if the address contains a slash.
func listenStatus(address string) (net.Listener, error) {
	if !strings.Contains(address, "/") {
		if _, _, err := net.SplitHostPort(address); err != nil {
			return nil, failure.Usagef("--status takes HOST:PORT, such as localhost:9090, or the path of a socket, such as ./status.sock, not %q", address)
		}
		listener, err := net.Listen("tcp", address)
		if err != nil {
			return nil, runner.Wrap(err, runner.KindIO, "serve the status")
		}
		return listener, nil
	}
	listener, err := net.Listen("unix", address)
	if errors.Is(err, syscall.EADDRINUSE) && isStale(address) {
		_ = os.Remove(address)
		listener, err = net.Listen("unix", address)
	}
	if err != nil {
		return nil, runner.Wrap(err, runner.KindIO, "serve the status")
	}
	return listener, nil
}

// isStale reports whether no process listens at a socket: its process has died.
func isStale(socket string) bool {
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
			_ = output.PrintJSON(w, h) // fails only if the client has disconnected
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
