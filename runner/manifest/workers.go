package manifest

import (
	"time"

	"go.yaml.in/yaml/v3"
)

const (
	maxWorkers    = 1024
	maxThreads    = 256
	minMemory     = 16 << 20 // an interpreter alone needs about this much
	minMemoryText = "16MiB"
	minOpenFiles  = 64 // an interpreter with a library or two has about 20
	openFilesText = "must be at least 64: the interpreter and its libraries need some themselves"
	minThreads    = 8 // an interpreter has two or three
	threadsText   = "must be at least 8: the interpreter and its libraries need some themselves"
)

// workers returns a decodeFunc for a number of workers, or a map of their settings.
func (d *decoder) workers(dst *Workers) decodeFunc {
	return func(e element) {
		e, ok := d.resolve(e)
		if !ok {
			return
		}
		if e.node.Kind != yaml.MappingNode {
			d.integer(&dst.Max)(e)
			dst.Min = dst.Max
			return
		}
		given := d.object(e, "a map", fields{
			"min":          d.integer(&dst.Min),
			"max":          d.integer(&dst.Max),
			"spare":        d.integer(&dst.Spare),
			"scale_after":  d.duration(&dst.ScaleAfter, orZero),
			"idle_timeout": d.duration(&dst.IdleTimeout, orNone),
			"max_age":      d.duration(&dst.MaxAge, orNone),
			"max_calls":    d.atLeastOne(&dst.MaxCalls),
			"fork_server":  d.boolean(&dst.ForkServer),
			"threads":      d.atLeastOne(&dst.Threads),
		})
		if _, ok := given["max"]; !ok {
			dst.Max = max(dst.Max, dst.Min)
		}
	}
}

// limits returns a decodeFunc for the limits of a node's workers and of its queue.
func (d *decoder) limits(dst *Limits) decodeFunc {
	return func(e element) {
		d.object(e, "a map such as {memory: 512MiB}", fields{
			"memory":        d.memory(&dst.Memory),
			"resident":      d.memory(&dst.Resident),
			"resident_soft": d.memory(&dst.ResidentSoft),
			"cpu_time":      d.duration(&dst.CPUTime, orNone),
			"open_files":    notZero(d, &dst.OpenFiles, d.integer(&dst.OpenFiles), openFilesText),
			"threads":       notZero(d, &dst.Threads, d.integer(&dst.Threads), threadsText),
			"result":        notZero(d, &dst.Result, d.size(&dst.Result), "must be at least 1 byte"),
			"queue":         d.atLeastOne(&dst.Queue),
			"queue_wait":    d.duration(&dst.QueueWait, orNone),
		})
	}
}

// memory returns a decodeFunc for an amount of memory.
func (d *decoder) memory(dst *int64) decodeFunc {
	return notZero(d, dst, d.size(dst), "must be at least "+minMemoryText)
}

func checkWorkers(r *report, path string, w Workers) {
	switch {
	case w.Min < 1 || w.Max < 1:
		r.problem(path, "must be at least 1")
	case w.Min > w.Max:
		r.problem(path, "min %d is more than max %d", w.Min, w.Max)
	case w.Max > maxWorkers:
		r.problem(path, "must be at most %d", maxWorkers)
	}
	if w.Spare < 0 || w.Spare > maxWorkers {
		r.problem(path+".spare", "must be between 0 and %d", maxWorkers)
	}
	checkNotNegative(r, path+".scale_after", w.ScaleAfter)
	checkNotNegative(r, path+".idle_timeout", w.IdleTimeout)
	checkNotNegative(r, path+".max_age", w.MaxAge)
	if w.MaxCalls < 0 {
		r.problem(path+".max_calls", "must be at least 1")
	}
	if w.Threads < 0 || w.Threads > maxThreads {
		r.problem(path+".threads", "must be between 1 and %d", maxThreads)
	}
}

func checkLimits(r *report, path string, l Limits) {
	for _, memory := range []struct {
		name  string
		bytes int64
	}{{"memory", l.Memory}, {"resident", l.Resident}, {"resident_soft", l.ResidentSoft}} {
		if memory.bytes != 0 && memory.bytes < minMemory {
			r.problem(path+"."+memory.name, "must be at least %s", minMemoryText)
		}
	}
	if l.Resident > 0 && l.ResidentSoft > l.Resident {
		r.problem(path+".resident_soft", "is more than resident: a worker would be killed before it could be replaced")
	}
	checkNotNegative(r, path+".cpu_time", l.CPUTime)
	if l.OpenFiles != 0 && l.OpenFiles < minOpenFiles {
		r.problem(path+".open_files", openFilesText)
	}
	if l.Threads != 0 && l.Threads < minThreads {
		r.problem(path+".threads", threadsText)
	}
	if l.Result < 0 {
		r.problem(path+".result", "must be at least 1 byte")
	}
	if l.Queue < 0 {
		r.problem(path+".queue", "must be at least 1")
	}
	checkNotNegative(r, path+".queue_wait", l.QueueWait)
}

func checkNotNegative(r *report, path string, d time.Duration) {
	if d < 0 {
		r.problem(path, "must not be negative")
	}
}
