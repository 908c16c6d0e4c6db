package telemetry

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/log"
	"go.opentelemetry.io/otel/trace"
)

// The bounds of what a record keeps in the queue, since nodes write records, too.
const (
	mostMessage    = 8 << 10 // bytes of the message
	mostAttributes = 32
	mostValue      = 1 << 10 // bytes of an attribute
)

// Logger returns a logger for [runner.WithLogger] that writes to another one, and sends the same
// records. Those that Python nodes write in traced calls belong to the spans of the calls.
func (t *Telemetry) Logger(next hclog.Logger) hclog.Logger {
	level := next.GetLevel()
	bridge := hclog.NewInterceptLogger(&hclog.LoggerOptions{Output: io.Discard, Level: level})
	bridge.RegisterSink(nextSink{next, level})
	bridge.RegisterSink(logSink{t.logs.Logger("github.com/gophersnake/gophersnake/runner/telemetry"), level})
	return bridge
}

// nextSink passes records on to a logger.
type nextSink struct {
	next  hclog.Logger
	level hclog.Level
}

// Accept implements [hclog.SinkAdapter].
func (s nextSink) Accept(name string, level hclog.Level, msg string, args ...any) {
	if level < s.level {
		return
	}
	to := s.next
	if name != "" {
		to = to.Named(name)
	}
	to.Log(level, msg, args...)
}

// logSink sends records of hclog.
type logSink struct {
	logger log.Logger
	level  hclog.Level
}

// severities are the severities of hclog's levels.
var severities = map[hclog.Level]log.Severity{
	hclog.Trace: log.SeverityTrace, hclog.Debug: log.SeverityDebug, hclog.Info: log.SeverityInfo,
	hclog.Warn: log.SeverityWarn, hclog.Error: log.SeverityError,
}

// Accept implements [hclog.SinkAdapter].
func (s logSink) Accept(name string, level hclog.Level, msg string, args ...any) {
	if level < s.level {
		return
	}
	var record log.Record
	record.SetTimestamp(time.Now())
	record.SetSeverity(severities[level])
	record.SetSeverityText(level.String())
	record.SetBody(attribute.StringValue(strings.ToValidUTF8(msg[:min(len(msg), mostMessage)], "")))
	if name != "" {
		record.AddAttributes(attribute.String("logger", name))
	}
	var sc trace.SpanContextConfig
	for i := 0; i+1 < len(args); i += 2 {
		key, value := fmt.Sprint(args[i]), args[i+1]
		switch text, _ := value.(string); key {
		case "trace_id":
			sc.TraceID, _ = trace.TraceIDFromHex(text)
		case "span_id":
			sc.SpanID, _ = trace.SpanIDFromHex(text)
		default:
			record.AddAttributes(attribute.KeyValue{Key: attribute.Key(key), Value: valueOf(value)})
		}
	}
	s.logger.Emit(trace.ContextWithSpanContext(context.Background(), trace.NewSpanContext(sc)), record)
}

// valueOf returns a value of a record.
func valueOf(v any) attribute.Value {
	switch v := v.(type) {
	case string:
		return attribute.StringValue(v)
	case bool:
		return attribute.BoolValue(v)
	case int:
		return attribute.IntValue(v)
	case int64:
		return attribute.Int64Value(v)
	case uint64:
		return attribute.Int64Value(int64(v))
	case float64:
		return attribute.Float64Value(v)
	case hclog.Format:
		if len(v) > 0 {
			return attribute.StringValue(fmt.Sprintf(fmt.Sprint(v[0]), v[1:]...))
		}
	}
	return attribute.StringValue(fmt.Sprint(v))
}
