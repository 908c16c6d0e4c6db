package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/gophersnake/gophersnake/scripts/bench/distributed"
)

// report is the result of a run.
type report struct {
	Go       string    `json:"go"`
	Python   string    `json:"python"`
	Platform string    `json:"platform"`
	CPUs     int       `json:"cpus"`
	Rounds   int       `json:"rounds"`
	Calls    int       `json:"calls"` // in each round
	Sections []string  `json:"sections"`
	Rows     []row     `json:"rows"` // of the section calls
	Tables   []table   `json:"tables"`
	Skipped  []skipped `json:"skipped"`
}

// row holds the figures of one peer with one payload. A ratio is 0 if the peer that it
// refers to was not measured.
type row struct {
	Payload        string  `json:"payload"`
	Peer           string  `json:"peer"`
	About          string  `json:"about"`
	P50            float64 `json:"p50_us"`
	P99            float64 `json:"p99_us"`
	CallsPerSecond float64 `json:"calls_per_second"`
	ToGophersnake  float64 `json:"ratio_to_gophersnake,omitempty"`
	ToPipe         float64 `json:"ratio_to_pipe,omitempty"`
}

// table is the result of a section other than calls.
type table struct {
	Section string   `json:"section"`
	Title   string   `json:"title"`
	Unit    string   `json:"unit"`  // of the values
	Ratio   string   `json:"ratio"` // the meaning of the ratios
	Figures []figure `json:"figures"`
	// Curve says what the figures are drawn over, nil if they are no curve.
	Curve *curve `json:"curve,omitempty"`
	// Rows are those of a table of texts, which has no figures. The first one is its head.
	Rows [][]string `json:"rows,omitempty"`
}

// figure is a line of a table. Its ratio is 0 if it has none.
type figure struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Ratio float64 `json:"ratio,omitempty"`
}

// skipped names something that could not be measured.
type skipped struct {
	Section string `json:"section"`
	What    string `json:"what"`
	Reason  string `json:"reason"`
}

func newReport(python string, s settings) *report {
	r := &report{
		Go:       strings.TrimPrefix(runtime.Version(), "go"),
		Python:   python,
		Platform: runtime.GOOS + "/" + runtime.GOARCH,
		CPUs:     runtime.NumCPU(),
		Rounds:   s.rounds,
		Calls:    s.calls,
	}
	for _, one := range s.sections {
		r.Sections = append(r.Sections, one.name)
	}
	return r
}

// addCalls adds the rows of one payload.
func (r *report) addCalls(peers []*runningPeer, load payload, all []series) {
	ratio := func(s series, name string) float64 {
		for i, p := range peers {
			if p.name == name && !p.failed {
				return s.ratio(all[i])
			}
		}
		return 0
	}
	for i, p := range peers {
		if p.failed {
			continue
		}
		r.Rows = append(r.Rows, row{
			Payload:        load.name,
			Peer:           p.name,
			About:          p.about,
			P50:            microseconds(all[i].percentile(0.50)),
			P99:            microseconds(all[i].percentile(0.99)),
			CallsPerSecond: all[i].rate(),
			ToGophersnake:  ratio(all[i], gophersnakeName),
			ToPipe:         ratio(all[i], pipeName),
		})
	}
}

// row returns the row of a peer and a payload.
func (r *report) row(payload, peer string) (row, bool) {
	for _, one := range r.Rows {
		if one.Peer == peer && one.Payload == payload {
			return one, true
		}
	}
	return row{}, false
}

// figure returns a line of a section's table.
func (r *report) figure(section, name string) (figure, bool) {
	for _, t := range r.Tables {
		for _, one := range t.Figures {
			if t.Section == section && one.Name == name {
				return one, true
			}
		}
	}
	return figure{}, false
}

// save writes the report to a file, as JSON and atomically.
func (r *report) save(path string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	file, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(file.Name()) }() // fails if the rename succeeded
	_, err = file.Write(append(text, '\n'))
	if closeErr := file.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	return os.Rename(file.Name(), path)
}

// expectation bounds a ratio of the report: in the section calls the ratio of two peers
// with the small payload, otherwise the ratio in a line of the section's table, divided by that
// of another line if it has one.
type expectation struct {
	section     string
	of, to      string
	least, most float64 // 0 for no bound
}

var expectations = []expectation{
	{section: callsName, of: gophersnakeName, to: pipeName, most: 1.2},
	{section: callsName, of: grpcName, to: gophersnakeName, least: 7},
	// The copy into new memory takes 1.6 to 1.8 times as long as one between buffers that are used
	// again and again, so the two copies alone take up to 2.8 of those, and 2.5 cannot be kept.
	{section: roundtripName, of: roundtripReturned, to: roundtripNeeded, most: 1.3},
	// A segment costs both workers about 20 µs of Python, whatever its size: a lease, a loan and
	// their ends. Without them, 64 B take 50 µs if the workers poll, and 70 if they sleep.
	{section: handoverName, of: "64 MiB", to: "64 B", most: 1.4},
	{section: handoverName, of: "64 MiB", to: "1 MiB", most: 1.15},
	{section: throughputName, of: "64 in flight", to: "1 in flight", least: 2.5},
	{section: startName, of: "forked", to: "spawned", most: 0.3},
	{section: clusterName, of: distributed.PythonEcho, to: "requests of NATS alone, one connection", least: 0.3},
	{section: growthName, of: fusedName, to: "1 node", most: 1.5},
	{section: batchName, of: "64 in flight, in batches of 32", to: "1 in flight", least: 10},
}

// check returns an error for each expectation that the report does not meet. It ignores
// those of sections that were not measured.
func (r *report) check() error {
	var failures []error
	for _, e := range expectations {
		if slices.Contains(r.Sections, e.section) {
			failures = append(failures, e.check(r))
		}
	}
	return errors.Join(failures...)
}

func (e expectation) check(r *report) error {
	ratio := e.ratio(r)
	bound := ""
	switch {
	case ratio == 0:
		return fmt.Errorf("%s: cannot check %s against %s: it was not measured", e.section, e.of, e.to)
	case e.most > 0 && ratio > e.most:
		bound = fmt.Sprintf("at most %g", e.most)
	case e.least > 0 && ratio < e.least:
		bound = fmt.Sprintf("at least %g", e.least)
	default:
		return nil
	}
	return fmt.Errorf("%s: %s is %.2f times %s; expected %s", e.section, e.of, ratio, e.to, bound)
}

// ratio returns the ratio, or 0 if it was not measured.
func (e expectation) ratio(r *report) float64 {
	if e.section != callsName {
		f, _ := r.figure(e.section, e.of)
		if to, _ := r.figure(e.section, e.to); to.Ratio > 0 {
			return f.Ratio / to.Ratio
		}
		return f.Ratio
	}
	row, _ := r.row("small", e.of)
	if e.to == pipeName {
		return row.ToPipe
	}
	return row.ToGophersnake
}
