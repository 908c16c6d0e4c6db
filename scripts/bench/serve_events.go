package main

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// eventCount is the number of events of a stream, of which a node yields one each 5 ms.
const eventCount = 400

// measureEvents measures the time from the yield of a node to the arrival of the event at a
// client. The node sends its clock, which is that of the client.
func (b *bench) measureEvents(ctx context.Context, servers []*runningServer) error {
	for _, s := range servers {
		if s.name != gophersnakeName {
			continue
		}
		took, err := s.events(ctx)
		if err != nil {
			return fmt.Errorf("events: %w", err)
		}
		rows := [][]string{{"events", "p50 µs", "p90 µs", "p99 µs", "longest µs", "within 5 ms"}, {
			strconv.Itoa(len(took)), number(microseconds(percentile(took, 0.5))), number(microseconds(percentile(took, 0.9))),
			number(microseconds(percentile(took, 0.99))), number(microseconds(percentile(took, 1))), within(took, 5*time.Millisecond),
		}}
		b.report.Tables = append(b.report.Tables, table{Section: serveName, Title: "Server-sent events: from the yield to the client", Rows: rows})
	}
	return nil
}

// within returns the part of the durations that are not longer than a limit.
func within(took []time.Duration, limit time.Duration) string {
	n := 0
	for _, one := range took {
		if one <= limit {
			n++
		}
	}
	return fmt.Sprintf("%.1f %%", 100*float64(n)/float64(len(took)))
}

// events reads a stream, and returns how long each event took.
func (s *runningServer) events(ctx context.Context) (took []time.Duration, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url+"/v1/pipelines/clock", strings.NewReader(strconv.Itoa(eventCount)))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "text/event-stream")
	answer, err := s.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = answer.Body.Close() }()
	lines := bufio.NewScanner(answer.Body)
	for lines.Scan() {
		text, ok := strings.CutPrefix(lines.Text(), `data: {"result":`)
		if !ok {
			continue
		}
		sent, err := strconv.ParseInt(strings.TrimSuffix(text, "}"), 10, 64)
		if err != nil {
			return nil, err
		}
		took = append(took, time.Since(time.Unix(0, sent)))
	}
	if lines.Err() == nil && len(took) != eventCount {
		err = fmt.Errorf("%d events came", len(took))
	}
	return took, err
}
