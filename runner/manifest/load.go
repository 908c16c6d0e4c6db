package manifest

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// MaxSize is the largest manifest that is read, in bytes.
const MaxSize = 8 << 20

// folderFiles are the manifests looked for in a folder; the first one counts.
var folderFiles = []string{"pipeline.yaml", "pipeline.yml", "pipeline.json"}

// Load reads the manifest at path: a YAML or JSON file, or a folder that holds a
// pipeline.yaml, pipeline.yml or pipeline.json. A manifest that is wrong is an
// [*Errors]; one that cannot be read is an error of the file system.
func Load(path string) (*Pipeline, error) {
	path, err := find(path)
	if err != nil {
		return nil, fmt.Errorf("read the pipeline: %w", err)
	}
	data, err := readFile(path, MaxSize)
	if err != nil {
		return nil, fmt.Errorf("read the pipeline: %w", err)
	}
	return Parse(path, data, filepath.Dir(path))
}

// find returns the manifest's file, where path is a folder that holds it.
func find(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	if !info.IsDir() {
		return path, nil
	}
	for _, name := range folderFiles {
		file := filepath.Join(path, name)
		if _, err := os.Stat(file); err == nil {
			return file, nil
		} else if !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
	}
	return "", &fs.PathError{
		Op: "find " + strings.Join(folderFiles, ", ") + " in", Path: path, Err: fs.ErrNotExist,
	}
}

// readFile reads a file up to one byte more than its largest size, so that the
// size is seen to be exceeded and even an endless file ends.
func readFile(path string, maxSize int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxSize+1))
}

// Parse reads a manifest from data. The name stands for the file in messages, and
// its extension .json asks for JSON; base is the folder that relative paths start
// from, the working directory where it is empty. The Python and requirements
// files that the manifest names must exist. The error is an [*Errors].
func Parse(name string, data []byte, base string) (*Pipeline, error) {
	r := newReport(name)
	base, err := filepath.Abs(base)
	if err != nil { // the working directory is gone
		r.add(Problem{File: name, Message: err.Error()})
		return nil, r.err()
	}
	root, fault := parseDocument(name, data)
	if fault != nil {
		r.add(Problem{File: name, Line: fault.Line, Column: fault.Column, Message: fault.message})
		return nil, &Errors{Problems: r.problems, Syntax: true}
	}
	d := &decoder{report: r, base: base}
	p := d.pipeline(root)
	if p == nil {
		return nil, r.err()
	}
	p.File, p.Base = name, base
	p.Name = pipelineName(p)
	p.check(r)
	if err := r.err(); err != nil {
		return nil, err
	}
	return p, nil
}

func pipelineName(p *Pipeline) string {
	if name, _ := p.Metadata["name"].(string); name != "" {
		return name
	}
	file := filepath.Base(p.File)
	return strings.TrimSuffix(file, filepath.Ext(file))
}
