package monitor

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/runner"
)

func TestQuantilesAreExactToOneBucket(t *testing.T) {
	var c Calls
	now := time.Unix(1_800_000_000, 0)
	for i := 1; i <= 1000; i++ {
		c.Add(now, time.Duration(i)*time.Millisecond, i%100 == 0)
	}
	all, points := c.Recent(now.Add(Span))
	assert.Equal(t, 1000, all.Calls)
	assert.Equal(t, 10, all.Failed)
	assert.InEpsilon(t, 500*time.Millisecond, all.P50, 0.07)
	assert.InEpsilon(t, 990*time.Millisecond, all.P99, 0.07)
	require.Len(t, points, Points-1)
	assert.Equal(t, 1000, points[Points-2].Calls)
	assert.Zero(t, points[0])
}

func TestEachDurationHasABucketInOrder(t *testing.T) {
	last := -1
	for d := time.Duration(1); d < 200*time.Hour; d += d/10 + 1 {
		b := bucketOf(d)
		require.GreaterOrEqual(t, b, last, d)
		require.Less(t, b, buckets)
		if d > 10*time.Microsecond && d < 30*time.Minute {
			require.InEpsilon(t, d, middleOf(b), 0.1, d)
		}
		last = b
	}
	assert.Equal(t, 0, bucketOf(-time.Second))
}

func TestCallsAreForgottenAfterAMinute(t *testing.T) {
	var c Calls
	now := time.Unix(1_800_000_000, 0)
	c.Add(now, time.Second, false)
	all, _ := c.Recent(now.Add((Points - 1) * Span))
	assert.Equal(t, 1, all.Calls)
	all, _ = c.Recent(now.Add(Points * Span))
	assert.Zero(t, all.Calls)
	c.Add(now.Add(Points*Span), time.Second, false) // in the same window
	all, _ = c.Recent(now.Add(Points * Span))
	assert.Equal(t, 1, all.Calls)
}

func TestCallsAreCountedConcurrently(t *testing.T) {
	var c Calls
	var adding sync.WaitGroup
	now := time.Unix(1_800_000_000, 0)
	for range 8 {
		adding.Go(func() {
			for i := range 1000 {
				c.Add(now.Add(time.Duration(i%3)*Span), time.Millisecond, true)
			}
		})
	}
	adding.Wait()
	all, _ := c.Recent(now.Add(3 * Span))
	assert.Equal(t, 8000, all.Calls)
	assert.Equal(t, 8000, all.Failed)
}

func TestLogsAreBounded(t *testing.T) {
	var l Logs
	for range 1000 {
		l.Add(Record{Text: strings.Repeat("é", longestRecord)})
	}
	assert.Equal(t, uint64(1000), l.Last())
	assert.LessOrEqual(t, l.bytes, mostBytes)
	all := l.After(0)
	assert.Equal(t, uint64(1000), all[len(all)-1].Number)
	assert.Equal(t, l.bytes, len(all)*len(all[0].Text))
	for range 1000 {
		l.Add(Record{Text: "a\x1b[2Jb\nc"})
	}
	assert.Len(t, l.After(0), mostRecords)
	assert.Equal(t, `a\x1b[2Jb`+"\nc", l.After(1999)[0].Text)
	assert.Empty(t, l.After(2000))
}

func TestARecordBelongsToTheNodeOfItsLogger(t *testing.T) {
	p := New(func() {})
	logger := p.Logger(hclog.NewNullLogger())
	own := logger.Named("a").With("node", "a", "worker", 7, "more", true)
	own.Named("shop").Info("hello", "node", "b", "worker", 8)
	own.Debug("not kept")
	logger.Warn("of none")
	require.Len(t, p.Node("a").Logs.After(0), 1)
	r := p.Node("a").Logs.After(0)[0]
	assert.Equal(t, Record{Number: 1, Time: r.Time, Level: "info", Source: SourceLog, Logger: "shop", Worker: 7, Text: "hello more=true node=b worker=8"}, r)
	assert.Equal(t, "of none", p.Node("").Logs.After(0)[0].Text)
	assert.Zero(t, p.Node("b").Logs.Last())
}

func BenchmarkEvent(b *testing.B) {
	p := New(func() {})
	var event runner.Event = runner.NodeFinished{Node: "n", Time: time.Now(), Took: time.Millisecond}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			p.Event(event)
		}
	})
}
