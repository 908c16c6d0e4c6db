package terminal

import (
	"errors"
	"io"
	"os"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"github.com/gophersnake/gophersnake/runner"
)

// Display shows the progress of a pipeline. On a terminal it shows one line for each node
// and updates it; elsewhere it logs only what the user should know, such as retries. It is
// safe for concurrent use.
type Display struct {
	console *Console
	logger  hclog.Logger
	bars    *mpb.Progress // nil if no lines are shown
	all     []*mpb.Bar

	mu          sync.Mutex // guards what follows
	environment *environmentLine
	nodes       map[string]*nodeLine
	stream      *streamLine // nil unless the pipeline runs on a stream
	count       *countLine  // nil unless the display counts steps
	width       int         // of the longest name
	ended       bool
}

// NewDisplay returns a display with a line for each of the nodes, each of which will
// process the given number of inputs. The caller must call [Display.Close].
func NewDisplay(console *Console, logger hclog.Logger, nodes []string, inputs int) *Display {
	d := NewLogDisplay(console, logger)
	if Is(console.out) && os.Getenv("TERM") != "dumb" {
		d.bars = mpb.New(mpb.WithOutput(console.out), mpb.WithRefreshRate(100*time.Millisecond))
		console.redirect(d.bars)
	}
	for _, id := range nodes {
		d.width = max(d.width, len([]rune(id)))
	}
	for i, id := range nodes {
		d.nodes[id] = &nodeLine{name: id, inputs: inputs}
		d.show(d.nodes[id], i)
	}
	return d
}

// NewStreamDisplay returns a display with one line for a stream. The caller must call
// [Display.Close].
func NewStreamDisplay(console *Console, logger hclog.Logger) *Display {
	d := NewDisplay(console, logger, nil, 0)
	d.stream = &streamLine{}
	d.width = len("stream")
	d.show(d.stream, 0)
	return d
}

// NewLogDisplay returns a display that only logs, even on a terminal.
func NewLogDisplay(console *Console, logger hclog.Logger) *Display {
	return &Display{console: console, logger: logger, nodes: make(map[string]*nodeLine)}
}

// ShowsLines reports whether the display shows lines on a terminal.
func (d *Display) ShowsLines() bool { return d.bars != nil }

// show adds a line to the terminal; lines are ordered by position.
func (d *Display) show(line line, position int) {
	if d.bars == nil {
		return
	}
	fill := mpb.BarFillerFunc(func(w io.Writer, s decor.Statistics) error {
		d.mu.Lock()
		defer d.mu.Unlock()
		// The terminal echoes Ctrl-C, which moves the cursor to the right.
		_, err := io.WriteString(w, "\r"+line.render(d.console.Style, d.width, s.AvailableWidth-1, time.Now(), d.ended))
		return err
	})
	if bar, err := d.bars.Add(1, fill, mpb.BarFillerTrim(), mpb.BarPriority(position)); err == nil {
		d.all = append(d.all, bar)
	}
}

// ItemSent counts an item that was sent into the stream.
func (d *Display) ItemSent() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stream.sent++
}

// ItemReceived counts a result that the stream delivered.
func (d *Display) ItemReceived() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stream.received++
}

// BuildProgress shows the progress of building the environment; it is a function for
// [runner.WithBuildProgress].
func (d *Display) BuildProgress(p runner.BuildProgress) {
	d.mu.Lock()
	first := d.environment == nil
	if first {
		d.environment = &environmentLine{started: time.Now()}
		d.width = max(d.width, len("environment"))
	}
	line := d.environment
	newStage := line.stage != p.Stage
	line.stage, line.detail = p.Stage, p.Line
	d.mu.Unlock()
	if first {
		d.show(line, -1)
	}
	if d.bars == nil && newStage {
		d.logger.Named("environment").Info(p.Stage)
	}
}

// BuildFinished says that the environment is ready. Later calls have no effect.
func (d *Display) BuildFinished() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.environment != nil && d.environment.finished.IsZero() {
		d.environment.finished = time.Now()
	}
}

// Event shows an event; it is a function for [runner.WithEvents].
func (d *Display) Event(e runner.Event) {
	switch e := e.(type) {
	case runner.CallRetried:
		d.logger.Warn(e.String(), "node", e.Node, "worker", workerOf(e.Err), "attempt", e.Attempt)
	case runner.BreakerChanged:
		text := e.String()
		if e.CallsWait {
			text += "; the inputs that are left wait for the next probe of the node (--no-breaker-wait fails them instead)"
		}
		d.logger.Warn(text, "node", e.Node)
	case runner.Reloaded:
		d.logger.Info(e.String(), "node", e.Node)
	case runner.WorkerStarted:
		d.BuildFinished() // a worker needs the environment
	case runner.SetupProgress:
		d.BuildFinished()
		if d.bars == nil {
			d.logger.Info(e.String(), "node", e.Node)
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if line := d.nodes[nodeOf(e)]; line != nil {
		line.update(e)
	}
	if d.stream != nil {
		d.stream.update(e)
	}
}

// Progress shows what a node reports of a call; it is a function for [runner.WithProgress].
func (d *Display) Progress(p runner.Progress) {
	if d.bars == nil {
		d.logger.Info(p.String(), "node", p.Node)
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	text := reportText(p.Message, p.Fraction)
	if line := d.nodes[p.Node]; line != nil {
		line.report = text
	}
	if d.stream != nil {
		d.stream.report = text
	}
}

// workerOf returns the process id of the worker that an error concerns, 0 if there is none.
func workerOf(err error) int {
	if e, ok := errors.AsType[*runner.Error](err); ok {
		return e.PID
	}
	return 0
}

// nodeOf returns the node of an event that changes a line.
func nodeOf(e runner.Event) string {
	switch e := e.(type) {
	case runner.WorkerStarted:
		return e.Node
	case runner.CallRetried:
		return e.Node
	case runner.BreakerChanged:
		return e.Node
	case runner.SetupProgress:
		return e.Node
	case runner.NodeStarted:
		return e.Node
	case runner.NodeFinished:
		return e.Node
	}
	return ""
}

// Close leaves the lines on the terminal as they are, and ends their updates. Later calls
// have no effect.
func (d *Display) Close() {
	d.BuildFinished()
	d.mu.Lock()
	again := d.ended
	d.ended = true
	d.mu.Unlock()
	if d.bars == nil || again {
		return
	}
	d.console.restore(func() {
		for _, bar := range d.all {
			bar.SetTotal(1, true)
		}
		d.bars.Wait()
	})
}
