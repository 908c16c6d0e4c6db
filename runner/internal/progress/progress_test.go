package progress_test

import (
	"context"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner/internal/progress"
)

// recorder notes reports with the time since it was made.
type recorder struct {
	began time.Time
	mu    sync.Mutex
	all   []string
}

func (r *recorder) note(p progress.Report) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, fmt.Sprintf("%v %s: %s", time.Since(r.began), p.Node, p.Message))
}

func TestTheLatestReportOfEachNodePassesAtABoundedRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := recorder{began: time.Now()}
		ctx, stop := progress.With(t.Context(), r.note)
		a, b := progress.Hook(ctx, &ipc.Setup{Node: "a"}), progress.Hook(ctx, &ipc.Setup{Node: "b"})
		a(ipc.Progress{Message: "0"})
		synctest.Wait() // the first one passes at once
		time.Sleep(time.Millisecond / 8)
		for i := range 1000 {
			a(ipc.Progress{Message: fmt.Sprint("a", i)})
			b(ipc.Progress{Message: fmt.Sprint("b", i)})
			time.Sleep(time.Millisecond / 4) // of fake time
		}
		stop()
		assert.Equal(t, []string{
			"0s a: 0", "100ms a: a399", "100ms b: b399", "200ms a: a799", "200ms b: b799", "250.125ms a: a999", "250.125ms b: b999",
		}, r.all)
		a(ipc.Progress{Message: "after the end"})
		stop()
		synctest.Wait()
		assert.Len(t, r.all, 7)
	})
}

func TestAReportAfterAPausePassesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := recorder{began: time.Now()}
		ctx, stop := progress.With(t.Context(), r.note)
		defer stop()
		for range 3 {
			progress.Of(ctx).Add(progress.Report{Node: "n", Message: "m"})
			synctest.Wait()
			time.Sleep(time.Second)
		}
		assert.Equal(t, []string{"0s n: m", "1s n: m", "2s n: m"}, r.all)
	})
}

func TestASlowFunctionDelaysNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		taken, leave := make(chan string, 10), make(chan struct{})
		ctx, stop := progress.With(t.Context(), func(p progress.Report) {
			taken <- p.Message
			<-leave
		})
		for i := range 100 {
			progress.Of(ctx).Add(progress.Report{Message: fmt.Sprint(i)})
			if i == 0 {
				synctest.Wait()
			}
		}
		synctest.Wait()
		close(leave)
		stop()
		assert.Equal(t, []string{"0", "99"}, []string{<-taken, <-taken})
		assert.Empty(t, taken)
	})
}

func TestAnOuterContextGetsTheReportsAsWell(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var outer, inner recorder
		ctx, stopOuter := progress.With(t.Context(), outer.note)
		within, stopInner := progress.With(ctx, inner.note)
		hook := progress.Hook(within, &ipc.Setup{Node: "n"})
		hook(ipc.Progress{})
		stopInner()
		hook(ipc.Progress{})
		stopOuter()
		assert.Len(t, inner.all, 1)
		assert.NotEmpty(t, outer.all)
	})
}

func TestTheNodesOfAnotherMachineAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r recorder
		ctx, stop := progress.With(t.Context(), r.note)
		progress.Of(ctx).Add(progress.Report{Node: "first"})
		synctest.Wait()
		for i := range 2000 {
			progress.Of(ctx).Add(progress.Report{Node: fmt.Sprint(i)})
		}
		stop()
		assert.Len(t, r.all, 1+1024)
	})
}

func TestAReportIsBroughtWithinItsBounds(t *testing.T) {
	for fraction, want := range map[float64]*float64{-1: new(0.0), 0.5: new(0.5), math.Inf(1): new(1.0), math.NaN(): nil} {
		var got progress.Report
		ctx, stop := progress.With(t.Context(), func(r progress.Report) { got = r })
		progress.Of(ctx).Add(progress.Report{Node: strings.Repeat("n", 1<<20), Message: strings.Repeat("ö", 1<<20) + "\xff", Fraction: &fraction})
		stop()
		assert.Equal(t, want, got.Fraction)
		assert.Len(t, got.Node, ipc.MaxName)
		assert.Len(t, got.Message, ipc.MaxText)
	}
}

func TestWithoutAFunctionThereIsNothing(t *testing.T) {
	ctx := context.Background()
	assert.Nil(t, progress.Hook(ctx, &ipc.Setup{Node: "n"}))
	assert.Equal(t, ctx, progress.Within(ctx, "n"))
	progress.Of(ctx).Add(progress.Report{}) // dropped
	setup := ipc.Setup{Node: "n"}
	assert.Zero(t, testing.AllocsPerRun(100, func() { progress.Hook(ctx, &setup) }))
}
