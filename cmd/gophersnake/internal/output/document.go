package output

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/gophersnake/gophersnake/cmd/gophersnake/internal/terminal"
	"github.com/gophersnake/gophersnake/ipc"
	"github.com/gophersnake/gophersnake/runner/document"
)

// Exporter turns results into documents, which hold only what JSON can express. It
// writes media to files and puts references in their places.
type Exporter struct {
	// dir is the folder for the files.
	dir string
	// node is the node that produces the results. It is empty if a result is a map of the
	// values of several nodes.
	node string
	warn func(message string, args ...any)
	// taken are the absolute paths of files that must not be written (again).
	taken map[string]bool
}

// NewExporter returns an exporter that writes files to dir. If each result is the value of
// one node, the names of the files contain the node. The exporter calls warn for values
// that a document cannot express, and does not overwrite the inputs, which are absolute
// paths.
func NewExporter(dir, node string, warn func(message string, args ...any), inputs []string) *Exporter {
	x := &Exporter{dir: dir, node: node, warn: warn, taken: make(map[string]bool)}
	for _, file := range inputs {
		x.taken[file] = true
	}
	return x
}

// Document turns a result into a document. The names of its files are made of the stem
// and the location of the value inside the result.
func (x *Exporter) Document(stem string, result any) (any, error) {
	c := &conversion{Exporter: x, stem: stem}
	if x.node != "" {
		c.stem += "-" + x.node
	}
	doc, err := document.Converter{
		Media:     c.writeMedia,
		Table:     func(path string, t *ipc.Table) (any, error) { return newTableDocument(path, t, x.warn) },
		NonFinite: c.countNonFinite,
	}.Document(result)
	if c.nonFinite > 0 {
		x.warn("JSON cannot express NaN and infinity; they are written as null", "first", c.firstNonFinite, "count", c.nonFinite)
	}
	return doc, err
}

// conversion is the conversion of one result.
type conversion struct {
	*Exporter
	stem           string
	nonFinite      int    // the number of NaNs and infinities
	firstNonFinite string // the location of the first
}

// writeMedia writes a value at a location in the result to a file, and returns the
// reference to it.
func (c *conversion) writeMedia(path string, m document.Media) (any, error) {
	name := c.unusedFile(c.stem+fileNameOf(path), m.Extension)
	if err := writeFile(name, m.Write); err != nil {
		return nil, err
	}
	return fileReference{File: name, Media: m}, nil
}

// countNonFinite counts a NaN or an infinity.
func (c *conversion) countNonFinite(path string) {
	if c.nonFinite++; c.nonFinite == 1 {
		c.firstNonFinite = "result" + path
	}
}

// unusedFile returns the path of a file that this command has neither read nor written.
// It may exist and be overwritten.
func (c *conversion) unusedFile(stem, extension string) string {
	name := filepath.Join(c.dir, stem+extension)
	for n := 2; ; n++ {
		absolute, err := filepath.Abs(name)
		if err != nil || !c.taken[absolute] {
			c.taken[absolute] = true
			return name
		}
		name = filepath.Join(c.dir, fmt.Sprintf("%s-%d%s", stem, n, extension))
	}
}

// fileNameOf turns the location of a value in a result into a part of a file name:
// .segments[3].audio becomes -segments-3-audio.
func fileNameOf(path string) string {
	var b strings.Builder
	for _, r := range path {
		switch {
		case r == '.' || r == '[':
			b.WriteByte('-')
		case r == ']':
		case strings.ContainsRune(`/\:*?"<>|`, r) || r < ' ':
			b.WriteByte('_')
		default:
			b.WriteRune(r)
		}
	}
	if b.Len() > 120 {
		return terminal.Shorten(b.String(), 120)
	}
	return b.String()
}

// fileReference stands in a document for a value that was written to a file.
type fileReference struct {
	File string `json:"$file"`
	document.Media
}

// MarshalYAML returns the reference as people read it.
func (f fileReference) MarshalYAML() (any, error) { return f.String(), nil }

// String names the file and describes its content.
func (f fileReference) String() string { return fmt.Sprintf("%s (%s)", f.File, f.Description) }
