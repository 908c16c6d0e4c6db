// Package top shows the status of a service in a terminal: that of GET /v1/status of package
// serve.
package top

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/gophersnake/gophersnake/runner"
)

// Status is the status of a service.
type Status struct {
	Time     time.Time `json:"time"`
	Ready    bool      `json:"ready"`
	Draining bool      `json:"draining"`
	May      struct {
		Admin bool `json:"admin"`
		Logs  bool `json:"logs"`
	} `json:"may"`
	Pipelines []Pipeline `json:"pipelines"`
	Machines  []Machine  `json:"machines"`
}

// Machine is a machine of the cluster that the service is in.
type Machine struct {
	Name      string            `json:"name"`
	Version   string            `json:"version"`
	Labels    map[string]string `json:"labels"`
	Leaving   bool              `json:"leaving"`
	Usable    bool              `json:"usable"`
	Pipelines []struct {
		Name    string `json:"name"`
		Schema  string `json:"schema"`
		Ready   bool   `json:"ready"`
		Slots   int    `json:"slots"`
		Active  int    `json:"active"`
		Waiting int    `json:"waiting"`
	} `json:"pipelines"`
}

// Pipeline is the status of a pipeline.
type Pipeline struct {
	Name   string `json:"name"`
	State  string `json:"state"`
	Reason string `json:"reason"`
	Nodes  []Node `json:"nodes"`
}

// Node is the status of a node.
type Node struct {
	Node    string            `json:"node"`
	Type    string            `json:"type"`
	Kind    string            `json:"kind"`
	State   string            `json:"state"`
	Reason  string            `json:"reason"`
	Breaker string            `json:"breaker"`
	Calls   uint64            `json:"calls"`
	Failed  map[string]uint64 `json:"failed"`
	Retries uint64            `json:"retries"`
	Workers *struct {
		Idle     int `json:"idle"`
		Busy     int `json:"busy"`
		Spares   int `json:"spares"`
		Starting int `json:"starting"`
		Waiting  int `json:"waiting_calls"`
	} `json:"workers"`
	Pool *struct {
		Generation int               `json:"generation"`
		Deaths     map[string]uint64 `json:"deaths"`
		Workers    []Worker          `json:"workers"`
	} `json:"pool"`
	Death  *Failure `json:"last_death"`
	Error  *Failure `json:"last_error"`
	Recent *struct {
		Rate    float64 `json:"rate"`
		P50     float64 `json:"p50"`
		P99     float64 `json:"p99"`
		History struct {
			Rate []float64 `json:"rate"`
		} `json:"history"`
	} `json:"recent"`
}

// Worker is the status of a worker. Times are in seconds.
type Worker struct {
	PID      int     `json:"pid"`
	Role     string  `json:"role"`
	Load     int     `json:"load"`
	Calls    uint64  `json:"calls"`
	Age      float64 `json:"age"`
	Resident int64   `json:"resident"`
	CPU      float64 `json:"cpu"`
}

// Failure is an error that happened at a time.
type Failure struct {
	Time   time.Time `json:"time"`
	Text   string    `json:"text"`
	Report string    `json:"report"`
}

// Record is a record of the log of a node.
type Record struct {
	Number uint64    `json:"number"`
	Time   time.Time `json:"time"`
	Level  string    `json:"level"`
	Logger string    `json:"logger"`
	Text   string    `json:"text"`
}

// Client asks a service. It is safe for concurrent use.
type Client struct {
	base  *url.URL
	token string
	http  *http.Client
}

// Limits of what a service can send, and of how long it can take.
const (
	mostStatus    = 16 << 20
	answerTimeout = 10 * time.Second
	actionTimeout = 5 * time.Minute // a restart runs the setup of nodes
)

// NewClient returns a client for the service at an address: a URL, or HOST:PORT. The token may be
// empty.
func NewClient(address, token string) (*Client, error) {
	if !strings.Contains(address, "://") {
		address = "http://" + address
	}
	base, err := url.Parse(address)
	if err != nil || base.Scheme != "http" && base.Scheme != "https" || base.Host == "" {
		return nil, fmt.Errorf("%q is not the URL of a service; it is like http://127.0.0.1:8000", address)
	}
	refuse := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse } // it would get the token
	return &Client{base, token, &http.Client{CheckRedirect: refuse}}, nil
}

// problem is an answer that is an error.
type problem struct {
	status int
	Title  string `json:"title"`
	Detail string `json:"detail"`
	Hint   string `json:"hint"`
}

func (p *problem) Error() string {
	text := p.Title
	if p.Detail != "" {
		text = p.Detail
	}
	if text == "" {
		text = fmt.Sprintf("the service answers with status %d", p.status)
	}
	if p.status == http.StatusUnauthorized {
		return text + "; give a token with --token-file"
	}
	return text
}

// ask sends a request. The caller closes the body.
func (c *Client) ask(ctx context.Context, method, accept string, path ...string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.base.JoinPath(path...).String(), nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", accept)
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	answer, err := c.http.Do(req)
	if err != nil {
		return nil, runner.Wrap(err, runner.KindIO, "ask the service")
	}
	if answer.StatusCode == http.StatusOK {
		return answer, nil
	}
	defer func() { _ = answer.Body.Close() }()
	p := &problem{status: answer.StatusCode}
	text, _ := io.ReadAll(io.LimitReader(answer.Body, 1<<20))
	_ = json.Unmarshal(text, p) // another server has other errors
	return nil, runner.Wrap(p, runner.KindIO, "").WithHint(p.Hint)
}

// get asks for a JSON document.
func (c *Client) get(ctx context.Context, into any, path ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	answer, err := c.ask(ctx, http.MethodGet, "application/json", path...)
	if err != nil {
		return nil, err
	}
	defer func() { _ = answer.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(answer.Body, mostStatus))
	if err != nil {
		return nil, runner.Wrap(err, runner.KindIO, "read the answer")
	}
	if err := json.Unmarshal(text, into); err != nil {
		return nil, runner.Wrap(err, runner.KindSerialization, "the answer is not that of gophersnake serve")
	}
	return text, nil
}

// Status returns the status, and its JSON.
func (c *Client) Status(ctx context.Context) (*Status, []byte, error) {
	s := new(Status)
	text, err := c.get(ctx, s, "v1", "status")
	return s, text, err
}

// Watch calls show with each status of a stream, until the stream or the context ends.
func (c *Client) Watch(ctx context.Context, show func(*Status)) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silence := time.AfterFunc(answerTimeout, func() { cancel(errors.New("the service sends nothing")) })
	defer silence.Stop()
	answer, err := c.ask(ctx, http.MethodGet, "application/x-ndjson", "v1", "status")
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }()
	lines := bufio.NewScanner(answer.Body)
	lines.Buffer(nil, mostStatus)
	for lines.Scan() {
		silence.Reset(answerTimeout)
		if len(bytes.TrimSpace(lines.Bytes())) == 0 {
			continue
		}
		s := new(Status)
		if err := json.Unmarshal(lines.Bytes(), s); err != nil {
			return runner.Wrap(err, runner.KindSerialization, "the status cannot be read")
		}
		show(s)
	}
	if err := context.Cause(ctx); err != nil {
		return err
	}
	if err := lines.Err(); err != nil {
		return runner.Wrap(err, runner.KindIO, "read the status")
	}
	return errors.New("the service has ended the stream")
}

// Logs returns the last records of the log of a node.
func (c *Client) Logs(ctx context.Context, pipeline, node string) ([]Record, error) {
	var doc struct {
		Records []Record `json:"records"`
	}
	_, err := c.get(ctx, &doc, "v1", "pipelines", pipeline, "nodes", node, "logs")
	return doc.Records, err
}

// Restart gives a node new workers.
func (c *Client) Restart(ctx context.Context, pipeline, node string) error {
	return c.act(ctx, "v1", "pipelines", pipeline, "nodes", node, "restart")
}

// Reload makes the nodes of a pipeline read their code again.
func (c *Client) Reload(ctx context.Context, pipeline string) error {
	return c.act(ctx, "v1", "pipelines", pipeline, "reload")
}

func (c *Client) act(ctx context.Context, path ...string) error {
	ctx, cancel := context.WithTimeout(ctx, actionTimeout)
	defer cancel()
	answer, err := c.ask(ctx, http.MethodPost, "application/json", path...)
	if err != nil {
		return err
	}
	return answer.Body.Close()
}
