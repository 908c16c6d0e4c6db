package terminal

import "github.com/hashicorp/go-hclog"

// A TextLogger leaves the keys out of a log for people that only programs need: the text of a
// record names the node, and the worker if that matters. The keys are node, worker, call,
// attempt, run, trace_id and span_id.
type TextLogger struct{ hclog.Logger }

// Log writes a record.
func (l TextLogger) Log(level hclog.Level, message string, args ...any) {
	l.Logger.Log(level, message, withoutKeys(args)...)
}

// Trace writes a record at trace level.
func (l TextLogger) Trace(message string, args ...any) { l.Log(hclog.Trace, message, args...) }

// Debug writes a record at debug level.
func (l TextLogger) Debug(message string, args ...any) { l.Log(hclog.Debug, message, args...) }

// Info writes a record at info level.
func (l TextLogger) Info(message string, args ...any) { l.Log(hclog.Info, message, args...) }

// Warn writes a record at warn level.
func (l TextLogger) Warn(message string, args ...any) { l.Log(hclog.Warn, message, args...) }

// Error writes a record at error level.
func (l TextLogger) Error(message string, args ...any) { l.Log(hclog.Error, message, args...) }

// With returns a logger that adds args to each record.
func (l TextLogger) With(args ...any) hclog.Logger {
	return TextLogger{l.Logger.With(withoutKeys(args)...)}
}

// Named returns a logger with a name added.
func (l TextLogger) Named(name string) hclog.Logger { return TextLogger{l.Logger.Named(name)} }

// ResetNamed returns a logger with another name.
func (l TextLogger) ResetNamed(name string) hclog.Logger {
	return TextLogger{l.Logger.ResetNamed(name)}
}

// withoutKeys returns keys and values without those that only programs need.
func withoutKeys(args []any) []any {
	left := make([]any, 0, len(args))
	for i := 0; i < len(args); i += 2 {
		switch args[i] {
		case "node", "worker", "call", "attempt", "run", "trace_id", "span_id":
		default:
			left = append(left, args[i:min(i+2, len(args))]...)
		}
	}
	return left
}
