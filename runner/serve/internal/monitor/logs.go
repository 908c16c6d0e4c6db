package monitor

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/hashicorp/go-hclog"

	"github.com/gophersnake/gophersnake/runner"
)

// The bounds of what is kept of the records of a node.
const (
	mostRecords   = 200
	mostBytes     = 128 << 10
	longestRecord = 4 << 10
)

// The sources of records.
const (
	SourceRunner = "runner" // an event
	SourceLog    = "log"    // the log of the runner and of its workers
)

// Record is one record of a log. Its text has no control characters but line feeds and tabs.
type Record struct {
	// Number counts the records of the node from 1.
	Number uint64    `json:"number"`
	Time   time.Time `json:"time"`
	Level  string    `json:"level"`
	Source string    `json:"source"`
	Logger string    `json:"logger,omitempty"`
	Worker int       `json:"worker,omitempty"`
	Text   string    `json:"text"`
}

// Logs keeps the last records of a node. The zero Logs is ready for use. It is safe for
// concurrent use.
type Logs struct {
	mu      sync.Mutex
	records []Record
	bytes   int    // of all texts
	last    uint64 // the number of the last record
}

// Add keeps a record, and forgets the oldest ones if there are too many.
func (l *Logs) Add(r Record) {
	r.Text = runner.Printable(shorten(r.Text))
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last++
	r.Number = l.last
	l.records = append(l.records, r)
	l.bytes += len(r.Text)
	forget := 0
	for len(l.records)-forget > mostRecords || l.bytes > mostBytes {
		l.bytes -= len(l.records[forget].Text)
		forget++
	}
	l.records = slices.Delete(l.records, 0, forget)
}

// Last returns the number of the last record, 0 if there was none.
func (l *Logs) Last() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last
}

// After returns the records that are kept and follow the one with a number.
func (l *Logs) After(number uint64) []Record {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range l.records {
		if l.records[i].Number > number {
			return slices.Clone(l.records[i:])
		}
	}
	return nil
}

// shorten cuts a text that is too long.
func shorten(text string) string {
	text = strings.TrimRight(text, "\r\n")
	if len(text) <= longestRecord {
		return text
	}
	end := longestRecord
	for end > longestRecord-utf8.UTFMax && !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + "…"
}

// Logger returns a logger that passes each record to another one and keeps those from info level
// up. Because the workers send no records below the level of their logger, its level is at
// least info.
func (p *Pipeline) Logger(to hclog.Logger) hclog.Logger { return &logger{Logger: to, pipeline: p} }

// logger is a logger that keeps records.
type logger struct {
	hclog.Logger
	pipeline *Pipeline
	node     string
	worker   int
	names    []string
	fields   string // those of With, formatted
}

// Log passes a record on, and keeps it.
func (l *logger) Log(level hclog.Level, message string, args ...any) {
	l.Logger.Log(level, message, args...)
	if level < hclog.Info {
		return
	}
	names := l.names
	if len(names) > 0 && names[0] == l.node {
		names = names[1:]
	}
	l.pipeline.Node(l.node).Logs.Add(Record{
		Time: time.Now(), Level: level.String(), Source: SourceLog, Worker: l.worker,
		Logger: runner.PrintableLine(shorten(strings.Join(names, "."))), Text: shorten(message) + l.fields + fieldsOf(args),
	})
}

// Trace writes a record at trace level.
func (l *logger) Trace(message string, args ...any) { l.Log(hclog.Trace, message, args...) }

// Debug writes a record at debug level.
func (l *logger) Debug(message string, args ...any) { l.Log(hclog.Debug, message, args...) }

// Info writes a record at info level.
func (l *logger) Info(message string, args ...any) { l.Log(hclog.Info, message, args...) }

// Warn writes a record at warn level.
func (l *logger) Warn(message string, args ...any) { l.Log(hclog.Warn, message, args...) }

// Error writes a record at error level.
func (l *logger) Error(message string, args ...any) { l.Log(hclog.Error, message, args...) }

// IsInfo returns true, as records at info level are kept.
func (l *logger) IsInfo() bool { return true }

// IsWarn returns true, as records at warn level are kept.
func (l *logger) IsWarn() bool { return true }

// IsError returns true, as records at error level are kept.
func (l *logger) IsError() bool { return true }

// GetLevel returns the lowest level of records that are kept or passed on.
func (l *logger) GetLevel() hclog.Level {
	if level := l.Logger.GetLevel(); level != hclog.NoLevel {
		return min(level, hclog.Info)
	}
	return hclog.Info
}

// With returns a logger that adds fields to each record. The fields node and worker say which
// node its records belong to; those that a record itself has may come from code of a node.
func (l *logger) With(args ...any) hclog.Logger {
	more := *l
	more.Logger = l.Logger.With(args...)
	var others []any
	for i := 0; i+1 < len(args); i += 2 {
		switch v := args[i+1].(type) {
		case string:
			if args[i] == "node" {
				more.node = v
				continue
			}
		case int:
			if args[i] == "worker" {
				more.worker = v
				continue
			}
		}
		others = append(others, args[i], args[i+1])
	}
	more.fields += fieldsOf(others)
	return &more
}

// Named returns a logger with a name added.
func (l *logger) Named(name string) hclog.Logger {
	more := *l
	more.Logger, more.names = l.Logger.Named(name), append(slices.Clone(l.names), name)
	return &more
}

// ResetNamed returns a logger with another name.
func (l *logger) ResetNamed(name string) hclog.Logger {
	more := *l
	more.Logger, more.names = l.Logger.ResetNamed(name), []string{name}
	return &more
}

// fieldsOf formats keys and values.
func fieldsOf(args []any) string {
	var b strings.Builder
	for i := 0; i+1 < len(args) && b.Len() < longestRecord; i += 2 {
		value := args[i+1]
		if format, ok := value.(hclog.Format); ok && len(format) > 0 {
			value = fmt.Sprintf(fmt.Sprint(format[0]), format[1:]...)
		}
		fmt.Fprintf(&b, " %v=%v", args[i], value)
	}
	return b.String()
}
