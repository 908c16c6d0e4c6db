package session

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestASessionEndsWithItsTimeOrWhenItIsClosed(t *testing.T) {
	var s Store
	now := time.Now()
	first, second := s.Open(Sum{1}, now), s.Open(Sum{2}, now)
	isOpen := func(id string, at time.Time) bool {
		_, ok := s.Owner(id, at)
		return ok
	}
	assert.NotEqual(t, first, second)
	owner, _ := s.Owner(first, now)
	assert.Equal(t, Sum{1}, owner)
	assert.True(t, isOpen(second, now.Add(Age-1)))
	assert.False(t, isOpen(second, now.Add(Age)))
	assert.False(t, isOpen("", now))
	s.Close(first)
	assert.False(t, isOpen(first, now))
	assert.Zero(t, s.byAge.Len())
}

func TestTheOldestSessionMakesRoom(t *testing.T) {
	var s Store
	now := time.Now()
	first := s.Open(Sum{1}, now)
	var last string
	for range mostSessions {
		last = s.Open(Sum{2}, now)
	}
	_, ok := s.Owner(first, now)
	assert.False(t, ok)
	_, ok = s.Owner(last, now)
	assert.True(t, ok)
	assert.Len(t, s.sessions, mostSessions)
	s.Open(Sum{1}, now.Add(Age))
	assert.Len(t, s.sessions, 1, "those that are over are forgotten")
}
