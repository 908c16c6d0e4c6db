package input

import (
	"path"
	"slices"
	"strings"

	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/failure"
	"github.com/gophersnake/gophersnake/runner"
)

// ObjectsHelp describes the inputs that [WithObjects] adds.
const ObjectsHelp = `Besides, objects:BUCKET/NAME is an object in a bucket of the NATS servers, objects:BUCKET/PREFIX* is
each object whose name begins with PREFIX, and objects:BUCKET each one of the bucket. The extension
of the name says how to read it, as that of a file.`

// objectsPrefix begins an argument that names objects.
const objectsPrefix = "objects:"

// Bucket has objects that can be inputs. Its methods may be called concurrently.
type Bucket interface {
	// Names returns the names of all objects.
	Names() ([]string, error)
	// Read returns the content of an object.
	Read(name string) ([]byte, error)
}

// Option extends what [Resolve] takes for an input.
type Option func(*resolver)

// WithObjects makes the objects of buckets inputs; see [ObjectsHelp]. Open is called once for each
// argument that names some.
func WithObjects(open func(bucket string) (Bucket, error)) Option {
	return func(r *resolver) { r.open = open }
}

// addObjects adds the objects that the rest of an argument names, in the order of their names.
func (r *resolver) addObjects(argument, rest string) error {
	bucket, name, isSome := strings.Cut(rest, "/")
	if bucket == "" || isSome && name == "" {
		return failure.Usagef("the input %s names no objects: it is objects:BUCKET, objects:BUCKET/NAME or objects:BUCKET/PREFIX*", argument)
	}
	from, err := r.open(bucket)
	if err != nil {
		return err
	}
	prefix, isPattern := strings.CutSuffix(name, "*")
	if isSome && !isPattern {
		return r.addObject(from, bucket, name)
	}
	names, err := from.Names()
	if err != nil {
		return err
	}
	slices.Sort(names)
	names = slices.DeleteFunc(names, func(name string) bool { return !strings.HasPrefix(name, prefix) })
	if len(names) == 0 {
		return runner.NewError(runner.KindIO, "no object matches the input "+argument).WithHint("nats object ls " + bucket + " lists the objects")
	}
	r.set.Many = true
	for _, name := range names {
		if err := r.addObject(from, bucket, name); err != nil {
			return err
		}
	}
	return nil
}

// addObject adds an object that is read as its extension says, when its turn comes.
func (r *resolver) addObject(from Bucket, bucket, name string) error {
	full := objectsPrefix + bucket + "/" + name
	if strings.EqualFold(path.Ext(name), ".jsonl") {
		data, err := from.Read(name)
		if err != nil {
			return err
		}
		return r.addLinesOf(full, data)
	}
	r.add(full, stemOf(name), func() (any, error) {
		data, err := from.Read(name)
		if err != nil {
			return nil, err
		}
		return r.decodeFile(full, data)
	})
	return nil
}
