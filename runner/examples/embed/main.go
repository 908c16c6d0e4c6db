// Command embed is an HTTP service that embeds texts with a model in Python. The pipeline is
// part of the program.
package main

import (
	"context"
	"embed"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/gophersnake/gophersnake/runner"
)

const (
	// answerWithin bounds each request, with the time in the queue and all attempts.
	answerWithin = 15 * time.Second
	// drainWithin bounds the time for which the service finishes requests when it ends.
	drainWithin = 20 * time.Second
)

//go:embed pipeline/pipeline.yaml pipeline/embed.py
var files embed.FS

func main() {
	addr := flag.String("addr", "localhost:8080", "the address to listen on")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, *addr)
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "%+v\n", err)
		os.Exit(1)
	}
}

// run serves on an address until the context ends.
func run(ctx context.Context, addr string) error {
	r, err := newRunner(runner.WithSlog(slog.Default()))
	if err != nil {
		return err
	}
	defer r.Close(context.Background())
	if err := r.Start(ctx); err != nil { // otherwise the first request would wait for it
		return err
	}
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	return serve(ctx, listener, newService(r, answerWithin))
}

// newRunner returns a runner for the pipeline that is part of the program.
func newRunner(opts ...runner.Option) (*runner.Runner, error) {
	pipeline, err := runner.LoadFS(files, "pipeline")
	if err != nil {
		return nil, err
	}
	return runner.New(pipeline, opts...)
}

// serve answers requests until the context ends, and then finishes those under way.
func serve(ctx context.Context, listener net.Listener, handler http.Handler) error {
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 5 * time.Second}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	slog.Info("listening", "address", listener.Addr().String())
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	drain, cancel := context.WithTimeout(context.Background(), drainWithin)
	defer cancel()
	return errors.Join(server.Shutdown(drain), ignoreClosed(<-failed))
}

// ignoreClosed returns nil for the error of a server that was shut down.
func ignoreClosed(err error) error {
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}
