package runner_test

import (
	"encoding/json"
	"log/slog"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/runner"
)

// records are the records that a JSON handler wrote.
func records(t *testing.T, text *lockedBuffer) (all []map[string]any) {
	t.Helper()
	for line := range strings.Lines(text.String()) {
		var record map[string]any
		require.NoError(t, json.Unmarshal([]byte(line), &record))
		all = append(all, record)
	}
	return all
}

func TestWhatANodeLogsReachesSlogWithItsFields(t *testing.T) {
	t.Parallel()
	for level, wanted := range map[slog.Level]bool{slog.LevelInfo: true, slog.LevelWarn: true, slog.LevelError: false} {
		var text lockedBuffer
		handler := slog.NewJSONHandler(&text, &slog.HandlerOptions{Level: level}).WithAttrs([]slog.Attr{slog.String("service", "shop")})
		r := start(t, single("noisy"), runner.WithSlog(slog.New(handler)))
		_, err := r.Run(t.Context(), "logging")
		require.NoError(t, err)
		require.NoError(t, r.Close(t.Context()))
		found := false
		for _, record := range records(t, &text) {
			if record["msg"] == "loaded 3 layers" {
				found = true
				for key, want := range map[string]any{"level": "WARN", "logger": "noisy.model", "service": "shop", "layers": 3.0} {
					assert.Equal(t, want, record[key], key)
				}
			}
		}
		assert.Equal(t, wanted, found, text.String())
	}
	_, err := load(t, single("echo"), runner.WithSlog(nil))
	assert.ErrorIs(t, err, runner.KindManifest)
}
