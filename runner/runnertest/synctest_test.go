package runnertest_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gophersnake/gophersnake/retry"
	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/manifest"
	"github.com/gophersnake/gophersnake/runner/runnertest"
)

func TestABreakerCoolsDownInNoTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		embed := runnertest.NewNode(runnertest.Return("fine")).On(1, runnertest.Raise("ValueError", "")).On(2, runnertest.Raise("ValueError", ""))
		p := patient()
		p.Nodes[0].Retry = &manifest.Retry{Mode: manifest.RetryNone}
		r, err := runner.New(p, runner.WithNode("Embed", embed.Func))
		require.NoError(t, err)
		defer r.Close(context.Background())
		for range 2 {
			_, err = r.Run(t.Context(), nil)
			require.ErrorIs(t, err, runner.KindExecution)
		}
		_, err = r.Run(t.Context(), nil)
		require.ErrorIs(t, err, retry.ErrOpen)
		time.Sleep(time.Hour)
		got, err := r.Run(t.Context(), nil)
		require.NoError(t, err)
		assert.Equal(t, "fine", got)
	})
}

func TestATimeoutOfTheCallerEndsANodeThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		embed := runnertest.NewNode(runnertest.Hang())
		r, err := runner.New(patient(), runner.WithNode("Embed", embed.Func))
		require.NoError(t, err)
		defer r.Close(context.Background())
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		_, err = runner.Call[string, string](ctx, r, "x")
		require.ErrorIs(t, err, context.DeadlineExceeded)

		s, err := runner.OpenStream[string, string](ctx, r)
		require.Error(t, err)
		require.Nil(t, s)
		s, err = runner.OpenStream[string, string](t.Context(), r)
		require.NoError(t, err)
		require.NoError(t, s.Send("x"))
		<-embed.Began(2)
		require.NoError(t, s.Close())
	})
}
