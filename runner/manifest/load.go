package manifest

import (
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// Schema is the JSON Schema (draft 2020-12) of manifests, for editors and other
// programs. It describes the shape of a manifest. [Parse] checks more than that, and
// its messages are clearer. Do not modify it.
//
//go:embed schema.json
var Schema []byte

// MaxSize is the size of the largest manifest that [Load] and [Parse] accept, in
// bytes.
const MaxSize = 8 << 20

// folderFiles are the names of a manifest that is found by its folder, in the order
// of the search.
var folderFiles = []string{"pipeline.yaml", "pipeline.yml", "pipeline.json"}

// Load reads the manifest at path: a YAML or JSON file, or a folder with a
// pipeline.yaml, pipeline.yml or pipeline.json. The error is an [*Errors] if the
// manifest is invalid, or wraps the file system's error if it cannot be read.
func Load(path string) (*Pipeline, error) {
	path, err := findManifest(path, os.Stat, filepath.Join)
	if err != nil {
		return nil, fmt.Errorf("read the pipeline: %w", err)
	}
	data, err := folder{}.read(path, MaxSize)
	if err != nil {
		return nil, fmt.Errorf("read the pipeline: %w", err)
	}
	return Parse(path, data, filepath.Dir(path))
}

// findManifest returns the name, or that of the manifest's file if it is the name of a folder.
func findManifest(name string, stat func(string) (fs.FileInfo, error), join func(...string) string) (string, error) {
	info, err := stat(name)
	if err != nil {
		return "", err
	}
	if !info.IsDir() {
		return name, nil
	}
	for _, each := range folderFiles {
		file := join(name, each)
		if _, err := stat(file); err == nil {
			return file, nil
		} else if !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
	}
	return "", &fs.PathError{
		Op: "find " + strings.Join(folderFiles, ", ") + " in", Path: name, Err: fs.ErrNotExist,
	}
}

// LoadFS reads the manifest with the given name in a file system, for instance an
// [embed.FS]: a YAML or JSON file, or a folder with a pipeline.yaml, pipeline.yml or
// pipeline.json. The files that the manifest names must be in the file system, too, unless
// their paths are absolute. Errors are as those of [Load].
func LoadFS(files fs.FS, name string) (*Pipeline, error) {
	name, err := findManifest(name, func(name string) (fs.FileInfo, error) { return fs.Stat(files, name) }, path.Join)
	if err != nil {
		return nil, fmt.Errorf("read the pipeline: %w", err)
	}
	base := folder{files, path.Dir(name)}
	data, err := base.read(path.Base(name), MaxSize)
	if err != nil {
		return nil, fmt.Errorf("read the pipeline: %w", err)
	}
	return parse(name, data, base)
}

// Parse reads a manifest from data. name is the file's name in messages; if its
// extension is .json, data must be JSON. base is the folder that relative paths start
// from; empty means the working directory. The Python and requirements files that the
// manifest names must exist. The error is an [*Errors].
func Parse(name string, data []byte, base string) (*Pipeline, error) {
	base, err := filepath.Abs(base)
	if err != nil { // the working directory was removed
		r := newReport(name)
		r.add(Problem{File: name, Message: err.Error()})
		return nil, r.err()
	}
	return parse(name, data, folder{path: base})
}

func parse(name string, data []byte, base folder) (*Pipeline, error) {
	r := newReport(name)
	root, invalid := parseDocument(name, data)
	if invalid != nil {
		r.add(Problem{File: name, Line: invalid.Line, Column: invalid.Column, Message: invalid.message})
		return nil, &Errors{Problems: r.problems, Syntax: true}
	}
	d := &decoder{report: r, base: base}
	p := d.pipeline(root)
	if p == nil {
		return nil, r.err()
	}
	p.File, p.Base, p.Files = name, base.path, base.files
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
