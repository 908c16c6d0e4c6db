package pyenv

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
)

// answersFormat changes where old answers lack something.
const answersFormat = 1

// identity tells whether an interpreter is still the one that answered.
type identity struct {
	Format   int    `json:"format"`
	Path     string `json:"path"`
	Resolved string `json:"resolved"`
	Size     int64  `json:"size"`
	Modified int64  `json:"modified"`
}

func identify(path string) (identity, error) {
	resolved, err := filepath.EvalSymlinks(path)
	if err != nil {
		return identity{}, err
	}
	info, err := os.Stat(resolved)
	if err != nil {
		return identity{}, err
	}
	return identity{answersFormat, path, resolved, info.Size(), info.ModTime().UnixNano()}, nil
}

// answerFile is what is kept of an interpreter's answer.
type answerFile struct {
	Of     identity    `json:"of"`
	Answer Interpreter `json:"answer"`
}

func answerPath(cache string, of identity) string {
	sum := sha256.Sum256([]byte(of.Path))
	return filepath.Join(cache, "interpreters", hex.EncodeToString(sum[:10])+".json")
}

// readAnswer returns the kept answer. One that cannot be read is as good as none.
func readAnswer(cache string, of identity) (Interpreter, bool) {
	if cache == "" {
		return Interpreter{}, false
	}
	content, err := os.ReadFile(answerPath(cache, of))
	if err != nil {
		return Interpreter{}, false
	}
	var kept answerFile
	if json.Unmarshal(content, &kept) != nil || kept.Of != of || kept.Answer.Path != of.Path {
		return Interpreter{}, false
	}
	return kept.Answer, true
}

// writeAnswer keeps an answer. Where it cannot, the interpreter is asked again.
func writeAnswer(cache string, of identity, found Interpreter) {
	if cache == "" {
		return
	}
	path := answerPath(cache, of)
	content, err := json.Marshal(answerFile{of, found})
	if err != nil || os.MkdirAll(filepath.Dir(path), 0o777) != nil {
		return
	}
	_ = writeFile(path, content)
}
