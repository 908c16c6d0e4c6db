package manifest

import (
	"path"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Container says that the workers of a node run in a container, whose image has their
// interpreter and their packages.
type Container struct {
	// Image is the name of the image, as podman takes it.
	Image string
	// Python is the interpreter in the image: a path or a command.
	Python string
	// Network gives the container a network of its own.
	Network bool
	// Memory, CPUs and SharedMemory limit what the container uses; 0 means podman's default.
	// Memory and SharedMemory, the size of /dev/shm, are in bytes.
	Memory, SharedMemory int64
	CPUs                 float64
	// Mounts are files and folders of the host, in addition to the pipeline's folder.
	Mounts []Mount
}

// Mount is a file or a folder of the host in a container.
type Mount struct {
	// Host is its path on the host; a relative one is in the pipeline's folder. Path is the
	// absolute one in the container.
	Host, Path string
	// Write lets the container change it.
	Write bool
}

// defaultPython is the interpreter in an image.
const defaultPython = "python3"

// container returns a decodeFunc for a container: an image, or a map.
func (d *decoder) container(dst **Container) decodeFunc {
	return func(e element) {
		c := &Container{Python: defaultPython}
		*dst = c
		if resolved, ok := d.resolve(e); ok && resolved.node.Kind == yaml.ScalarNode {
			d.text(&c.Image)(e)
			return
		}
		d.object(e, "an image such as python:3.12, or a map such as {image: python:3.12, network: true}", fields{
			"image":         d.text(&c.Image),
			"python":        d.text(&c.Python),
			"network":       d.boolean(&c.Network),
			"memory":        d.memory(&c.Memory),
			"cpus":          d.cpus(&c.CPUs),
			"shared_memory": notZero(d, &c.SharedMemory, d.size(&c.SharedMemory), "must be at least 1 byte"),
			"mounts": d.list(func(_ int, e element) {
				var m Mount
				d.object(e, "a map such as {host: models, path: /models}", fields{
					"host": d.text(&m.Host), "path": d.text(&m.Path), "write": d.boolean(&m.Write),
				})
				c.Mounts = append(c.Mounts, m)
			}),
		})
	}
}

const noBuild = "gophersnake builds no images; name one that has them in base_image, and leave them out"

// docker returns a decodeFunc for RemoteMedia's form of a container.
func (d *decoder) docker(n *Node) decodeFunc {
	return func(e element) {
		c := &Container{Python: defaultPython}
		var version string
		env := make(map[string]string)
		limits := d.dockerLimits(c)
		known := fields{
			"python_version":      d.optional(d.pythonVersion(&version)),
			"base_image":          d.optional(d.text(&c.Image)),
			"system_packages":     d.refused(noBuild),
			"system_dependencies": d.refused(noBuild),
			"python_packages":     d.optional(d.dockerPackages),
			"shm_size_mb":         d.optional(d.megabytes(&c.SharedMemory)),
			"resource_limits":     d.optional(func(e element) { d.object(e, "a map such as {memory_mb: 512}", limits) }),
			"env":                 d.optional(d.env(&env)),
			"env_vars":            d.optional(d.env(&env)),
			"security":            d.optional(d.noEffect("a worker in a container has no capabilities and gets no new ones, and runs as the user of its supervisor")),
			"volumes": d.optional(d.list(func(_ int, e element) {
				m, readOnly := Mount{}, false
				d.object(e, "a map such as {host_path: /models, container_path: /models}", fields{
					"host_path": d.text(&m.Host), "container_path": d.text(&m.Path), "read_only": d.optional(d.boolean(&readOnly)),
				})
				m.Write = !readOnly
				c.Mounts = append(c.Mounts, m)
			})),
		}
		for name, decode := range limits {
			known[name] = decode
		}
		if d.object(e, "a map such as {base_image: python:3.12}", known) == nil {
			return
		}
		if c.Image == "" {
			c.Image = "docker.io/library/python:" + orDefault(version, "3.11") + "-slim"
		}
		n.Container, n.dockerEnv = c, env
	}
}

func orDefault(text, other string) string {
	if text == "" {
		return other
	}
	return text
}

// dockerLimits returns the fields of the limits of a container.
func (d *decoder) dockerLimits(c *Container) fields {
	return fields{
		"memory_mb":   d.optional(d.megabytes(&c.Memory)),
		"cpu_cores":   d.optional(d.cpus(&c.CPUs)),
		"gpu_devices": d.refused("gophersnake gives containers no GPU yet; leave it out"),
	}
}

// dockerPackages decodes Python packages to install in an image. The one that RemoteMedia's own
// workers need is not needed here.
func (d *decoder) dockerPackages(e element) {
	var packages []string
	d.texts(&packages)(e)
	packages = slices.DeleteFunc(packages, func(name string) bool { return strings.HasPrefix(name, "iceoryx2") })
	if len(packages) > 0 {
		d.problem(e.path, noBuild)
	}
}

// megabytes returns a decodeFunc for a number of megabytes, stored in bytes.
func (d *decoder) megabytes(dst *int64) decodeFunc {
	return func(e element) {
		var n int
		if d.atLeastOne(&n)(e); n < 0 {
			d.problem(e.path, "must be at least 1")
			n = 0
		}
		*dst = int64(n) << 20
	}
}

// checkContainer checks the container of a node, and the fields that it cannot have.
func checkContainer(r *report, at string, n *Node) {
	c := n.Container
	if c == nil {
		return
	}
	inside := at + ".container"
	switch {
	case c.Image == "":
		r.problem(inside+".image", "is required")
	case strings.HasPrefix(c.Image, "-") || strings.ContainsAny(c.Image, " \t\r\n\x00"):
		r.problem(inside+".image", "%q cannot be the name of an image", shorten(c.Image))
	}
	if c.Memory != 0 && c.Memory < minMemory {
		r.problem(inside+".memory", "must be at least %s", minMemoryText)
	}
	if c.Python == "" || strings.HasPrefix(c.Python, "-") || strings.ContainsAny(c.Python, "\r\n\x00") {
		r.problem(inside+".python", "must be an interpreter in the image, such as %s", defaultPython)
	}
	for _, m := range c.Mounts {
		if !path.IsAbs(m.Path) || m.Host == "" || strings.ContainsAny(m.Host+m.Path, ":,\r\n\x00") {
			r.problem(inside+".mounts", "%q cannot be mounted on %q: the path in the container must be absolute, and none may have a colon or a comma", shorten(m.Host), shorten(m.Path))
		}
	}
	switch {
	case n.Wasm != nil || n.Command != nil:
		r.problem(inside, "a module of WebAssembly or a command does not run in a container; leave it out")
	case n.Isolation != nil:
		r.problem(at+".isolation", "cannot be combined with container, whose boundaries are podman's")
	case n.Workers.ForkServer:
		r.problem(at+".workers.fork_server", "cannot be combined with container: each worker has its own")
	case len(n.Requirements) > 0 || n.Interpreter != "":
		r.problem(at, "the image has the interpreter and the packages of the node; leave requirements and interpreter out")
	}
}

// Host says on which machines a node runs: that with a name, or those with a label. One of the
// fields is set.
type Host struct {
	// Machine is the name of a machine.
	Machine string
	// Label is the name of a label, for machines with any value of it, or name=value.
	Label string
}

// String returns the host as errors name it.
func (h Host) String() string {
	if h.Machine != "" {
		return "the machine " + h.Machine
	}
	return "a machine with the label " + h.Label
}

// Matches reports whether a machine with a name and labels is one of the host's.
func (h Host) Matches(name string, labels map[string]string) bool {
	if h.Machine != "" {
		return h.Machine == name
	}
	key, want, isExact := strings.Cut(h.Label, "=")
	value, ok := labels[key]
	return ok && (!isExact || value == want)
}

// host returns a decodeFunc for a host: the name of a machine, or a map with a label.
func (d *decoder) host(dst **Host) decodeFunc {
	return func(e element) {
		resolved, ok := d.resolve(e)
		if ok && resolved.node.Kind == yaml.ScalarNode && resolved.node.Value == "" {
			return // RemoteMedia writes an empty one for none
		}
		h := new(Host)
		*dst = h
		if ok && resolved.node.Kind == yaml.ScalarNode {
			d.text(&h.Machine)(e)
			return
		}
		d.object(e, "the name of a machine, or a map such as {label: gpu}", fields{
			"machine": d.text(&h.Machine),
			"label":   d.text(&h.Label),
		})
	}
}

var (
	machineText = regexp.MustCompile(`^[^\s:]+$`)
	labelText   = regexp.MustCompile(`^[^\s=]+(=[^\r\n]*)?$`)
)

func checkHost(r *report, path string, h *Host) {
	switch {
	case h == nil:
	case (h.Machine == "") == (h.Label == ""):
		r.problem(path, "takes the name of a machine, or a label")
	case h.Machine != "" && !machineText.MatchString(h.Machine):
		r.problem(path, "%q is not the name of a machine; machines are found by their names or labels, not by addresses: write host: gpu-box, or host: {label: gpu}", shorten(h.Machine))
	case h.Label != "" && !labelText.MatchString(h.Label):
		r.problem(path+".label", "%q is no label; write the name of one, or name=value", shorten(h.Label))
	}
}
