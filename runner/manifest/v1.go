package manifest

import "slices"

// v1Only are the fields that nodes have only for compatibility with v1. Messages do
// not suggest them.
var v1Only = []string{
	"is_streaming", "is_output_node", "capabilities", "runtime_hint", "execution", "host", "docker",
}

// addV1 adds the other fields that a v1 node may have. A value that asks for what
// gophersnake does anyway has no effect. A value that asks for anything else is
// rejected rather than ignored.
func (d *decoder) addV1(known fields) {
	var discarded map[string]any
	known["is_streaming"] = d.boolean(new(bool)) // the Python code determines it
	known["capabilities"] = d.values(&discarded, nil)
	known["runtime_hint"] = func(e element) {
		var runtime string
		d.text(&runtime)(e)
		if runtime != "" && runtime != "auto" && runtime != "cpython" {
			d.problem(e.path, "gophersnake runs nodes on CPython, not on %q; write cpython or leave it out", shorten(runtime))
		}
	}
	known["execution"] = d.execution
	known["is_output_node"] = func(e element) {
		var output bool
		if d.boolean(&output)(e); output {
			d.problem(e.path, "only nodes without outgoing connections produce results; leave it out and connect another node that returns this value")
		}
	}
	known["host"] = d.unsupported("gophersnake runs nodes on this machine; leave it out")
	known["docker"] = d.unsupported("gophersnake runs nodes in processes, not in containers; leave it out")
}

// placements are the placements of a v1 node that mean, or allow, this machine.
var placements = []string{"", "auto", "local", "prefer_local", "prefer_remote"}

// execution decodes the placement of a v1 node.
func (d *decoder) execution(e element) {
	var placement, reason, fallback string
	given := d.object(e, "a map such as {placement: local}", fields{
		"placement": d.anyText(&placement),
		"reason":    d.anyText(&reason),
		"fallback":  d.anyText(&fallback),
	})
	if !slices.Contains(placements, placement) {
		d.problem(given["placement"].path, "gophersnake runs nodes on this machine, not %q; write local or leave it out", shorten(placement))
	}
}

// unsupported returns a decodeFunc that rejects every value.
func (d *decoder) unsupported(message string) decodeFunc {
	return func(e element) { d.reject(e, "%s", message) }
}
