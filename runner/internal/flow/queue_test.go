package flow

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

// filled returns a queue for two items with one value of the given size.
func filled(size int64) *queue {
	q := newQueue(nil, nil, 2, 100)
	q.fill(q.reserve(0), Value{Native: "v"}, size)
	return q
}

func TestAQueueIsBoundedByItems(t *testing.T) {
	q := filled(1)
	assert.True(t, haveRoom([]*queue{q}, 1))
	second := q.reserve(1)
	assert.False(t, haveRoom([]*queue{q}, 1))
	_, size := q.pop()
	assert.False(t, q.isReady(), "the second one is reserved")
	assert.False(t, haveRoom([]*queue{q}, 1), "the consumer still uses the first one")
	q.done(size)
	assert.True(t, haveRoom([]*queue{q}, 1))
	q.fill(second, Value{}, 1)
	assert.True(t, q.isReady())
	assert.Equal(t, 2, q.produced)
}

func TestAQueueIsBoundedByBytes(t *testing.T) {
	q := filled(60)
	assert.True(t, haveRoom([]*queue{q}, 40))
	assert.False(t, haveRoom([]*queue{q}, 41))
	assert.False(t, haveRoom([]*queue{newQueue(nil, nil, 2, 100), q}, 41), "each has to have room")
	_, size := q.pop()
	q.done(size)
	assert.True(t, haveRoom([]*queue{q}, 1000), "an empty queue takes any item")
}

func TestAFaultNeedsNoRoom(t *testing.T) {
	q := filled(1)
	q.reserve(1)
	q.fail(q.reserve(0), errBad)
	assert.False(t, q.isFaulty())
	q.pop()
	assert.Equal(t, 0, q.ready(), "the second item is not filled")
	q.fill(q.front(), Value{}, 1)
	assert.Equal(t, 2, q.ready())
	q.pop()
	assert.True(t, q.isFaulty())
	q.discard(q.ready())
	assert.True(t, q.isFaulty())
	q.discard(0)
	q.closed = true
	assert.True(t, q.isOver())
}
