package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/gophersnake/gophersnake/scripts/internal/procs"
)

// report is the result of a run.
type report struct {
	Seed       uint64                    `json:"seed"`
	Seconds    float64                   `json:"seconds"`
	Calls      int                       `json:"calls"`
	Answered   int                       `json:"answered"`
	PerSecond  float64                   `json:"calls_per_second"`
	Items      int64                     `json:"items_of_streams"`
	Deaths     int                       `json:"worker_deaths"`
	Events     map[string]int            `json:"events"`
	Injected   map[string]int            `json:"blows"`
	Executed   int                       `json:"carried_out_once"`
	Bystanders map[string]int            `json:"failed_by_others"`
	Pipelines  map[string]int            `json:"calls_by_pipeline"`
	Table      map[string]map[string]int `json:"outcomes"`
	Memory     memoryFigures             `json:"supervisor_rss"`
	Leaks      []string                  `json:"left_behind"`
	Violations []string                  `json:"violations"`
	Count      int                       `json:"violation_count"`
}

// report collects the figures of the run, and checks the memory.
func (c *chaos) report(executed int, leaks []string) *report {
	memory := c.memory.figures()
	if err := memory.check(); err != nil {
		c.ledger.violations.Add("%v", err)
	}
	c.ledger.mu.Lock()
	defer c.ledger.mu.Unlock()
	c.workers.mu.Lock()
	defer c.workers.mu.Unlock()
	r := &report{
		Seed: c.seed, Seconds: c.took.Seconds(), Calls: c.ledger.calls, Answered: c.ledger.answered,
		PerSecond: float64(c.ledger.calls) / c.took.Seconds(),
		Items:     c.items.Load(), Deaths: c.workers.deaths, Events: c.workers.events, Injected: c.workers.injected,
		Executed: executed, Bystanders: c.ledger.bystanders, Memory: memory, Leaks: leaks,
		Pipelines:  make(map[string]int),
		Table:      make(map[string]map[string]int),
		Violations: c.ledger.violations.Texts(), Count: c.ledger.violations.Count(),
	}
	for _, t := range c.targets {
		r.Pipelines[t.name] = len(c.ledger.outcomes[t.index])
	}
	for name, row := range c.ledger.table {
		r.Table[name] = make(map[string]int)
		for got, n := range row {
			r.Table[name][got.String()] = n
		}
	}
	return r
}

// write prints the report, as text or as JSON.
func (r *report) write(out io.Writer, asJSON bool) error {
	if asJSON {
		encoder := json.NewEncoder(out)
		encoder.SetIndent("", "  ")
		return encoder.Encode(r)
	}
	r.writeTable(out)
	fmt.Fprintf(out, "\nseed %d: %d calls in %.1f s (%.0f a second), %d answered, each once\n", r.Seed, r.Calls, r.Seconds, r.PerSecond, r.Answered)
	fmt.Fprintf(out, "calls by pipeline: %s\n", counts(r.Pipelines))
	fmt.Fprintf(out, "%d workers died; events: %s\n", r.Deaths, counts(r.Events))
	fmt.Fprintf(out, "injected signals and reloads: %s\n", counts(r.Injected))
	fmt.Fprintf(out, "%d items received from streams, each once and in order\n", r.Items)
	fmt.Fprintf(out, "calls that failed by the fault of another call or a signal: %s\n", counts(r.Bystanders))
	fmt.Fprintf(out, "%d non-idempotent calls executed, each once\n", r.Executed)
	fmt.Fprintf(out, "the supervisor's resident memory: %v\n", r.Memory)
	if len(r.Leaks) == 0 {
		fmt.Fprintln(out, "left behind: no process, descriptor, goroutine, segment or temporary file")
	}
	for _, violation := range r.Violations {
		fmt.Fprintf(out, "violation: %s\n", violation)
	}
	_, err := fmt.Fprintf(out, "violations: %d\n", r.Count)
	return err
}

// writeTable prints how often each fault had each outcome.
func (r *report) writeTable(out io.Writer) {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(table, "fault\t%s\t\n", strings.Join(outcomeNames, "\t"))
	names := []string{noFault}
	for _, f := range slices.Concat(faults, attacks) {
		names = append(names, f.name)
	}
	for _, name := range names {
		row, ok := r.Table[name]
		if !ok {
			continue
		}
		cells := make([]string, len(outcomeNames))
		for i, got := range outcomeNames {
			if n := row[got]; n > 0 {
				cells[i] = fmt.Sprint(n)
			}
		}
		fmt.Fprintf(table, "%s\t%s\t\n", name, strings.Join(cells, "\t"))
	}
	_ = table.Flush() // the last Fprintf of write returns the same error
}

// counts formats a map of counts, in the order of the names.
func counts(byName map[string]int) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		parts = append(parts, fmt.Sprintf("%d %s", byName[name], name))
	}
	if parts == nil {
		return "none"
	}
	return strings.Join(parts, ", ")
}

// progress prints a line every 5 s, until the context ends. It prints none with --json.
func (c *chaos) progress(ctx context.Context) {
	started := time.Now()
	if c.json {
		return
	}
	every(ctx, 5*time.Second, func() bool {
		c.ledger.mu.Lock()
		calls, violations := c.ledger.answered, c.ledger.violations.Count()
		c.ledger.mu.Unlock()
		c.workers.mu.Lock()
		deaths, retries := c.workers.deaths, c.workers.events["CallRetried"]
		c.workers.mu.Unlock()
		took := time.Since(started)
		fmt.Fprintf(c.out, "%4.0f s  %d calls (%.0f/s)  %d deaths  %d retries  %s  %d violations\n",
			took.Seconds(), calls, float64(calls)/took.Seconds(), deaths, retries, mib(procs.Resident(os.Getpid())), violations)
		return false
	})
}
