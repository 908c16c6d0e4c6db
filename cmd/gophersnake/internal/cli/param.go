package cli

import (
	"maps"
	"slices"
	"strings"

	"github.com/agnivade/levenshtein"

	"github.com/gophersnake/gophersnake/runner/manifest"
)

// setParams overrides params of nodes: each setting is NODE.KEY=VALUE, the value
// JSON, or else text. Whether a node has such a param is known when its signature
// is.
func setParams(p *manifest.Pipeline, settings []string) error {
	for _, setting := range settings {
		name, text, ok := strings.Cut(setting, "=")
		dot := strings.LastIndexByte(name, '.')
		if !ok || dot <= 0 || dot == len(name)-1 {
			return usagef("--param takes NODE.KEY=VALUE, not %q", setting)
		}
		id, key := name[:dot], name[dot+1:]
		node := p.Node(id)
		if node == nil {
			var ids []string
			for _, n := range p.Nodes {
				ids = append(ids, n.ID)
			}
			return usagef("--param %s: the pipeline has no node %q; %s", setting, id, suggest(id, ids))
		}
		value, err := parseJSON([]byte(text))
		if err != nil {
			value = text
		}
		params := maps.Clone(node.Params)
		if params == nil {
			params = make(map[string]any)
		}
		params[key] = value
		node.Params = params
	}
	return nil
}

// suggest names the nearest of the known names, or else all of them.
func suggest(name string, known []string) string {
	if near := nearest(name, known); near != "" {
		return "did you mean " + near + "?"
	}
	return "there are: " + strings.Join(slices.Sorted(slices.Values(known)), ", ")
}

// nearest is the known name that was probably meant, empty where none is near.
func nearest(name string, known []string) string {
	best, distance := "", len(name)/2+1
	for _, k := range known {
		if d := levenshtein.ComputeDistance(name, k); d < distance {
			best, distance = k, d
		}
	}
	return best
}
