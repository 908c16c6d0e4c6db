package ipc

import (
	"encoding/json"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A worker may claim anything about its node. No claim is believed that would make the
// supervisor allocate memory, compute a wrong number or wait.
func TestADescriptionBeyondItsBoundsIsRefused(t *testing.T) {
	long := strings.Repeat("x", MaxDoc+1)
	for name, c := range map[string]struct {
		change func(*Description)
		says   string
	}{
		"batch of 2^40":        {func(d *Description) { d.Batch = 1 << 40 }, "batch is 1099511627776, not from 0 to 4096"},
		"batch of 2^61":        {func(d *Description) { d.Batch = 1 << 61 }, "batch is 2305843009213693952, not from 0 to 4096"},
		"batch of 2^62":        {func(d *Description) { d.Batch = 1 << 62 }, "batch is 4611686018427387904, not from 0 to 4096"},
		"batch just above":     {func(d *Description) { d.Batch = MaxAtOnce + 1 }, "batch is 4097, not from 0 to 4096"},
		"negative batch":       {func(d *Description) { d.Batch = -1 }, "batch is -1, not from 0 to 4096"},
		"concurrency":          {func(d *Description) { d.Concurrency = math.MaxInt }, "concurrency is 9223372036854775807, not from 0 to 4096"},
		"negative concurrency": {func(d *Description) { d.Concurrency = math.MinInt }, "concurrency is -9223372036854775808"},
		"wait":                 {func(d *Description) { d.MaxWait = 60.001 }, "max_wait is 60.001, not from 0 to 60"},
		"negative wait":        {func(d *Description) { d.MaxWait = -1 }, "max_wait is -1"},
		"no wait":              {func(d *Description) { d.MaxWait = math.NaN() }, "max_wait is NaN"},
		"endless wait":         {func(d *Description) { d.MaxWait = math.Inf(1) }, "max_wait is +Inf"},
		"line":                 {func(d *Description) { d.Line = -1 }, "line is -1"},
		"params":               {func(d *Description) { d.Params = make([]Parameter, MaxParameters+1) }, "the number of params is 1025, not from 0 to 1024"},
		"inputs":               {func(d *Description) { d.Inputs = make([]Parameter, MaxParameters+1) }, "the number of inputs is 1025, not from 0 to 1024"},
		"name":                 {func(d *Description) { d.Name = long }, "name has 65537 bytes, more than 1024"},
		"kind":                 {func(d *Description) { d.Kind = long }, "kind has 65537 bytes"},
		"node kind":            {func(d *Description) { d.NodeKind = long }, "node_kind has 65537 bytes"},
		"doc":                  {func(d *Description) { d.Doc = long }, "doc has 65537 bytes, more than 65536"},
		"file":                 {func(d *Description) { d.File = long }, "file has 65537 bytes, more than 8192"},
		"returns":              {func(d *Description) { d.Returns = long }, "returns has 65537 bytes"},
		"python":               {func(d *Description) { d.Python = long }, "python has 65537 bytes"},
		"package":              {func(d *Description) { d.Package = long }, "package has 65537 bytes"},
		"name of a parameter":  {func(d *Description) { d.Params = []Parameter{{}, {Name: long}} }, "the name of a parameter has 65537 bytes"},
		"annotation":           {func(d *Description) { d.Inputs = []Parameter{{Annotation: long}} }, "the annotation of a parameter has 65537 bytes"},
		"default":              {func(d *Description) { d.Params = []Parameter{{Default: &long}} }, "the default of a parameter has 65537 bytes"},
		"long schema":          {func(d *Description) { d.Output = schemaOf(MaxSchema - 8) }, "the size of a schema is 65537, not from 0 to 65536"},
		"long schemas": {func(d *Description) {
			d.Params = make([]Parameter, 20)
			for i := range d.Params {
				d.Params[i].Schema = schemaOf(MaxSchema - 9)
			}
		}, "the size of all schemas is 1310720, not from 0 to 1048576"},
		"deep schema":        {func(d *Description) { d.Output = nestedSchema(MaxSchemaDepth + 1) }, "the depth of a schema is 65, not from 0 to 64"},
		"schema of a param":  {func(d *Description) { d.Params = []Parameter{{Schema: Schema(`{"type":`)}} }, `the schema "{\"type\":" is not a JSON object`},
		"schema of an input": {func(d *Description) { d.Inputs = []Parameter{{Schema: Schema(`[]`)}} }, `the schema "[]" is not a JSON object`},
		"two schemas":        {func(d *Description) { d.Output = Schema(`{}{}`) }, `the schema "{}{}" is not a JSON object`},
	} {
		t.Run(name, func(t *testing.T) {
			d := Description{Name: "echo"}
			require.NoError(t, d.Check())
			c.change(&d)
			host, worker := socketPair(t)
			p := &peer{t: t, nc: worker, frameReader: newFrameReader(worker, DefaultLimits())}
			go func() {
				p.send(frameHello, 0, pack(t, Hello{Protocol: Version}))
				assert.Equal(t, frameSetup, p.take().kind)
				p.send(frameReady, 0, pack(t, d))
			}()
			_, _, _, err := Start(host, nil, Setup{Limits: SetupLimits{Limits: DefaultLimits()}}, Events{})
			var protocol *ProtocolError
			require.ErrorAs(t, err, &protocol)
			assert.ErrorContains(t, err, "the description of the node: "+c.says)
		})
	}
}

func TestADescriptionAtItsBoundsIsTaken(t *testing.T) {
	doc, text, name := strings.Repeat("x", MaxDoc), strings.Repeat("x", MaxText), strings.Repeat("x", MaxName)
	d := Description{Name: name, Doc: doc, File: text, Line: math.MaxInt32, Returns: text,
		Params: make([]Parameter, MaxParameters), Inputs: []Parameter{{Name: name, Annotation: text, Default: &text}},
		Concurrency: MaxAtOnce, Batch: MaxAtOnce, MaxWait: MaxBatchWait.Seconds(), Output: schemaOf(MaxSchema - 9)}
	d.Inputs[0].Schema = nestedSchema(MaxSchemaDepth)
	d.Params[0].Schema = Schema(`{"title":"[[[[\"[[[["}`)
	assert.NoError(t, d.Check())
}

// schemaOf returns a schema with a title of a number of bytes.
func schemaOf(title int) Schema {
	return Schema(`{"t":"` + strings.Repeat("x", title+1) + `"}`)
}

// nestedSchema returns a schema of a number of levels.
func nestedSchema(levels int) Schema {
	return Schema(strings.Repeat(`{"a":`, levels-1) + `{}` + strings.Repeat(`}`, levels-1))
}

func TestASchemaIsPartOfAJSONDocument(t *testing.T) {
	text, err := json.Marshal(Description{Output: Schema(`{"type":"string"}`), Inputs: []Parameter{{}}})
	require.NoError(t, err)
	assert.Contains(t, string(text), `"output":{"type":"string"}`)
	var d Description
	require.NoError(t, json.Unmarshal(text, &d))
	assert.JSONEq(t, `{"type":"string"}`, string(d.Output))
	assert.NoError(t, d.Check())
}

func TestAHelloBeyondItsBoundsIsRefused(t *testing.T) {
	for _, h := range []Hello{{PID: -1}, {PID: maxPID + 1}, {Package: strings.Repeat("x", MaxName+1)}} {
		assert.ErrorContains(t, h.check(), "the hello message: ")
	}
}

func TestRecordsAndProgressAreBroughtWithinTheirBounds(t *testing.T) {
	logs, messages := make(chan LogRecord, 1), make(chan Progress, 2)
	_, p := connect(t, Events{
		Log:      func(r LogRecord, _ *Trace) { logs <- r },
		Progress: func(p Progress) { messages <- p },
	})
	<-messages // that of connect
	for level, want := range map[string]string{"off": "info", "": "info", "OFF": "info", "fatal": "info", "error": "error", "trace": "trace"} {
		p.send(frameLog, 0, pack(t, LogRecord{Level: level, Logger: strings.Repeat("ö", MaxName), Message: strings.Repeat("x", 2*MaxMessage), Fields: map[string]any{"a": "b"}}))
		r := <-logs
		assert.Equal(t, want, r.Level)
		assert.Len(t, r.Message, MaxMessage)
		assert.Equal(t, map[string]any{"a": "b"}, r.Fields)
		assert.Equal(t, strings.Repeat("ö", MaxName/2), r.Logger)
	}
	p.send(frameLog, 0, pack(t, LogRecord{Fields: map[string]any{"a": strings.Repeat("x", maxRecord)}}))
	assert.Regexp(t, `the fields of a record of \d+ bytes`, (<-logs).Fields["left_out"])
	for claimed, want := range map[float64]float64{-1: 0, 0.5: 0.5, 1e300: 1, math.Inf(1): 1, math.Inf(-1): 0} {
		p.send(frameProgress, 0, pack(t, Progress{Message: strings.Repeat("x", 2*MaxText), Fraction: &claimed}))
		got := <-messages
		assert.Equal(t, want, *got.Fraction)
		assert.Len(t, got.Message, MaxText)
	}
	p.send(frameProgress, 0, pack(t, Progress{Fraction: new(math.NaN())}))
	assert.Nil(t, (<-messages).Fraction)
}

func TestTheTextsOfAFailureAreBroughtWithinTheirBounds(t *testing.T) {
	long := strings.Repeat("x", 2*MaxMessage)
	deep := &Exception{}
	for range 2 * maxCauses {
		deep = &Exception{Class: long, Message: long[:10], Cause: deep}
	}
	deep.Message, deep.Notes, deep.Frames = long, make([]string, 1000), make([]TracebackFrame, 1000)
	deep.Notes[0], deep.Frames[999] = long, TracebackFrame{File: long, Function: long, Source: long}
	e := &RemoteError{Kind: FailureExecution, Exception: *deep, Text: long, Path: long, Hint: long, Stage: StageCall}
	e.bound()
	assert.Equal(t, FailureExecution, e.Kind)
	assert.Equal(t, StageCall, e.Stage)
	for _, text := range []string{e.Text, e.Path, e.Hint, e.Message, e.Notes[0]} {
		assert.Len(t, text, MaxMessage)
	}
	assert.Len(t, e.Notes, maxNotes)
	assert.Len(t, e.Frames, maxFrames)
	innermost := e.Frames[maxFrames-1]
	for _, text := range []string{innermost.File, innermost.Function, innermost.Source} {
		assert.Len(t, text, MaxText)
	}
	causes := 0
	for each := e.Cause; each != nil; each = each.Cause {
		assert.Len(t, each.Class, MaxName)
		causes++
	}
	assert.Equal(t, maxCauses, causes)

	short := &RemoteError{Kind: FailureExecution, Exception: Exception{Class: "E", Message: "m", Cause: &Exception{Class: "F"}}}
	same := *short
	short.bound()
	assert.Equal(t, &same, short)
}
