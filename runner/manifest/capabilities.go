package manifest

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"strings"
)

// capabilities decodes what a RemoteMedia node requires of its machine. Nodes are not placed on
// machines, so this machine must have it. A required GPU is refused, because the manifest
// package does not know which ones there are.
func (d *decoder) capabilities(e element) {
	d.object(e, "a map such as {memory_gb: 2}", fields{
		"gpu":       d.optional(d.gpu),
		"cpu":       d.optional(d.cpu),
		"memory_gb": d.optional(d.memoryGB),
	})
}

// gpu decodes a requirement of a GPU.
func (d *decoder) gpu(e element) {
	var memory float64
	required := true
	given := d.object(e, "a map such as {type: cuda, required: false}", fields{
		"type":          d.optional(d.text(new(string))),
		"min_memory_gb": d.optional(d.float(&memory)),
		"required":      d.optional(d.boolean(&required)),
	})
	if given != nil && required {
		at := e.path
		if _, ok := given["required"]; ok {
			at = given["required"].path
		}
		d.problem(at, "gophersnake does not place nodes on machines yet, so that it cannot promise a GPU; write required: false for a node that looks for one itself")
	}
}

// architectures are the names of processors, as Go calls them.
var architectures = map[string]string{"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}

// cpu decodes requirements of the processors, and compares them with those of this machine.
func (d *decoder) cpu(e element) {
	var cores int
	var arch string
	given := d.object(e, "a map such as {cores: 2}", fields{
		"cores": d.optional(d.integer(&cores)),
		"arch":  d.optional(d.text(&arch)),
	})
	if cores > runtime.NumCPU() {
		d.problem(given["cores"].path, "this machine has %d, and gophersnake does not place nodes on other machines yet", runtime.NumCPU())
	}
	name := strings.ToLower(arch)
	if known := architectures[name]; known != "" {
		name = known
	}
	if arch != "" && name != runtime.GOARCH {
		d.problem(given["arch"].path, "this machine is %s, and gophersnake does not place nodes on other machines yet", runtime.GOARCH)
	}
}

// memoryGB decodes a requirement of memory, and compares it with that of this machine.
func (d *decoder) memoryGB(e element) {
	var required float64
	d.float(&required)(e)
	if has := machineMemory(); has > 0 && required*1e9 > has {
		d.problem(e.path, "this machine has %.1f GB, and gophersnake does not place nodes on other machines yet", has/1e9)
	}
}

// machineMemory returns the memory of this machine in bytes, 0 if it is unknown.
func machineMemory() float64 {
	info, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0
	}
	var kilobytes float64
	for line := range bytes.Lines(info) {
		if _, err := fmt.Sscanf(string(line), "MemTotal: %f kB", &kilobytes); err == nil {
			break
		}
	}
	return kilobytes * 1024
}
