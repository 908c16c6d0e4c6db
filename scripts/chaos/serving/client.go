package serving

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"
)

// clients are many clients of the service.
type clients struct {
	owner *run
	count int
	http  []*http.Client
}

// newClients returns clients that keep their connections, that open one for each request, and
// that share connections by HTTP/2.
func newClients(r *run, count int) *clients {
	shared := new(http.Protocols)
	shared.SetUnencryptedHTTP2(true)
	single := new(http.Protocols)
	single.SetHTTP1(true)
	keeping := &http.Client{Transport: &http.Transport{Protocols: single, MaxIdleConnsPerHost: count}}
	opening := &http.Client{Transport: &http.Transport{Protocols: single, DisableKeepAlives: true}}
	sharing := &http.Client{Transport: &http.Transport{Protocols: shared}}
	return &clients{owner: r, count: count, http: []*http.Client{keeping, opening, keeping, opening, sharing}}
}

// run makes requests with all clients until stop ends. Those under way run to their end.
func (c *clients) run(ctx, stop context.Context) {
	var all sync.WaitGroup
	for range c.count {
		all.Go(func() {
			for stop.Err() == nil {
				c.request(ctx)
			}
		})
	}
	all.Wait()
}

// request makes the next request and enters its outcome into the ledger.
func (c *clients) request(ctx context.Context) {
	p := newPlan(c.owner.Seed, c.owner.ledger.issue(), len(c.http))
	got, detail := c.do(ctx, p)
	c.owner.ledger.settle(p, got, detail)
}

func (c *clients) do(ctx context.Context, p *plan) (outcome, string) {
	ctx, cancel := context.WithTimeoutCause(ctx, stuck, fmt.Errorf("no answer within %v", stuck))
	defer cancel()
	leave := func() bool { return false }
	if p.leaves {
		gone, goes := context.WithCancelCause(ctx)
		defer goes(nil)
		defer time.AfterFunc(p.delay, func() { goes(errLeft) }).Stop()
		ctx = gone
		leave = func() bool { return errors.Is(context.Cause(gone), errLeft) }
	}
	one := &client{ctx: ctx, http: c.http[p.client], url: c.owner.service.url, hasLeft: leave}
	return p.form.do(one, p)
}

var errLeft = errors.New("the client has left")

// probe makes a request of each form, in which nothing is to go wrong.
func (c *clients) probe(ctx context.Context) error {
	for i := range forms {
		for n := range c.http {
			p := &plan{number: 7, form: &forms[i], steps: 3, size: 10, client: n}
			if got, detail := c.do(ctx, p); got != right {
				return fmt.Errorf("a %s: %s: %s", p.form.name, got, detail)
			}
		}
	}
	return nil
}

// close closes the connections that are kept.
func (c *clients) close() {
	for _, one := range c.http {
		one.CloseIdleConnections()
	}
}

// client makes one request.
type client struct {
	ctx     context.Context
	http    *http.Client
	url     string
	hasLeft func() bool
}

// failed returns the outcome of a request whose answer could not be read.
func (c *client) failed(err error) (outcome, string) {
	if c.hasLeft() {
		return left, ""
	}
	return wrong, err.Error()
}

// post sends a request.
func (c *client) post(p *plan, body io.Reader, contentType string, headers ...string) (*http.Response, error) {
	url := c.url + "/v1/pipelines/" + p.form.pipeline
	if p.form.name == "call of a node" {
		url += "/nodes/work"
	}
	req, err := http.NewRequestWithContext(c.ctx, http.MethodPost, url, body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", contentType)
	req.Header.Set("Accept", p.form.accept)
	if p.timeout > 0 {
		req.Header.Set("X-Request-Timeout", p.timeout.String())
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	return c.http.Do(req)
}

// problem is what a client reads of a problem document.
type problem struct {
	Status int
	Detail string
}

// outcome returns what an error of the service stands for.
func (p *plan) outcome(status int, document problem) (outcome, string) {
	detail := fmt.Sprintf("status %d: %+v", status, document)
	switch {
	case document.Status != status:
		return wrong, detail
	case status == http.StatusUnprocessableEntity && p.fails && document.Detail == fmt.Sprintf("request %d", p.number):
		return raised, ""
	case status == http.StatusBadGateway:
		return died, ""
	case status == http.StatusTooManyRequests:
		return refused, ""
	case status == http.StatusGatewayTimeout && p.timeout > 0:
		return deadline, ""
	}
	return wrong, detail
}

func (p *plan) input() string {
	return fmt.Sprintf(`{"number":%d,"nap":%g,"fails":%t,"steps":%d,"data":%q}`, p.number, p.nap.Seconds(), p.fails, p.steps, p.data())
}

func (p *plan) data() string {
	text := fmt.Sprint(p.number, " ")
	return strings.Repeat(text, p.size/len(text)+1)
}

// call makes a call and compares the answer with the right one.
func (c *client) call(p *plan) (outcome, string) { return c.callOnce(p) }

func (c *client) callOnce(p *plan, headers ...string) (outcome, string) {
	answer, err := c.post(p, strings.NewReader(p.input()), "application/json", headers...)
	if err != nil {
		return c.failed(err)
	}
	defer func() { _ = answer.Body.Close() }()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		return c.failed(err)
	}
	if answer.StatusCode != http.StatusOK {
		var document problem
		if err := json.Unmarshal(body, &document); err != nil {
			return wrong, string(body)
		}
		return p.outcome(answer.StatusCode, document)
	}
	want := fmt.Sprintf(`{"number":%d,"square":%d,"data":%q}`+"\n", p.number, p.number*p.number, p.data())
	if string(body) != want || p.fails {
		return wrong, fmt.Sprintf("the answer is %.200q", body)
	}
	return right, ""
}

// callTwice makes two calls with one key at once. If the client leaves, one of them leaves.
func (c *client) callTwice(p *plan) (outcome, string) {
	key := fmt.Sprint("key ", p.number)
	other := *c
	other.ctx, other.hasLeft = context.WithoutCancel(c.ctx), func() bool { return false }
	type result struct {
		outcome
		detail string
	}
	second := make(chan result, 1)
	go func() {
		ctx, cancel := context.WithTimeout(other.ctx, stuck)
		defer cancel()
		other.ctx = ctx
		got, detail := other.callOnce(p, "Idempotency-Key", key)
		second <- result{got, detail}
	}()
	got, detail := c.callOnce(p, "Idempotency-Key", key)
	stayed := <-second
	if stayed.outcome != got && got != left {
		if got == refused || stayed.outcome == refused || p.timeout > 0 {
			return stayed.outcome, stayed.detail // such answers are not kept for others
		}
		return wrong, fmt.Sprintf("two answers for one key: %s and %s: %s %s", got, stayed.outcome, detail, stayed.detail)
	}
	return stayed.outcome, stayed.detail
}

// record is a line or an event of a stream.
type record struct {
	Result  []int    `json:"result"`
	Error   *problem `json:"error"`
	Results *int     `json:"results"` // at the end of a stream of events
}

// readStream reads a stream, whose values must be complete and in order.
func (c *client) readStream(p *plan) (outcome, string) {
	answer, err := c.post(p, strings.NewReader(p.input()), "application/json")
	if err != nil {
		return c.failed(err)
	}
	defer func() { _ = answer.Body.Close() }()
	if answer.StatusCode != http.StatusOK {
		return c.problemIn(p, answer)
	}
	records, err := readRecords(bufio.NewReader(answer.Body), answer.Header.Get("Content-Type"))
	if err != nil {
		return c.failed(err)
	}
	isWhole := p.form.accept == typeLines
	for i, r := range records {
		isLast := i == len(records)-1
		switch {
		case isLast && r.Error != nil:
			return p.outcome(r.Error.Status, *r.Error)
		case isLast && r.Results != nil && *r.Results == i:
			isWhole, records = true, records[:i]
		case len(r.Result) != 2 || r.Result[0] != int(p.number) || r.Result[1] != i:
			return wrong, fmt.Sprintf("the records are %+v", records)
		}
	}
	if !isWhole || len(records) != p.steps {
		return wrong, fmt.Sprintf("the stream ended after %d values", len(records))
	}
	return right, ""
}

func (c *client) problemIn(p *plan, answer *http.Response) (outcome, string) {
	var document problem
	if err := json.NewDecoder(answer.Body).Decode(&document); err != nil {
		return c.failed(err)
	}
	return p.outcome(answer.StatusCode, document)
}

// readRecords reads the records of a stream to its end.
func readRecords(from *bufio.Reader, contentType string) (all []record, err error) {
	for {
		r, err := readRecord(from, contentType)
		if err == io.EOF { //nolint:errorlint // the end of the body, as it is
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		all = append(all, r)
	}
}

// readRecord reads the next record. Empty lines, comments and the other fields of events are
// skipped.
func readRecord(from *bufio.Reader, contentType string) (r record, err error) {
	for {
		line, err := from.ReadString('\n')
		if err == io.EOF && line != "" {
			return r, fmt.Errorf("the stream ends in the middle of a line: %q", line)
		}
		if err != nil {
			return r, err
		}
		text := strings.TrimSpace(line)
		if contentType == typeEvents {
			var isData bool
			if text, isData = strings.CutPrefix(text, "data: "); !isData {
				continue
			}
		}
		if text != "" {
			return r, json.Unmarshal([]byte(text), &r)
		}
	}
}

// dialog sends lines, and reads the result of each before it sends the next one.
func (c *client) dialog(p *plan) (outcome, string) {
	body, in := io.Pipe()
	defer func() { _ = in.Close() }()
	// Without this, package net/http would wait for the body of a request that has ended.
	defer context.AfterFunc(c.ctx, func() { _ = in.CloseWithError(errLeft) })()
	answer, err := c.post(p, body, typeLines)
	if err != nil {
		return c.failed(err)
	}
	defer func() { _ = answer.Body.Close() }()
	if answer.StatusCode != http.StatusOK {
		return c.problemIn(p, answer)
	}
	from := bufio.NewReader(answer.Body)
	for step := range p.steps {
		if _, err := fmt.Fprintf(in, "[%d,%d]\n", p.number, step); err != nil && c.hasLeft() {
			return left, "" // otherwise the answer says why
		}
		r, err := readRecord(from, typeLines)
		switch {
		case err != nil:
			return c.failed(err)
		case r.Error != nil:
			if _, err := readRecord(from, typeLines); err != io.EOF { //nolint:errorlint // as it is
				return c.failed(fmt.Errorf("after the error: %w", err))
			}
			return p.outcome(r.Error.Status, *r.Error)
		case len(r.Result) != 2 || r.Result[0] != int(p.number) || r.Result[1] != 2*step:
			return wrong, fmt.Sprintf("the result is %+v", r)
		}
	}
	_ = in.Close()
	if r, err := readRecord(from, typeLines); err != io.EOF { //nolint:errorlint // as it is
		if err == nil && r.Error != nil {
			return p.outcome(r.Error.Status, *r.Error)
		}
		return c.failed(fmt.Errorf("after the last result: %+v, %w", r, err))
	}
	return right, ""
}
