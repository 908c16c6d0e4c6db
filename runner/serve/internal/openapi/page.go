package openapi

import (
	"embed"
	"io/fs"
)

//go:embed page
var files embed.FS

// Page has the files of the page that shows a document: index.html, docs.js and docs.css.
var Page, _ = fs.Sub(files, "page") // fails only for an invalid name
