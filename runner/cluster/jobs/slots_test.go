package jobs

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// quickRuns makes runs that take no time, each of whose jobs took a time to take.
func quickRuns(t *testing.T, s *slots, took time.Duration) {
	t.Helper()
	for range 100 {
		s.take()
		begun, err := s.enter(t.Context(), time.Now().Add(-took))
		require.NoError(t, err)
		s.leave(begun)
		s.end(true)
	}
}

func TestAJobHasItsSlotOnlyWhileItRuns(t *testing.T) {
	t.Parallel()
	s := newSlots(2)
	assert.Equal(t, 2, s.room(5))
	assert.Equal(t, 1, s.room(1), "other calls have a worker")
	s.take()
	assert.Equal(t, 1, s.room(5))
	assert.Equal(t, 0, s.room(1), "the job that is taken needs that worker")
	begun, err := s.enter(t.Context(), time.Now())
	require.NoError(t, err)
	assert.Equal(t, 1, s.room(5))
	s.leave(begun.Add(-time.Hour))
	assert.Equal(t, 2, s.room(5), "while the outcome is stored")
	s.end(true)
	assert.Equal(t, 2, s.room(5))
	s.take()
	s.end(false)
	assert.Equal(t, 2, s.room(5), "a job that has not run")
}

func TestAMachineStoresABoundedNumberOfOutcomes(t *testing.T) {
	t.Parallel()
	s := newSlots(1)
	for range mostAhead + 1 {
		assert.Equal(t, 1, s.room(1))
		s.take()
		begun, err := s.enter(t.Context(), time.Now())
		require.NoError(t, err)
		s.leave(begun.Add(-time.Hour))
	}
	assert.Equal(t, 0, s.room(1))
	s.end(true)
	assert.Equal(t, 1, s.room(1))
}

func TestJobsAreTakenForBusyWorkersOnlyIfRunsAreShort(t *testing.T) {
	t.Parallel()
	s := newSlots(1)
	quickRuns(t, s, earlyTime)
	s.take()
	begun, err := s.enter(t.Context(), time.Now())
	require.NoError(t, err)
	assert.Equal(t, mostAhead, s.room(0))
	s.leave(begun.Add(-time.Minute)) // a slow run counts at once
	s.end(true)
	assert.Equal(t, 0, s.room(0))
	assert.Equal(t, 1, s.room(1))
}

func TestAJobThatIsTakenTooEarlyIsGivenBack(t *testing.T) {
	t.Parallel()
	s := newSlots(1)
	quickRuns(t, s, earlyTime)
	s.take()
	begun, err := s.enter(t.Context(), time.Now())
	require.NoError(t, err)
	s.take()
	_, err = s.enter(t.Context(), time.Now())
	require.ErrorIs(t, err, errEarly)
	s.end(false)
	assert.Equal(t, 0, s.room(0), "no further job is taken early while the run goes on")
	gone, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("the machine is closed")
	cancel(cause)
	s.take()
	_, err = s.enter(gone, time.Now())
	require.ErrorIs(t, err, cause)
	s.end(false)
	s.leave(begun)
	s.end(true)
	quickRuns(t, s, earlyTime)
	assert.Positive(t, s.room(0))
}
