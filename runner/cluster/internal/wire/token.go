package wire

import (
	"fmt"
	"strconv"
	"strings"
)

// Token makes any name a token of a subject. Letters, digits, _ and - stay; each other byte
// becomes = and two hexadecimal digits, so that different names have different tokens.
func Token(name string) string {
	var b strings.Builder
	for _, c := range []byte(name) {
		if IsPlain(c) {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "=%02x", c)
		}
	}
	if b.Len() == 0 {
		return "="
	}
	return b.String()
}

// Untoken returns the name of a token.
func Untoken(token string) string {
	if token == "=" {
		return ""
	}
	var b strings.Builder
	for i := 0; i < len(token); i++ {
		if token[i] == '=' && i+2 < len(token) {
			if c, err := strconv.ParseUint(token[i+1:i+3], 16, 8); err == nil {
				b.WriteByte(byte(c))
				i += 2
				continue
			}
		}
		b.WriteByte(token[i])
	}
	return b.String()
}

// IsPlain reports whether a byte of a name stays in its token.
func IsPlain(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-'
}
