package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// report is all that a run of the benchmark found.
type report struct {
	Go       string    `json:"go"`
	Python   string    `json:"python"`
	Platform string    `json:"platform"`
	CPUs     int       `json:"cpus"`
	Rounds   int       `json:"rounds"`
	Calls    int       `json:"calls"` // of each round
	Sections []string  `json:"sections"`
	Rows     []row     `json:"rows"` // of the section calls
	Tables   []table   `json:"tables"`
	Skipped  []skipped `json:"skipped"`
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

// table is what a section other than calls found.
type table struct {
	Section string   `json:"section"`
	Title   string   `json:"title"`
	Unit    string   `json:"unit"`  // of the values
	Ratio   string   `json:"ratio"` // what the ratios are
	Figures []figure `json:"figures"`
}

// figure is a line of a table; its ratio is 0 where it has none.
type figure struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Ratio float64 `json:"ratio,omitempty"`
}

// skipped is what could not be measured.
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
func (r *report) addCalls(peers []*running, load payload, all []series) {
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
