package generate

import (
	"go/token"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// initialisms are the words that Go writes in capitals.
var initialisms = []string{
	"api", "ascii", "cpu", "css", "dns", "eof", "gpu", "html", "http", "https", "id", "ip", "json", "ram", "rpc", "sql",
	"ssh", "tcp", "tls", "ttl", "udp", "ui", "uid", "uri", "url", "utf8", "uuid", "vm", "xml",
}

// exported returns the exported Go identifier for a name of any form: voice_activity becomes
// VoiceActivity, and 名前 becomes X名前. It may be the same for different names.
func exported(name string) string {
	words := strings.FieldsFunc(name, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) })
	var b strings.Builder
	for _, word := range words {
		if slices.Contains(initialisms, word) {
			b.WriteString(strings.ToUpper(word))
			continue
		}
		runes := []rune(word)
		runes[0] = unicode.ToUpper(runes[0])
		b.WriteString(string(runes))
	}
	if made := b.String(); token.IsExported(made) {
		return made
	}
	return "X" + b.String()
}

// namespace holds the identifiers that are taken.
type namespace map[string]bool

// add takes the identifier, or the first one with a number that is free, and returns it.
func (n namespace) add(name string) string {
	unique := name
	for i := 2; n[unique]; i++ {
		unique = name + strconv.Itoa(i)
		if last := name[len(name)-1]; last >= '0' && last <= '9' {
			unique = name + "_" + strconv.Itoa(i)
		}
	}
	n[unique] = true
	return unique
}

// PackageName returns a name as the name of a package: client if nothing of it can be used.
func PackageName(name string) string {
	made := strings.Map(func(r rune) rune {
		if r < unicode.MaxASCII && (unicode.IsLetter(r) || unicode.IsDigit(r)) {
			return unicode.ToLower(r)
		}
		return -1
	}, name)
	made = strings.TrimLeft(made, "0123456789")
	if !IsPackageName(made) {
		return "client"
	}
	return made
}

// IsPackageName reports whether a package can have this name.
func IsPackageName(name string) bool { return token.IsIdentifier(name) && name != "_" }

// fitsTag reports whether a key can be the name in the tag of a field.
func fitsTag(key string) bool {
	return key != "" && !strings.Contains(key, ",") && strings.ToValidUTF8(key, "") == key
}

// tag returns the tag of a field in Go syntax.
func tag(key string, omitted bool) string {
	options := ""
	switch {
	case omitted:
		options = ",omitzero"
	case key == "-":
		options = ","
	}
	text := "json:" + strconv.Quote(key+options)
	if strconv.CanBackquote(text) {
		return "`" + text + "`"
	}
	return strconv.Quote(text)
}
