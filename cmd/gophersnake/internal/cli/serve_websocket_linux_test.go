package cli

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"math"
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
	// frameBytes is the size of a frame of samples of 16 bits at 22,050 Hz.
	frameBytes = 2 * 22050 / 50
	// loudness is the least root mean square of the samples in a frame that is a sound: -60 dBFS.
	loudness = 32768.0 / 1000
)

// lastSound returns the end of the last frame with a sound before a time of the recording.
func lastSound(samples []byte, before time.Duration) time.Duration {
	for at := int(before / frame); at > 0; at-- {
		squares := 0.0
		for i := (at - 1) * frameBytes; i < min(at*frameBytes, len(samples)); i += 2 {
			s := float64(int16(binary.LittleEndian.Uint16(samples[i:])))
			squares += s * s
		}
		if math.Sqrt(squares/(frameBytes/2)) >= loudness {
			return time.Duration(at) * frame
		}
	}
	return 0
}

// speak sends frames of samples and the end of the input. After a third of
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
		n := min(frameBytes, len(samples))
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

// since returns the time since the frame that ends at a time of the recording was sent.
func (m *microphone) since(end time.Duration) time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	return time.Since(m.sent[min(int(end/frame), len(m.sent))-1])
}

// The time from the last sound of each sentence to its arrival is in the test's log. On a machine
// that is not busy, it consists of 0.05 s until the detector hears the end, 0.16 s, half of the pause
// that ends a segment, and the time for the recognition of its words, 0.1 to 0.25 s, in which the
// other half passes.
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
	samples := examples.Files("speech")["sample.wav"][44:]
	go m.speak(ctx, samples)
	var words []string
	for {
		_, text, err := conn.Read(ctx)
		if websocket.CloseStatus(err) == websocket.StatusNormalClosure {
			break
		}
		require.NoError(t, err)
		var r struct{ Result transcribed }
		require.NoError(t, json.Unmarshal(text, &r), string(text))
		spoken := lastSound(samples, time.Duration(r.Result.End*float64(time.Second)))
		require.Positive(t, spoken)
		t.Logf("%.2f s after its last sound, at %v: %s", m.since(spoken).Seconds(), spoken, r.Result.Text)
		if words = append(words, r.Result.Text); len(words) == 1 {
			close(m.heard)
		}
	}
	assert.Equal(t, wordsOf(sampleText()), wordsOf(strings.Join(words, " ")))
	require.NoError(t, p.Process.Signal(syscall.SIGTERM))
	_, stderr := p.rest(t)
	assert.Zero(t, p.ProcessState.ExitCode(), stderr)
}
