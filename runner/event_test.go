package runner

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/gophersnake/gophersnake/retry"
)

func TestEventsDescribeThemselves(t *testing.T) {
	broken := errors.New("it broke")
	for want, event := range map[string]Event{
		`node "vad": worker 812 is ready after 152.35ms`:                    WorkerStarted{Node: "vad", PID: 812, Took: 152_345_678},
		`node "vad": worker 812 died: it broke`:                             WorkerDied{Node: "vad", PID: 812, Err: broken},
		`node "vad": attempt 2 failed, the next follows in 200ms: it broke`: CallRetried{Node: "vad", Attempt: 2, Delay: 200 * time.Millisecond, Err: broken},
		`node "vad": the circuit breaker is open, it was closed`:            BreakerChanged{Node: "vad", From: retry.Closed, To: retry.Open},
		`node "vad": loading the model`:                                     SetupProgress{Node: "vad", Message: "loading the model"},
		`node "vad": loading the model (50%)`:                               SetupProgress{Node: "vad", Message: "loading the model", Fraction: new(0.5)},
		`node "vad": started`:                                               NodeStarted{Node: "vad"},
		`node "vad": finished after 42ns`:                                   NodeFinished{Node: "vad", Took: 42},
		`node "vad": failed after 1.23s: it broke`:                          NodeFinished{Node: "vad", Took: 1_234_567_890, Err: broken},
	} {
		event.event()
		assert.Equal(t, want, event.String())
	}
}
