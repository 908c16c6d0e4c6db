package manifest_test

import (
	"errors"
	"fmt"

	"github.com/gophersnake/gophersnake/runner/manifest"
)

func ExampleParse() {
	p, err := manifest.Parse("speech.yaml", []byte(`
version: v1
nodes:
  - {id: resample, node_type: Resample, params: {rate: 16000}, workers: 2}
  - {id: vad, node_type: VoiceActivity, retry: {fixed: 1s, max_attempts: 2}}
connections:
  - {from: resample, to: vad}
`), "")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(p.Name, p.Order())
	fmt.Println(p.Node("resample").Params, p.Node("resample").Workers.Max)
	fmt.Println(p.Node("vad").Retry.Mode, p.Node("vad").Retry.Base)
	// Output:
	// speech [resample vad]
	// map[rate:16000] 2
	// fixed 1s
}

// Parse reports all problems at once.
func ExampleErrors() {
	_, err := manifest.Parse("speech.yaml", []byte(`version: v1
nodes:
  - id: resample
    node_type: Resample
    timout: 30s
  - id: vad
    node_type: VoiceActivity
    timeout: 30 seconds
connections:
  - {from: resample, to: vda}
  - {from: vad, to: resample}
`), "")
	fmt.Println(err)
	var problems *manifest.Errors
	if errors.As(err, &problems) {
		first := problems.Problems[0]
		fmt.Println(first.Line, first.Path, first.Suggestion)
	}
	// Output:
	// speech.yaml:5:5: nodes[0].timout: unknown field "timout"; did you mean "timeout"?
	// speech.yaml:8:14: nodes[1].timeout: must be a duration such as 500ms, 30s or 5m (a plain number is seconds), or none, not "30 seconds"
	// speech.yaml:10:26: connections[0].to: there is no node "vda"; did you mean "vad"?
	// 5 nodes[0].timout timeout
}

// A pipeline can be made in Go code.
func ExamplePipeline_Validate() {
	p := &manifest.Pipeline{
		Version: manifest.Version,
		Nodes:   []manifest.Node{manifest.NewNode("a", "A"), manifest.NewNode("b", "B")},
		Connections: []manifest.Connection{
			{From: "a", To: "b"},
			{From: "b", To: "a"},
		},
	}
	fmt.Println(p.Validate())
	// Output:
	// connections[1]: closes a cycle: a → b → a (connections[0], connections[1])
}

func ExamplePipeline_Graph() {
	p, err := manifest.Load("testdata/valid/full.yaml")
	if err != nil {
		fmt.Println(err)
		return
	}
	g := p.Graph()
	fmt.Println(g.Order(), g.Sources(), g.Sinks())
	for _, c := range g.Inputs("mix") {
		fmt.Println(c.From, "→", c.To, c.Port)
	}
	// Output:
	// [resample left right mix] [resample] [mix]
	// left → mix left
	// right → mix right
}
