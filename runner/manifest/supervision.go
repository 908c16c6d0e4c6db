package manifest

import (
	"time"

	"go.yaml.in/yaml/v3"
)

const (
	maxWorkers    = 1024
	minMemory     = 16 << 20 // an interpreter alone takes about that
	minMemoryText = "16MiB"
	minOpenFiles  = 64 // an interpreter with a library or two has some 20
	openFilesText = "must be at least 64: an interpreter and its libraries take some themselves"
)

// workers reads a number of workers, or all that there is to say of them.
func (d *decoder) workers(dst *Workers) reader {
	return func(at place) {
		at, ok := d.follow(at)
		if !ok {
			return
		}
		if at.node.Kind != yaml.MappingNode {
			d.integer(&dst.Max)(at)
			dst.Min = dst.Max
			return
		}
		given := d.object(at, "a map", fields{
			"min":          d.integer(&dst.Min),
			"max":          d.integer(&dst.Max),
			"spare":        d.integer(&dst.Spare),
			"scale_after":  d.duration(&dst.ScaleAfter, orZero),
			"idle_timeout": d.duration(&dst.IdleTimeout, orNone),
			"max_age":      d.duration(&dst.MaxAge, orNone),
			"max_calls":    d.count(&dst.MaxCalls),
			"fork_server":  d.flag(&dst.ForkServer),
		})
		if _, ok := given["max"]; !ok {
			dst.Max = max(dst.Max, dst.Min)
		}
	}
}

// limits reads what bounds a node's workers and its queue.
func (d *decoder) limits(dst *Limits) reader {
	return func(at place) {
		d.object(at, "a map such as {memory: 512MiB}", fields{
			"memory":        d.memory(&dst.Memory),
			"resident":      d.memory(&dst.Resident),
			"resident_soft": d.memory(&dst.ResidentSoft),
			"cpu_time":      d.duration(&dst.CPUTime, orNone),
			"open_files":    notZero(d, &dst.OpenFiles, d.integer(&dst.OpenFiles), openFilesText),
			"result":        notZero(d, &dst.Result, d.size(&dst.Result), "must be at least 1 byte"),
			"queue":         d.count(&dst.Queue),
			"queue_wait":    d.duration(&dst.QueueWait, orNone),
		})
	}
}

// memory reads an amount of memory.
func (d *decoder) memory(dst *int64) reader {
	return notZero(d, dst, d.size(dst), "must be at least "+minMemoryText)
}

// count reads a number from 1.
func (d *decoder) count(dst *int) reader {
	return notZero(d, dst, d.integer(dst), "must be at least 1")
}

// notZero refuses a 0 where that would mean no bound at all: nobody who writes it
// means that.
func notZero[T int | int64](d *decoder, dst *T, read reader, message string) reader {
	return func(at place) {
		if read(at); *dst == 0 {
			d.at(at.path, "%s", message)
		}
	}
}

func checkWorkers(r *report, path string, w Workers) {
	switch {
	case w.Min < 1 || w.Max < 1:
		r.at(path, "must be at least 1")
	case w.Min > w.Max:
		r.at(path, "min %d is more than max %d", w.Min, w.Max)
	case w.Max > maxWorkers:
		r.at(path, "must be at most %d", maxWorkers)
	}
	if w.Spare < 0 || w.Spare > maxWorkers {
		r.at(path+".spare", "must be between 0 and %d", maxWorkers)
	}
	notNegative(r, path+".scale_after", w.ScaleAfter)
	notNegative(r, path+".idle_timeout", w.IdleTimeout)
	notNegative(r, path+".max_age", w.MaxAge)
	if w.MaxCalls < 0 {
		r.at(path+".max_calls", "must be at least 1")
	}
}

func checkLimits(r *report, path string, l Limits) {
	for _, memory := range []struct {
		name  string
		bytes int64
	}{{"memory", l.Memory}, {"resident", l.Resident}, {"resident_soft", l.ResidentSoft}} {
		if memory.bytes != 0 && memory.bytes < minMemory {
			r.at(path+"."+memory.name, "must be at least %s", minMemoryText)
		}
	}
	if l.Resident > 0 && l.ResidentSoft > l.Resident {
		r.at(path+".resident_soft", "is more than resident: a worker would be ended before it could be replaced")
	}
	notNegative(r, path+".cpu_time", l.CPUTime)
	if l.OpenFiles != 0 && l.OpenFiles < minOpenFiles {
		r.at(path+".open_files", openFilesText)
	}
	if l.Result < 0 {
		r.at(path+".result", "must be at least 1 byte")
	}
	if l.Queue < 0 {
		r.at(path+".queue", "must be at least 1")
	}
	notNegative(r, path+".queue_wait", l.QueueWait)
}

func notNegative(r *report, path string, d time.Duration) {
	if d < 0 {
		r.at(path, "must not be negative")
	}
}
