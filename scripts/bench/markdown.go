package main

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
)

// markdown writes the report as tables.
func (r *report) markdown(w io.Writer) error {
	p := printer{w: w}
	if slices.Contains(r.Sections, callsName) {
		p.title("One call at a time")
		p.table(r.callRows()...)
		p.skipped(r, callsName)
	}
	for _, t := range r.Tables {
		p.title(t.Title)
		rows := [][]string{{"", t.Unit, t.Ratio}, {"---", "---:", "---:"}}
		for _, f := range t.Figures {
			rows = append(rows, []string{f.Name, number(f.Value), times(f.Ratio)})
		}
		if len(t.Figures) > 0 {
			p.table(rows...)
		}
		p.skipped(r, t.Section)
	}
	p.print("Go %s, Python %s, %s, %d CPUs; %d rounds of %d calls, fewer where they take long.\n",
		r.Go, r.Python, r.Platform, r.CPUs, r.Rounds, r.Calls)
	return p.err
}

func (r *report) callRows() [][]string {
	rows := [][]string{
		{"payload", "peer", "p50 µs", "p99 µs", "calls/s", "÷ gophersnake", "÷ Pipe"},
		{"---", "---", "---:", "---:", "---:", "---:", "---:"},
	}
	for _, one := range r.Rows {
		rows = append(rows, []string{one.Payload, one.About, number(one.P50), number(one.P99),
			number(one.CallsPerSecond), times(one.ToGophersnake), times(one.ToPipe)})
	}
	return rows
}

// printer writes until something goes wrong.
type printer struct {
	w   io.Writer
	err error
}

func (p *printer) print(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format, args...)
	}
}

func (p *printer) title(title string) { p.print("## %s\n\n", title) }

func (p *printer) table(rows ...[]string) {
	t := tabwriter.NewWriter(p.w, 0, 0, 0, ' ', tabwriter.Debug)
	for _, cells := range rows {
		_, _ = fmt.Fprintf(t, "| %s \t\n", strings.Join(cells, " \t "))
	}
	if err := t.Flush(); p.err == nil {
		p.err = err
	}
	p.print("\n")
}

// skipped tells what of a section could not be measured, in a line each.
func (p *printer) skipped(r *report, section string) {
	any := false
	for _, s := range r.Skipped {
		if s.Section == section {
			p.print("- skipped: %s: %s\n", s.What, ends(s.Reason))
			any = true
		}
	}
	if any {
		p.print("\n")
	}
}

// ends returns the first and the last line of a text: what failed, and where it is
// Python's story, why.
func ends(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	if len(lines) == 1 {
		return lines[0]
	}
	return lines[0] + " … " + strings.TrimSpace(lines[len(lines)-1])
}

// number prints three digits or so.
func number(f float64) string {
	if f < 100 {
		return strconv.FormatFloat(f, 'f', 1, 64)
	}
	return strconv.FormatFloat(f, 'f', 0, 64)
}

func times(ratio float64) string {
	switch {
	case ratio == 0:
		return "–"
	case ratio < 10:
		return strconv.FormatFloat(ratio, 'f', 2, 64)
	}
	return number(ratio)
}
