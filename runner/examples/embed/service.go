package main

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/gophersnake/gophersnake/retry"
	"github.com/gophersnake/gophersnake/runner"
)

// Texts is the body of a request. The annotations of the node say what else it must be.
type Texts struct {
	Texts []string `json:"texts"`
}

// Embeddings is the answer: a vector of length 1 for each text.
type Embeddings struct {
	Model   string      `json:"model"`
	Vectors [][]float32 `json:"vectors"`
}

// maxBody is the size of the largest body of a request, in bytes.
const maxBody = 1 << 20

// newService returns the handler of the service. It answers each request within a time.
func newService(r *runner.Runner, within time.Duration) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("POST /embed", bounded(within, embedding(r)))
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) {
		health, status := r.Health(), http.StatusOK
		if !health.OK() {
			status = http.StatusServiceUnavailable
		}
		answer(w, status, health)
	})
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
		if err := runner.WriteMetrics(w, r.Metrics()); err != nil {
			slog.Warn("metrics were not sent", "error", err)
		}
	})
	return mux
}

// embedding answers with the embeddings of texts.
func embedding(r *runner.Runner) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		var texts Texts
		if err := json.NewDecoder(req.Body).Decode(&texts); err != nil {
			refuse(w, err)
			return
		}
		embeddings, err := runner.Call[Texts, Embeddings](req.Context(), r, texts)
		if err != nil {
			refuse(w, err)
			return
		}
		answer(w, http.StatusOK, embeddings)
	}
}

// bounded limits the time and the size of the requests of a handler.
func bounded(within time.Duration, handler http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		ctx, cancel := context.WithTimeout(req.Context(), within)
		defer cancel()
		req = req.WithContext(ctx)
		req.Body = http.MaxBytesReader(w, req.Body, maxBody)
		handler.ServeHTTP(w, req)
	})
}

// refuse answers a request that failed. Only the caller's own mistakes are shown to it.
func refuse(w http.ResponseWriter, err error) {
	status := statusOf(err)
	text := http.StatusText(status)
	if status < http.StatusInternalServerError {
		text = err.Error()
	} else {
		slog.Error("a request failed", "status", status, "error", err)
	}
	if status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", strconv.Itoa(retryAfter(err)))
	}
	answer(w, status, map[string]string{"error": text})
}

// statusOf returns the status code for an error.
func statusOf(err error) int {
	e, ok := errors.AsType[*runner.Error](err)
	if !ok {
		return statusOfBody(err)
	}
	switch {
	case e.Kind == runner.KindMarshaling && strings.HasPrefix(e.Path, "input"):
		return http.StatusUnprocessableEntity // the input is not as the node's annotations say
	case errors.Is(err, retry.ErrOpen), strings.HasPrefix(e.Limit, "queue"):
		return http.StatusServiceUnavailable
	case errors.Is(err, context.DeadlineExceeded), e.Limit == "timeout":
		return http.StatusGatewayTimeout
	case e.Kind == runner.KindPythonVM, e.Kind == runner.KindTransport:
		return http.StatusBadGateway
	}
	return http.StatusInternalServerError
}

// statusOfBody returns the status code for a body that cannot be read.
func statusOfBody(err error) int {
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return http.StatusRequestEntityTooLarge
	}
	if _, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return http.StatusUnprocessableEntity
	}
	return http.StatusBadRequest
}

// retryAfter returns the seconds after which another request has a chance.
func retryAfter(err error) int {
	if open, ok := errors.AsType[*retry.OpenError](err); ok {
		return max(1, int(math.Ceil(open.Wait.Seconds())))
	}
	return 1
}

// answer writes a status and a value as JSON.
func answer(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(value); err != nil {
		slog.Warn("an answer was not sent", "error", err)
	}
}
