package runner

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestSlogLevelsNamesAndArgumentsCorrespond(t *testing.T) {
	t.Parallel()
	bridge := func(handler slog.Handler) hclog.Logger {
		o, err := newOptions([]Option{WithSlog(slog.New(handler))})
		require.NoError(t, err)
		return o.logger
	}
	var text bytes.Buffer
	logger := bridge(slog.NewJSONHandler(&text, &slog.HandlerOptions{Level: slog.LevelDebug - 4}))
	assert.True(t, logger.IsTrace())
	part := logger.Named("pool").Named("embed").With("pid", 7)
	part.Trace("t")
	part.Debug("d", "a", 1, "b")
	part.Info("i", 3, "x", "f", hclog.Fmt("%d/%d", 1, 2))
	part.Warn("w")
	part.Error("e", "error", assert.AnError)
	logger.Log(hclog.NoLevel, "n")
	want := `{"level":"DEBUG-4","msg":"t","logger":"pool.embed","pid":7}
{"level":"DEBUG","msg":"d","logger":"pool.embed","pid":7,"a":1,"EXTRA_VALUE_AT_END":"b"}
{"level":"INFO","msg":"i","logger":"pool.embed","pid":7,"3":"x","f":"1/2"}
{"level":"WARN","msg":"w","logger":"pool.embed","pid":7}
{"level":"ERROR","msg":"e","logger":"pool.embed","pid":7,"error":"assert.AnError general error for testing"}
{"level":"INFO","msg":"n"}
`
	lines := ""
	for line := range strings.Lines(text.String()) {
		_, rest, _ := strings.Cut(line, ",")
		lines += "{" + rest
	}
	assert.Equal(t, want, lines)
	off := bridge(slog.DiscardHandler)
	assert.Equal(t, hclog.Off, off.GetLevel())
}
