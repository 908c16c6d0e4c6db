package serving

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"

	"github.com/gophersnake/gophersnake/scripts/internal/violations"
)

// outcome is the result of a request.
type outcome string

const (
	right    outcome = "right"    // the right answer, whole and once
	raised   outcome = "raised"   // the exception that the node was asked for
	died     outcome = "died"     // 502: the interpreter died in all attempts
	refused  outcome = "refused"  // 429: there was no room in the queue
	deadline outcome = "deadline" // 504: the time that the request allowed was over
	left     outcome = "left"     // the client left before it had the whole answer
	wrong    outcome = "wrong"    // anything else
)

var outcomes = []outcome{right, raised, died, refused, deadline, left, wrong}

// ledger records each request with its outcome, and all violations.
type ledger struct {
	violations violations.List

	mu      sync.Mutex // guards what follows
	issued  int
	settled int
	table   map[string]map[outcome]int
}

func newLedger() *ledger {
	return &ledger{table: make(map[string]map[outcome]int)}
}

func (l *ledger) issue() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.issued++
	return uint64(l.issued)
}

// settle enters the outcome of a request. One that is not among those allowed is a violation.
func (l *ledger) settle(p *plan, got outcome, detail string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.settled++
	row := l.table[p.form.name]
	if row == nil {
		row = make(map[outcome]int)
		l.table[p.form.name] = row
	}
	row[got]++
	if !slices.Contains(p.allowed(), got) {
		l.violations.Add("%v: the outcome is %s; allowed: %v: %s", p, got, p.allowed(), detail)
	}
}

// close checks that each request is settled.
func (l *ledger) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.settled != l.issued {
		l.violations.Add("%d of %d requests have no outcome", l.issued-l.settled, l.issued)
	}
}

func (l *ledger) progress() (settled, violations int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.settled, l.violations.Count()
}

// logWatch makes a message of package net/http about a second answer a violation.
type logWatch struct{ ledger *ledger }

// Write implements [io.Writer].
func (w logWatch) Write(text []byte) (int, error) {
	if bytes.Contains(text, []byte("Unsolicited response")) {
		w.ledger.violations.Add("a second answer: %s", text)
	}
	return len(text), nil
}

// watchLog watches the log of package net/http until the function that it returns is called.
func watchLog(l *ledger) (restore func()) {
	before := log.Writer()
	log.SetOutput(logWatch{l})
	return func() { log.SetOutput(before) }
}

// report is the result of a run.
type report struct {
	Seed       uint64                     `json:"seed"`
	Seconds    float64                    `json:"seconds"`
	Clients    int                        `json:"clients"`
	Requests   int                        `json:"requests"`
	Settled    int                        `json:"settled"`
	Kills      int                        `json:"kills"`
	Recovery   float64                    `json:"seconds_to_be_whole"`
	Before     resources                  `json:"held_before"`
	After      resources                  `json:"held_after"`
	Peak       int64                      `json:"peak_rss"`
	Table      map[string]map[outcome]int `json:"outcomes"`
	Violations []string                   `json:"violations"`
	Count      int                        `json:"violation_count"`
}

func (r *run) report() *report {
	l := r.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	return &report{
		Seed: r.Seed, Seconds: r.took.Seconds(), Clients: r.Clients, Requests: l.issued, Settled: l.settled, Kills: r.kills,
		Recovery: r.recovery.Seconds(), Before: r.before, After: r.after, Peak: r.peak,
		Table: l.table, Violations: l.violations.Texts(), Count: l.violations.Count(),
	}
}

// write prints the report, as text or as JSON.
func (r *report) write(out io.Writer, asJSON bool) error {
	if asJSON {
		encoder := json.NewEncoder(out)
		encoder.SetIndent("", "  ")
		return encoder.Encode(r)
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	head := make([]string, len(outcomes))
	for i, o := range outcomes {
		head[i] = string(o)
	}
	_, _ = fmt.Fprintf(table, "request\t%s\t\n", strings.Join(head, "\t"))
	for _, f := range forms {
		cells := make([]string, len(outcomes))
		for i, o := range outcomes {
			if n := r.Table[f.name][o]; n > 0 {
				cells[i] = fmt.Sprint(n)
			}
		}
		_, _ = fmt.Fprintf(table, "%s\t%s\t\n", f.name, strings.Join(cells, "\t"))
	}
	_ = table.Flush()
	_, err := fmt.Fprintf(out, `
seed %d: %d clients, %d requests in %.1f s (%.0f a second), %d settled, each once
%d processes killed; all workers ready %.1f s after the load
held before: %v
held after:  %v; at most %d MiB resident
violations: %d
`, r.Seed, r.Clients, r.Requests, r.Seconds, float64(r.Requests)/r.Seconds, r.Settled,
		r.Kills, r.Recovery, r.Before, r.After, r.Peak>>20, r.Count)
	return err
}
