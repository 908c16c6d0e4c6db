package main

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
)

const (
	module       = "github.com/gophersnake/gophersnake"
	recorderPath = "scripts/hops/recorder"
)

// insertion is text to insert into a file at an offset.
type insertion struct {
	offset int
	text   string
}

// sourceFiles lists the files of a checkout with an extension, except tests, relative to the
// checkout. It leaves out folders that begin with a dot, testdata, tests and scripts.
func sourceFiles(dir, ext string) ([]string, error) {
	var files []string
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := entry.Name()
		if entry.IsDir() {
			if path != dir && (strings.HasPrefix(name, ".") || name == "testdata" || name == "tests" || name == "scripts") {
				return fs.SkipDir
			}
			return nil
		}
		isTest := strings.HasSuffix(name, "_test.go") || strings.HasPrefix(name, "test_")
		if filepath.Ext(name) != ext || isTest {
			return nil
		}
		relative, err := filepath.Rel(dir, path)
		files = append(files, filepath.ToSlash(relative))
		return err
	})
	return files, err
}

// functionsOf returns the functions of a Go file, and the body of each.
func functionsOf(set *token.FileSet, file *ast.File, name string) ([]function, []*ast.BlockStmt) {
	var found []function
	var bodies []*ast.BlockStmt
	add := func(node ast.Node, body *ast.BlockStmt, label string, isLiteral bool) {
		first, last := set.Position(node.Pos()).Line, set.Position(node.End()).Line
		found = append(found, function{File: name, Name: label, Line: first, Lines: last - first + 1, isLiteral: isLiteral})
		bodies = append(bodies, body)
	}
	for _, decl := range file.Decls {
		label := "init"
		if f, ok := decl.(*ast.FuncDecl); ok {
			if f.Body == nil {
				continue
			}
			label = funcName(f)
			add(f, f.Body, label, false)
		}
		literals := 0
		ast.Inspect(decl, func(n ast.Node) bool {
			if lit, ok := n.(*ast.FuncLit); ok {
				literals++
				add(lit, lit.Body, fmt.Sprintf("%s.func%d", label, literals), true)
			}
			return true
		})
	}
	return found, bodies
}

// funcName returns the name of a function, with its receiver's type if it is a method.
func funcName(f *ast.FuncDecl) string {
	if f.Recv == nil || len(f.Recv.List) == 0 {
		return f.Name.Name
	}
	receiver, star := f.Recv.List[0].Type, ""
	if pointer, ok := receiver.(*ast.StarExpr); ok {
		receiver, star = pointer.X, "*"
	}
	switch generic := receiver.(type) {
	case *ast.IndexExpr:
		receiver = generic.X
	case *ast.IndexListExpr:
		receiver = generic.X
	}
	if name, ok := receiver.(*ast.Ident); ok {
		return fmt.Sprintf("(%s%s).%s", star, name.Name, f.Name.Name)
	}
	return f.Name.Name
}

// instrument returns the text of a Go file with a call of the recorder at the start of each
// function, and the functions, which are numbered from first. Line numbers do not change.
func instrument(name string, source []byte, first int) ([]byte, []function, error) {
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, name, source, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return nil, nil, err
	}
	functions, bodies := functionsOf(set, file, name)
	if len(functions) == 0 {
		return source, nil, nil
	}
	offset := func(pos token.Pos) int { return set.Position(pos).Offset }
	insertions := []insertion{{offset(file.Name.End()), fmt.Sprintf("; import hopsrecorder %q", module+"/"+recorderPath)}}
	for i, body := range bodies {
		insertions = append(insertions, insertion{offset(body.Lbrace) + 1, fmt.Sprintf("defer hopsrecorder.Enter(%d)();", first+i)})
	}
	sort.Slice(insertions, func(i, j int) bool { return insertions[i].offset < insertions[j].offset })
	var out []byte
	done := 0
	for _, each := range insertions {
		out = append(out, source[done:each.offset]...)
		out = append(out, each.text...)
		done = each.offset
	}
	return append(out, source[done:]...), functions, nil
}

// overlay writes instrumented copies of the Go files of the checkout dir to work, and a file
// for go build -overlay. It returns the path of that file, and the functions. The traced
// program and its recorder are this command's own, not those of the checkout.
func overlay(dir, work string) (string, []function, error) {
	replace := map[string]string{}
	put := func(name string, text []byte) error {
		path := filepath.Join(work, "overlay", filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
		replace[filepath.Join(dir, filepath.FromSlash(name))] = path
		return os.WriteFile(path, text, 0o600)
	}
	files, err := sourceFiles(dir, ".go")
	if err != nil {
		return "", nil, err
	}
	var functions []function
	for _, name := range files {
		source, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(name)))
		if err != nil {
			return "", nil, err
		}
		text, found, err := instrument(name, source, len(functions))
		if err != nil {
			return "", nil, err
		}
		functions = append(functions, found...)
		if err := put(name, text); err != nil {
			return "", nil, err
		}
	}
	for _, name := range []string{"recorder/recorder.go", "program/main.go"} {
		text, err := embedded.ReadFile(name)
		if err != nil {
			return "", nil, err
		}
		if err := put("scripts/hops/"+name, text); err != nil {
			return "", nil, err
		}
	}
	list, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", nil, err
	}
	path := filepath.Join(work, "overlay.json")
	return path, functions, os.WriteFile(path, list, 0o600)
}
