// Package page has the files of the page that package serve shows in browsers: HTML, style
// sheets and JavaScript modules, which need no build step and load nothing from elsewhere.
package page

import (
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"net/http"
	"path"
	"slices"
	"strings"
	"sync"
)

//go:embed static
var static embed.FS

// file is a file with what its answers say about it.
type file struct {
	content     []byte
	contentType string
	tag         string
}

// policy is the Content-Security-Policy of the page. Its scripts and styles are files of its own.
// The results of calls are shown as blobs.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; " +
	"img-src 'self' blob:; media-src 'self' blob:; worker-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// contentTypes are those of the files, by extension. Tables of the system may say otherwise.
var contentTypes = map[string]string{
	".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8",
	".css": "text/css; charset=utf-8", ".svg": "image/svg+xml",
}

// files returns all files, by their names.
var files = sync.OnceValue(func() map[string]file {
	all := make(map[string]file)
	entries, err := static.ReadDir("static")
	if err != nil {
		panic(err) // the folder is embedded
	}
	for _, e := range entries {
		content, err := static.ReadFile("static/" + e.Name())
		if err != nil {
			panic(err)
		}
		sum := sha256.Sum256(content)
		all[e.Name()] = file{content, contentTypes[path.Ext(e.Name())], `"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`}
	}
	return all
})

// Serve answers with a file of the page, or with the page itself if the name is empty. It returns
// false if there is no such file, and has not answered then.
func Serve(w http.ResponseWriter, req *http.Request, name string) bool {
	if name == "" {
		name = "index.html"
	}
	f, ok := files()[name]
	if !ok {
		return false
	}
	header := w.Header()
	header.Set("Content-Security-Policy", policy)
	header.Set("Permissions-Policy", "microphone=(self), camera=(), geolocation=()")
	header.Set("Referrer-Policy", "no-referrer")
	header.Set("Cross-Origin-Opener-Policy", "same-origin")
	header.Set("Content-Type", f.contentType)
	header.Set("Cache-Control", "no-cache") // a browser may keep it, but asks whether it has changed
	header.Set("ETag", f.tag)
	known := strings.FieldsFunc(req.Header.Get("If-None-Match"), func(r rune) bool { return r == ',' || r == ' ' })
	if slices.Contains(known, f.tag) {
		w.WriteHeader(http.StatusNotModified)
		return true
	}
	_, _ = w.Write(f.content) // fails only if the client has left
	return true
}
