package worker

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// BenchmarkStart measures the start of a worker whose node imports NumPy.
func BenchmarkStart(b *testing.B) {
	config := testConfig(b, "look")
	config.Setup.Python = "forked.py"
	config.Env = append(config.Env, "IMPORTING=numpy")
	template := NewTemplate(config)
	template.answerTimeout = long
	defer template.Close()
	for _, c := range []struct {
		name     string
		template *Template
	}{{"spawned", nil}, {"forked", template}} {
		b.Run(c.name, func(b *testing.B) {
			config := config
			config.Template = c.template
			c.template.awaitFirstStart(b.Context())
			for b.Loop() {
				w, err := Start(b.Context(), config)
				require.NoError(b, err)
				b.StopTimer()
				w.Kill()
				b.StartTimer()
			}
			require.Empty(b, c.template.Note())
		})
	}
}
