package terminal

import (
	"fmt"
	"strings"
	"time"

	"github.com/gophersnake/gophersnake/runner"
)

// Plural returns a count with its noun, such as "1 file" or "2 files".
func Plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// ByteCount returns a size with its unit, such as "1.5 MiB".
func ByteCount(n int64) string {
	const unit = 1024
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	value, units := float64(n)/unit, "KMGTPE"
	for value >= unit && len(units) > 1 {
		value, units = value/unit, units[1:]
	}
	return fmt.Sprintf("%.1f %ciB", value, units[0])
}

// Seconds returns a duration with three or four digits, such as "1.25 s".
func Seconds(d time.Duration) string {
	switch {
	case d < 10*time.Second:
		return fmt.Sprintf("%.2f s", d.Seconds())
	case d < 2*time.Minute:
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
	return d.Round(time.Second).String()
}

// Shorten puts a text on one line, makes it printable and cuts it to a number of
// characters.
func Shorten(text string, length int) string {
	return truncate(runner.PrintableLine(strings.Join(strings.Fields(text), " ")), length)
}

// truncate cuts a text to a number of characters, and marks the cut.
func truncate(text string, length int) string {
	if runes := []rune(text); len(runes) > length {
		return string(runes[:max(length-1, 0)]) + "…"
	}
	return text
}

// Indent indents each line of a text by two spaces; the result ends with a line feed.
func Indent(text string) string {
	return "  " + strings.ReplaceAll(strings.TrimSuffix(text, "\n"), "\n", "\n  ") + "\n"
}

// Table aligns rows of equal length in columns and returns the text and its width. The
// first row holds the headings. The cells are made printable.
func Table(rows [][]string, style Style) (text string, width int) {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			row[i] = runner.PrintableLine(cell)
			widths[i] = max(widths[i], len([]rune(row[i])))
		}
	}
	for _, w := range widths {
		width += w + 2
	}
	var b strings.Builder
	for r, row := range rows {
		var line strings.Builder
		for i, cell := range row {
			fmt.Fprintf(&line, "%-*s  ", widths[i], cell)
		}
		plain := strings.TrimRight(line.String(), " ")
		if r == 0 {
			plain = style.Dim(plain)
		}
		b.WriteString(plain + "\n")
	}
	return b.String(), width - 2
}
