package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// report is all that a run of the benchmark found.
type report struct {
	Go       string `json:"go"`
	Python   string `json:"python"`
	Platform string `json:"platform"`
	CPUs     int    `json:"cpus"`
	Rounds   int    `json:"rounds"`
	Calls    int    `json:"calls"` // of each round
	Rows     []row  `json:"rows"`
}

// row is one peer with one payload. A ratio is 0 where the peer that it refers
// to was not measured.
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

func newReport(python string, rounds, calls int) *report {
	return &report{
		Go:       strings.TrimPrefix(runtime.Version(), "go"),
		Python:   python,
		Platform: runtime.GOOS + "/" + runtime.GOARCH,
		CPUs:     runtime.NumCPU(),
		Rounds:   rounds,
		Calls:    calls,
	}
}

// add adds the rows of one payload.
func (r *report) add(all []series) {
	byName := make(map[string]series, len(all))
	for _, s := range all {
		byName[s.peer.name] = s
	}
	ratio := func(s series, name string) float64 {
		other, ok := byName[name]
		if !ok {
			return 0
		}
		return s.ratio(other)
	}
	for _, s := range all {
		r.Rows = append(r.Rows, row{
			Payload:        s.payload.name,
			Peer:           s.peer.name,
			About:          s.peer.about,
			P50:            microseconds(s.percentile(0.50)),
			P99:            microseconds(s.percentile(0.99)),
			CallsPerSecond: s.rate(),
			ToGophersnake:  ratio(s, gophersnakeName),
			ToPipe:         ratio(s, pipeName),
		})
	}
}

// find returns the row of a peer and a payload.
func (r *report) find(peer, payload string) (row, bool) {
	for _, row := range r.Rows {
		if row.Peer == peer && row.Payload == payload {
			return row, true
		}
	}
	return row{}, false
}

// markdown writes the report as a table.
func (r *report) markdown(w io.Writer) error {
	table := tabwriter.NewWriter(w, 0, 0, 0, ' ', tabwriter.Debug)
	line := func(cells ...string) { _, _ = fmt.Fprintf(table, "| %s \t\n", strings.Join(cells, " \t ")) }
	line("payload", "peer", "p50 µs", "p99 µs", "calls/s", "÷ gophersnake", "÷ Pipe")
	line("---", "---", "---:", "---:", "---:", "---:", "---:")
	for _, row := range r.Rows {
		line(row.Payload, row.About, number(row.P50), number(row.P99), fmt.Sprintf("%.0f", row.CallsPerSecond),
			times(row.ToGophersnake), times(row.ToPipe))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "\nGo %s, Python %s, %s, %d CPUs; %d rounds of %d calls a row, one call at a time.\n",
		r.Go, r.Python, r.Platform, r.CPUs, r.Rounds, r.Calls)
	return err
}

// save writes the report as JSON; the file is there whole or not at all.
func (r *report) save(path string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	file, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(file.Name()) }() // gone already when all went well
	_, err = file.Write(append(text, '\n'))
	if closeErr := file.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	return os.Rename(file.Name(), path)
}

func microseconds(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// number prints three digits or so.
func number(f float64) string {
	if f < 100 {
		return strconv.FormatFloat(f, 'f', 1, 64)
	}
	return strconv.FormatFloat(f, 'f', 0, 64)
}

func times(ratio float64) string {
	if ratio == 0 {
		return "–"
	}
	return strconv.FormatFloat(ratio, 'f', 2, 64)
}
