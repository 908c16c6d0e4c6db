package terminal

import (
	"fmt"
	"time"

	"github.com/hashicorp/go-hclog"
)

// NewCountDisplay returns a display with one line that counts steps of a total; see
// [Display.Count]. The caller must call [Display.Close].
func NewCountDisplay(console *Console, logger hclog.Logger, name string, total int) *Display {
	d := NewDisplay(console, logger, nil, 0)
	d.count = &countLine{name: name, total: total, started: time.Now()}
	d.width = len(name)
	d.show(d.count, 0)
	return d
}

// Count sets how many steps are done, and how many of them have failed.
func (d *Display) Count(done, failed int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.count.done, d.count.failed = done, failed
}

// Report sets what the only step has last reported of its progress.
func (d *Display) Report(text string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.count.report = text
}

// countLine is the progress of many steps of the same kind.
type countLine struct {
	name                string
	report              string // what the only step has last reported
	total, done, failed int
	started             time.Time
}

func (c *countLine) render(style Style, nameWidth, width int, now time.Time, ended bool) string {
	icon, took := style.Cyan(spinnerAt(now)), now.Sub(c.started)
	text := fmt.Sprintf("%d/%d", c.done, c.total)
	switch {
	case c.done >= c.total && c.failed == 0:
		icon = style.Green("✓")
	case c.done >= c.total:
		icon = style.Red("✗")
	case ended:
		icon = style.Dim(idleIcon)
	case c.done > 0:
		left := time.Duration(float64(took) / float64(c.done) * float64(c.total-c.done))
		text += fmt.Sprintf("  %s, about %s left", Seconds(took), Seconds(left))
	}
	if c.report != "" && c.done < c.total {
		text += "  " + c.report
	}
	if c.failed > 0 {
		text += fmt.Sprintf(", %d failed", c.failed)
	}
	return layout(icon, c.name, text, nameWidth, width)
}
