package cli

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/cmd/gophersnake/examples"
)

// microphone sends the sample of speech in frames of 20 ms, as fast as it is spoken.
type microphone struct {
	conn  *websocket.Conn
	heard chan struct{} // closed when the first sentence has arrived

	mu   sync.Mutex
	sent []time.Time // of each frame
}

const (
	frame = 20 * time.Millisecond
	// trailing is the silence at the end of a segment: half of the pause that ends it, in windows
	// of 32 ms.
	trailing = 5 * 32 * time.Millisecond
)

// speak sends samples of 16 bits at 22,050 Hz and the end of the input. After a third of
// the sample it waits until the first sentence has arrived.
func (m *microphone) speak(ctx context.Context, samples []byte) {
	ticker := time.NewTicker(frame)
	defer ticker.Stop()
	third := len(samples) * 2 / 3 // that are left
	for len(samples) > 0 {
		<-ticker.C
		if len(samples) < third {
			<-m.heard
		}
		n := min(2*22050/50, len(samples))
		if m.conn.Write(ctx, websocket.MessageBinary, samples[:n]) != nil {
			return // the reader fails, too
		}
		samples = samples[n:]
		m.mu.Lock()
		m.sent = append(m.sent, time.Now())
		m.mu.Unlock()
	}
	_ = m.conn.Write(ctx, websocket.MessageText, []byte(`{"$end": true}`))
}

// since returns the time since the frame at a time of the recording was sent.
func (m *microphone) since(at time.Duration) time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	return time.Since(m.sent[min(int(at/frame), len(m.sent)-1)])
}

// The time from the end of the speech of each sentence to its arrival is in the test's log. On
// a machine that is not busy, it is 0.16 s, half of the pause that ends a segment, and the time for
// the recognition of its words, 0.2 to 0.35 s, in which the other half passes.
func TestASentenceOfALiveWebSocketArrivesBeforeTheNextIsSpoken(t *testing.T) {
	p, url := serving(t, "speech")
	require.Eventually(t, func() bool { // the spares load their models at first
		_, text := get(t, http.DefaultClient, url+"/healthz", "*/*")
		return !strings.Contains(text, `"spares": 0`) && !strings.Contains(text, `"starting": 1`)
	}, 4*patience, 100*time.Millisecond)
	ctx, cancel := context.WithTimeout(t.Context(), 4*patience)
	defer cancel()
	conn, _, err := websocket.Dial(ctx, url+"/v1/pipelines/speech/stream?input=audio/pcm&rate=22050", nil)
	require.NoError(t, err)
	defer func() { _ = conn.CloseNow() }()
	m := &microphone{conn: conn, heard: make(chan struct{})}
	go m.speak(ctx, examples.Files("speech")["sample.wav"][44:])
	var words []string
	for {
		_, text, err := conn.Read(ctx)
		if websocket.CloseStatus(err) == websocket.StatusNormalClosure {
			break
		}
		require.NoError(t, err)
		var r struct{ Result transcribed }
		require.NoError(t, json.Unmarshal(text, &r), string(text))
		late := m.since(time.Duration(r.Result.End*float64(time.Second)) - trailing)
		t.Logf("%.2f s after the end of its speech: %s", late.Seconds(), r.Result.Text)
		if words = append(words, r.Result.Text); len(words) == 1 {
			close(m.heard)
		}
	}
	assert.Equal(t, wordsOf(sampleText()), wordsOf(strings.Join(words, " ")))
	require.NoError(t, p.Process.Signal(syscall.SIGTERM))
	_, stderr := p.rest(t)
	assert.Zero(t, p.ProcessState.ExitCode(), stderr)
}
