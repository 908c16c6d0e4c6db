package main

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"os"
	"testing"

	"github.com/gophersnake/gophersnake/runner"
)

// startModel returns a runner with the real model. The first time, it builds the environment.
func startModel(t *testing.T) *runner.Runner {
	t.Helper()
	if testing.Short() {
		t.Skip("with -short, no Python environment is built")
	}
	r, err := newRunner()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(context.Background()) })
	if err := r.Start(context.Background()); err != nil {
		if errors.Is(err, runner.KindIO) && os.Getenv("CI") == "" {
			t.Skipf("the Python environment cannot be built here: %v", err)
		}
		t.Fatalf("%+v", err)
	}
	return r
}

func TestTheModelKnowsWhatIsSimilar(t *testing.T) {
	t.Parallel()
	got := post(newService(startModel(t), forever), `{"texts": ["a cat sat on the mat", "a kitten lay on the rug", "share prices fell on Monday"]}`)
	expect(t, got, 200, "l2_supercat_256")
	var embeddings Embeddings
	if err := json.Unmarshal(got.Body.Bytes(), &embeddings); err != nil {
		t.Fatal(err)
	}
	cat, kitten, shares := embeddings.Vectors[0], embeddings.Vectors[1], embeddings.Vectors[2]
	if len(cat) != 256 || math.Abs(dot(cat, cat)-1) > 1e-4 {
		t.Errorf("%d numbers of length %v", len(cat), dot(cat, cat))
	}
	if dot(cat, kitten) < dot(cat, shares)+0.1 {
		t.Errorf("a cat is as near to a kitten, %v, as to shares, %v", dot(cat, kitten), dot(cat, shares))
	}
}

func TestTheNodesAnnotationsHold(t *testing.T) {
	t.Parallel()
	service := newService(startModel(t), forever)
	expect(t, post(service, `{"texts": []}`), 422, "input.texts: expected a list of at least 1 items")
	expect(t, post(service, `{"texts": ["a", ""]}`), 422, "input.texts[1]: expected text of at least 1 characters")
}

func dot(a, b []float32) float64 {
	var sum float64
	for i := range a {
		sum += float64(a[i]) * float64(b[i])
	}
	return sum
}
