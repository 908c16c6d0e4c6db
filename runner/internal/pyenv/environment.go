package pyenv

import (
	"encoding/json"
	"os"
	"path/filepath"
	"time"
)

// Environment is a virtual environment that gophersnake made.
type Environment struct {
	// Key is the name of its folder. It follows from the interpreter and the
	// requirements.
	Key string
	Dir string
	// Python is the environment's interpreter.
	Python string
	// Requirements are the lines that it was made for, without passwords.
	Requirements []string
	// Interpreter is the one that it was made with.
	Interpreter Interpreter
	// Installer is "uv" or "pip".
	Installer string
	Created   time.Time
	LastUsed  time.Time
	// Complete says that it can be used. One that is not is being made, or is what
	// an interrupted process left.
	Complete bool
	// Size is set by [List] and [Prune]. Files that uv shares with its own cache
	// count too.
	Size int64
}

// recordName is the file that makes an environment complete. Its time of
// modification is that of the last use.
const recordName = "gophersnake.json"

// record is what the file holds.
type record struct {
	Format       int         `json:"format"`
	Key          string      `json:"key"`
	Created      time.Time   `json:"created"`
	Installer    string      `json:"installer"`
	Requirements []string    `json:"requirements"`
	Interpreter  Interpreter `json:"interpreter"`
}

// open returns the environment in a folder; it is not complete where its record is
// missing or wrong, or its interpreter is gone.
func open(cache, key string) Environment {
	dir := filepath.Join(envsDir(cache), key)
	env := Environment{Key: key, Dir: dir, Python: pythonOf(dir)}
	content, err := os.ReadFile(filepath.Join(dir, recordName))
	if err != nil {
		return env
	}
	var r record
	if json.Unmarshal(content, &r) != nil || r.Format != envFormat || r.Key != key {
		return env
	}
	env.Requirements, env.Interpreter, env.Installer, env.Created = r.Requirements, r.Interpreter, r.Installer, r.Created
	// The link dangles where the interpreter was removed.
	_, err = os.Stat(env.Python)
	env.Complete = err == nil
	return env
}

// touch notes that the environment is in use. A cache that cannot be written to
// may still be used.
func (e *Environment) touch() {
	e.LastUsed = time.Now()
	_ = os.Chtimes(filepath.Join(e.Dir, recordName), e.LastUsed, e.LastUsed)
}

// complete writes the record.
func (e *Environment) complete() error {
	content, err := json.MarshalIndent(record{
		Format: envFormat, Key: e.Key, Created: e.Created, Installer: e.Installer,
		Requirements: e.Requirements, Interpreter: e.Interpreter,
	}, "", "  ")
	if err != nil {
		return err
	}
	if err := writeFile(filepath.Join(e.Dir, recordName), append(content, '\n')); err != nil {
		return err
	}
	e.Complete = true
	return nil
}
