package main

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
)

//go:embed functions.py
var functionsProgram string

// function is a function of the project: a declared function, a method or a Go literal.
type function struct {
	File  string // relative to the checkout, with slashes
	Name  string // with the receiver or class; a literal has its function's name and a number
	Line  int    // the first one
	Lines int

	isLiteral bool
}

func (f function) language() string {
	if strings.HasSuffix(f.File, ".py") {
		return "python"
	}
	return "go"
}

// lengths are statistics of the lengths of functions, in lines.
type lengths struct {
	Functions int    `json:"functions"`
	Longest   int    `json:"longest"`
	P90       int    `json:"p90"`
	Name      string `json:"name"` // of the longest
}

// measure returns the statistics of functions. A literal counts only as lines of the function
// that contains it.
func measure(functions []function) lengths {
	var declared []function
	for _, f := range functions {
		if !f.isLiteral {
			declared = append(declared, f)
		}
	}
	if len(declared) == 0 {
		return lengths{}
	}
	sort.SliceStable(declared, func(i, j int) bool { return declared[i].Lines < declared[j].Lines })
	last := declared[len(declared)-1]
	return lengths{
		Functions: len(declared),
		Longest:   last.Lines,
		P90:       declared[(len(declared)*9+9)/10-1].Lines, // the nearest rank
		Name:      last.File + " " + last.Name,
	}
}

// goFunctions returns the functions of Go files of the checkout.
func goFunctions(dir string, files []string) ([]function, error) {
	var all []function
	for _, name := range files {
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, filepath.Join(dir, filepath.FromSlash(name)), nil, parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		found, _ := functionsOf(set, file, name)
		all = append(all, found...)
	}
	return all, nil
}

// pythonFunctions returns the functions of Python files of the checkout. It uses the parser
// of the interpreter.
func pythonFunctions(python, dir string, files []string) ([]function, error) {
	command := exec.Command(python, "-c", functionsProgram)
	command.Dir = dir
	command.Stdin = strings.NewReader(strings.Join(files, "\n"))
	command.Stderr = os.Stderr
	out, err := command.Output()
	if err != nil {
		return nil, fmt.Errorf("parse the Python files: %w", err)
	}
	var found []function
	if err := json.Unmarshal(out, &found); err != nil {
		return nil, fmt.Errorf("parse the Python files: %w", err)
	}
	return found, nil
}
