package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/gophersnake/gophersnake/cmd/gophersnake/examples"
	"github.com/gophersnake/gophersnake/runner"
	"github.com/gophersnake/gophersnake/runner/manifest"
)

// load reads the pipeline that an argument names: a file, a folder or a bundled
// example.
func (a *app) load(name string) (*manifest.Pipeline, error) {
	if name == "" {
		return nil, usagef("the PIPELINE is empty")
	}
	info, err := os.Stat(name)
	missing := errors.Is(err, fs.ErrNotExist)
	if missing && examples.Exists(name) {
		dir, err := a.unpack(name)
		if err != nil {
			return nil, err
		}
		return runner.Load(dir)
	}
	if missing {
		return nil, noPipeline(name)
	}
	p, failure := runner.Load(name)
	if err != nil || !info.IsDir() || !errors.Is(failure, fs.ErrNotExist) {
		return p, failure
	}
	return nil, runner.NewError(runner.KindIO, "there is no pipeline.yaml, pipeline.yml or pipeline.json in the folder "+name).
		WithHint("name the pipeline's file, or have one made: gophersnake init " + shellPath(name))
}

func noPipeline(name string) error {
	hint := fmt.Sprintf("name a file, a folder that holds a pipeline.yaml, or a bundled example (%s)", orList(examples.Names()))
	if near := nearest(name, examples.Names()); near != "" {
		hint = "did you mean the bundled example " + near + "?"
	}
	return runner.NewError(runner.KindIO, "there is no pipeline "+name).WithHint(hint)
}

// unpack puts a bundled example into the cache and returns its folder.
func (a *app) unpack(example string) (string, error) {
	cache, err := a.cache()
	if err != nil {
		return "", err
	}
	return examples.Extract(cache, example)
}

// cache returns the cache folder of the common flags.
func (a *app) cache() (string, error) { return runner.CacheDir(a.cacheDir) }
