package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
)

// markdown writes the report as Markdown tables.
func (r *report) markdown(w io.Writer) error {
	p := printer{w: w}
	if slices.Contains(r.Sections, callsName) {
		p.title("One call at a time")
		p.table(r.callRows()...)
		p.skipped(r, callsName)
	}
	for i, t := range r.Tables {
		p.title(t.Title)
		rows := [][]string{{"", t.Unit, t.Ratio}, {"---", "---:", "---:"}}
		for _, f := range t.Figures {
			rows = append(rows, []string{f.Name, number(f.Value), times(f.Ratio)})
		}
		if len(t.Rows) > 0 {
			rows = append([][]string{t.Rows[0], slices.Repeat([]string{"---"}, len(t.Rows[0]))}, t.Rows[1:]...)
		}
		if len(t.Figures) > 0 || len(t.Rows) > 0 {
			p.table(rows...)
		}
		if i+1 == len(r.Tables) || r.Tables[i+1].Section != t.Section {
			p.skipped(r, t.Section)
		}
	}
	p.print("Go %s, Python %s, %s, %d CPUs; %d rounds of %d calls, fewer of large payloads.\n",
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

// printer writes until an error occurs, which it keeps.
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

// skipped prints what could not be measured in a section, a line each.
func (p *printer) skipped(r *report, section string) {
	found := false
	for _, s := range r.Skipped {
		if s.Section == section {
			p.print("- skipped: %s: %s\n", s.What, firstAndLast(s.Reason))
			found = true
		}
	}
	if found {
		p.print("\n")
	}
}

// firstAndLast returns the first and the last line of a text. The first one says what
// failed; the last one of a Python traceback says why.
func firstAndLast(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	if len(lines) == 1 {
		return lines[0]
	}
	return lines[0] + " … " + strings.TrimSpace(lines[len(lines)-1])
}

// number formats a number with about three digits.
func number(f float64) string {
	if f < 100 {
		return strconv.FormatFloat(f, 'f', 1, 64)
	}
	return strconv.FormatFloat(f, 'f', 0, 64)
}

// times formats a ratio; 0 stands for one that was not measured.
func times(ratio float64) string {
	switch {
	case ratio == 0:
		return "–"
	case ratio < 10:
		return strconv.FormatFloat(ratio, 'f', 2, 64)
	}
	return number(ratio)
}

// plot draws the calls to the files of --plot. A Python program with its own environment
// does so, because this module has no plotting library.
func (b *bench) plot(ctx context.Context) error {
	if len(b.plots) == 0 {
		return nil
	}
	if len(b.report.Rows) == 0 && !slices.ContainsFunc(b.report.Tables, func(t table) bool { return t.Curve != nil }) {
		return errors.New("there is nothing to plot: no section with calls or a curve was measured")
	}
	env, err := b.host.environment(ctx, "plot")
	if err != nil {
		return fmt.Errorf("plot: %w", err)
	}
	figures := filepath.Join(b.host.programs, "figures.json")
	if err := b.report.save(figures); err != nil {
		return err
	}
	args := append([]string{filepath.Join(b.host.programs, "plot.py"), figures}, b.plots...)
	command := exec.CommandContext(ctx, env.Python, args...)
	if output, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("plot: %w\n%s", err, output)
	}
	return nil
}
