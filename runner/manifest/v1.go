package manifest

import "slices"

// v1Only are the fields that nodes have for the sake of v1. They are not offered to
// those who write a pipeline.
var v1Only = []string{
	"is_streaming", "is_output_node", "capabilities", "runtime_hint", "execution", "host", "docker",
}

// addV1 adds the further fields that nodes have in v1. Those that gophersnake
// satisfies as it is are taken and have no effect; those that ask for what it does
// not do are refused, rather than ignored.
func (d *decoder) addV1(known fields) {
	var discarded map[string]any
	known["is_streaming"] = d.flag(new(bool)) // the Python code itself says so
	known["capabilities"] = d.values(&discarded)
	known["runtime_hint"] = func(at place) {
		var runtime string
		d.text(&runtime)(at)
		if runtime != "" && runtime != "auto" && runtime != "cpython" {
			d.at(at.path, "gophersnake runs nodes on CPython, not on %q; write cpython or leave it out", shorten(runtime))
		}
	}
	known["execution"] = d.execution
	known["is_output_node"] = func(at place) {
		var output bool
		if d.flag(&output)(at); output {
			d.at(at.path, "only nodes without outgoing connections give results; leave it out and connect a further node that gives this value")
		}
	}
	known["host"] = d.refuse("gophersnake runs nodes on this machine; leave it out")
	known["docker"] = d.refuse("gophersnake runs nodes in processes, not in containers; leave it out")
}

// placements are the places of execution that mean, or allow, this machine.
var placements = []string{"", "auto", "local", "prefer_local", "prefer_remote"}

// execution reads where a v1 node wants to run.
func (d *decoder) execution(at place) {
	var placement, reason, fallback string
	given := d.object(at, "a map such as {placement: local}", fields{
		"placement": d.anyText(&placement),
		"reason":    d.anyText(&reason),
		"fallback":  d.anyText(&fallback),
	})
	if !slices.Contains(placements, placement) {
		d.at(given["placement"].path, "gophersnake runs nodes on this machine, not %q; write local or leave it out", shorten(placement))
	}
}

func (d *decoder) refuse(reason string) reader {
	return func(at place) { d.fail(at, "%s", reason) }
}
